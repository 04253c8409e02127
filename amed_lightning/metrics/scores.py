r"""FID, IS and the distance to a reference sampler, from sums that add up; KID, precision and recall from features.

The state is sums in float64: any partition of the images into blocks, added in a fixed order, gives the same digits.
The sums live where the features are; scores are computed from them on the CPU.

The distance to the images of a reference sampler from the same noise is the root mean square over all pixels of all
images (RMSE), and in decibels below the range of pixels, ``20 log10(2 / RMSE)`` (PSNR).
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch import Tensor
from torchmetrics import Metric

from amed_lightning.metrics.detector import Detection
from amed_lightning.metrics.feature_metrics import FEATURE_METRICS
from amed_lightning.metrics.frechet import Moments, feature_sums, frechet_distance
from amed_lightning.metrics.inception_score import NUM_SPLITS, inception_scores, split_sums
from amed_lightning.metrics.statistics import Statistics
from amed_lightning.tensors import Images, not_finite

METRICS = ("fid", "is", *FEATURE_METRICS)
PIXEL_RANGE = 2.0


class GenerationScores(Metric):
    """Scores of a set of generated images.

    Args:
        reference: the real images.
        num_classes: length of the detector's logits.
        total: number of images that there will be.
        metrics: what to compute, of ``METRICS``; with those of ``FEATURE_METRICS`` the features are kept.
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
    features: list[Tensor]
    indices: list[Tensor]

    def __init__(
        self, reference: Statistics, num_classes: int, total: int, metrics: Sequence[str] = ("fid", "is")
    ) -> None:
        super().__init__(sync_on_compute=False)  # processes share sums through files, never through a collective
        self.reference, self.total, self.metrics = reference, total, tuple(metrics)
        self.keeps_features = not FEATURE_METRICS.keys().isdisjoint(metrics)
        size = len(reference.moments.mean)
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
        for name in ("features", "indices") if self.keeps_features else ():
            self.add_state(name, [], dist_reduce_fx="cat")

    def update(self, detection: Detection, indices: Int[Tensor, "batch"]) -> None:
        """Add images.

        Args:
            detection: what the detector saw.
            indices: each image's number among all, from 0.

        Raises:
            ValueError: shapes that do not belong together, or an index out of range.
        """
        features, logits = detection.features, detection.logits
        expected = [(len(indices), len(self.feature_sum)), (len(indices), self.split_probability.shape[1])]
        if [tuple(features.shape), tuple(logits.shape)] != expected:
            raise ValueError(f"features {tuple(features.shape)} and logits {tuple(logits.shape)}, not {expected}")
        if int(indices.min()) < 0 or int(indices.max()) >= self.total:
            raise ValueError(f"an index lies outside 0 .. {self.total - 1}")
        self.to(features.device)
        sums = feature_sums(features)
        splits = split_sums(logits, indices.to(features.device), self.total)
        self.count += len(features)
        self.feature_sum += sums[0]
        self.feature_outer += sums[1]
        self.split_count += splits[0]
        self.split_probability += splits[1]
        self.split_negative_entropy += splits[2]
        if self.keeps_features:
            self.features.append(features)
            self.indices.append(indices.to(features.device))

    def compare(self, images: Images, reference: Images) -> None:
        """Add the distance between images in [-1, 1] and a reference sampler's from the same noise."""
        self.squared_error += (images.double() - reference.double()).square().sum().to(self.squared_error.device)
        self.compared_values += images.numel()

    def sums(self) -> dict[str, Tensor]:
        """Return the state by name, on the CPU: what a block writes."""
        state = self.metric_state.items()
        return {name: (torch.cat(value) if isinstance(value, list) else value).cpu() for name, value in state}

    def add(self, sums: dict[str, Tensor]) -> None:
        """Add another block's sums."""
        for name, state in self.metric_state.items():
            if isinstance(state, list):
                state.append(sums[name].to(self.count.device))
            else:
                state += sums[name].to(state.device)
        self._update_count, self._computed = self._update_count + 1, None  # as an update does

    def compute(self) -> dict[str, float]:
        """Return the scores.

        Returns:
            Of those that were asked for: ``fid``; ``is`` with its ``is_deviation`` over splits, and ``is_whole`` on one
            split; ``kid`` with its ``kid_deviation`` over subsets; ``precision`` and ``recall``. ``rmse`` and ``psnr``
            to the compared images if there are any, the second unless they are equal.

        Raises:
            FloatingPointError: a sum, or a score that came out of finite ones, is not finite.
        """
        sums = self.sums()
        if name := not_finite(sums):
            raise FloatingPointError(f"no scores: '{name}' of the detector's answers has a NaN or an infinity")
        scores: dict[str, float] = {}
        if "fid" in self.metrics:
            moments = Moments.from_sums(int(self.count), sums["feature_sum"], sums["feature_outer"])
            scores["fid"] = frechet_distance(self.reference.moments, moments)
        if "is" in self.metrics:
            scores |= _inception(sums["split_count"], sums["split_probability"], sums["split_negative_entropy"])
        for name in (name for name in self.metrics if name in FEATURE_METRICS):
            features = sums["features"][sums["indices"].argsort()]
            scores |= FEATURE_METRICS[name](features, self.reference.features)
        scores |= _distances(float(sums["squared_error"]), int(sums["compared_values"]))
        if name := next((name for name, score in scores.items() if not math.isfinite(score)), None):
            raise FloatingPointError(f"no scores: {name} came out as {scores[name]}")
        return scores


def _inception(*sums: Tensor) -> dict[str, float]:
    """Return the scores over splits and on one split."""
    splits = inception_scores(*sums)
    (whole,) = inception_scores(*(value.sum(0, keepdim=True) for value in sums))
    return {"is": float(splits.mean()), "is_deviation": float(splits.std(correction=0)), "is_whole": float(whole)}


def _distances(squared_error: float, compared_values: int) -> dict[str, float]:
    """Return the root mean square and, if there is any distance, its ratio to the pixels' range in decibels."""
    if not compared_values:
        return {}
    rmse = math.sqrt(squared_error / compared_values)
    return {"rmse": rmse} | ({"psnr": 20 * math.log10(PIXEL_RANGE / rmse)} if rmse else {})
