r"""FID, IS and the distance to a reference sampler, from sums that add up.

The state is sums in float64: any partition of the images into blocks, added in a fixed order, gives the same digits.

IS (Salimans et al. 2016) is ``exp(mean KL(p(y|x) | p(y)))`` on ten splits, split j holding the samples with index from
floor(j n / 10) to floor((j + 1) n / 10) in the order of their seeds, without shuffling; its deviation is the
population's over the splits.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torchmetrics import Metric

from amed_lightning.metrics.detector import Detection
from amed_lightning.metrics.frechet import Moments, frechet_distance
from amed_lightning.tensors import Images

NUM_SPLITS = 10


class GenerationScores(Metric):
    """Scores of a set of generated images.

    Args:
        reference: moments of the real images' features.
        num_classes: length of the detector's logits.
        total: number of images that there will be.
    """

    full_state_update = False
    count: Tensor
    feature_sum: Tensor
    feature_outer: Tensor
    split_count: Tensor
    split_probability: Tensor
    split_negative_entropy: Tensor
    squared_error: Tensor
    compared_values: Tensor

    def __init__(self, reference: Moments, num_classes: int, total: int) -> None:
        super().__init__(sync_on_compute=False)  # processes share sums through files, never through a collective
        self.reference, self.total = reference, total
        size = len(reference.mean)
        shapes = {
            "feature_sum": (size,),
            "feature_outer": (size, size),
            "split_probability": (NUM_SPLITS, num_classes),
            "split_negative_entropy": (NUM_SPLITS,),
            "squared_error": (),
        }
        for name, shape in shapes.items():
            self.add_state(name, torch.zeros(shape, dtype=torch.float64), dist_reduce_fx="sum")
        for name, shape in {"count": (), "split_count": (NUM_SPLITS,), "compared_values": ()}.items():
            self.add_state(name, torch.zeros(shape, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, detection: Detection, indices: Int[Tensor, "batch"]) -> None:
        """Add images.

        Args:
            detection: what the detector saw.
            indices: each image's number among all, from 0.

        Raises:
            ValueError: shapes that do not belong together, or an index out of range.
        """
        features, logits = detection.features.double(), detection.logits.double()
        expected = [(len(indices), len(self.reference.mean)), (len(indices), self.split_probability.shape[1])]
        if [tuple(features.shape), tuple(logits.shape)] != expected:
            raise ValueError(f"features {tuple(features.shape)} and logits {tuple(logits.shape)}, not {expected}")
        if int(indices.min()) < 0 or int(indices.max()) >= self.total:
            raise ValueError(f"an index lies outside 0 .. {self.total - 1}")
        self.count += len(features)
        self.feature_sum += features.sum(0)
        self.feature_outer += features.T @ features
        log_probability = logits.log_softmax(1)
        probability = log_probability.exp()
        bounds = torch.arange(1, NUM_SPLITS, device=indices.device) * self.total // NUM_SPLITS
        splits = torch.bucketize(indices, bounds, right=True)
        self.split_count.index_add_(0, splits, torch.ones_like(splits))
        self.split_probability.index_add_(0, splits, probability)
        self.split_negative_entropy.index_add_(0, splits, (probability * log_probability).sum(1))

    def compare(self, images: Images, reference: Images) -> None:
        """Add the distance between images in [-1, 1] and a reference sampler's from the same noise."""
        self.squared_error += (images.double() - reference.double()).square().sum()
        self.compared_values += images.numel()

    def sums(self) -> dict[str, Tensor]:
        """Return the state by name: what a block writes."""
        return {name: value for name, value in self.metric_state.items() if isinstance(value, Tensor)}

    def add(self, sums: dict[str, Tensor]) -> None:
        """Add another block's sums."""
        self.merge_state(sums)
        self._update_count += 1  # merging a mapping does not count as an update, and computing would warn

    def compute(self) -> dict[str, float]:
        """Return the scores.

        Returns:
            ``fid``; ``is`` with its ``is_deviation`` over splits; ``is_whole`` on one split; ``rmse`` to the compared
            images if any.
        """
        moments = Moments.from_sums(int(self.count), self.feature_sum, self.feature_outer)
        split_sums = (self.split_count, self.split_probability, self.split_negative_entropy)
        splits = _inception_scores(*split_sums)
        whole = _inception_scores(*(sums.sum(0, keepdim=True) for sums in split_sums))
        scores = {
            "fid": frechet_distance(self.reference, moments),
            "is": float(splits.mean()),
            "is_deviation": float(splits.std(correction=0)),
            "is_whole": float(whole[0]),
        }
        if self.compared_values:
            scores["rmse"] = float((self.squared_error / self.compared_values).sqrt())
        return scores


def _inception_scores(
    count: Int[Tensor, "splits"],
    probability: Float[Tensor, "splits classes"],
    negative_entropy: Float[Tensor, "splits"],
) -> Float[Tensor, "filled"]:
    """Return each split's score from its sums, leaving out empty splits."""
    filled = count > 0
    marginal = probability[filled] / count[filled][:, None]
    return (negative_entropy[filled] / count[filled] - torch.special.xlogy(marginal, marginal).sum(1)).exp()
