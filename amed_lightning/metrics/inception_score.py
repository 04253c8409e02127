r"""The Inception Score (Salimans et al. 2016), ``exp(mean KL(p(y|x) | p(y)))`` on ten splits, from sums.

Split j holds the samples with index from floor(j n / 10) to floor((j + 1) n / 10) in the order of their seeds, without
shuffling; the deviation is the population's over the splits.
"""

from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from amed_lightning.metrics.metric import Metric, Score, Seen, Sums
from amed_lightning.metrics.statistics import Statistics

NUM_SPLITS = 10
FEW = 10 * NUM_SPLITS
"""Images below which the score is said to be doubtful: ten to a split."""

Counts = Int[Tensor, "splits"]
Probabilities = Float[Tensor, "splits classes"]
Entropies = Float[Tensor, "splits"]


def _split_sums(
    logits: Float[Tensor, "batch classes"], indices: Int[Tensor, "batch"], total: int
) -> tuple[Counts, Probabilities, Entropies]:
    """Sum by split.

    Args:
        logits: of each image.
        indices: each image's number among all.
        total: number of all images.

    Returns:
        For each split: its images, their class probabilities, and the negative entropies of these; sums in float64.
    """
    bounds = torch.arange(1, NUM_SPLITS, device=indices.device) * total // NUM_SPLITS
    splits = torch.bucketize(indices, bounds, right=True)
    member = torch.nn.functional.one_hot(splits, NUM_SPLITS).T  # products, unlike index_add_, have one order on a GPU
    log_probability = logits.double().log_softmax(1)
    probability = log_probability.exp()
    entropy = (probability * log_probability).sum(1)
    return member.sum(1), member.double() @ probability, member.double() @ entropy


def inception_scores(count: Counts, probability: Probabilities, negative_entropy: Entropies) -> Float[Tensor, "filled"]:
    """Return each split's score from its sums, leaving out empty splits."""
    filled = count > 0
    marginal = probability[filled] / count[filled][:, None]
    return (negative_entropy[filled] / count[filled] - torch.special.xlogy(marginal, marginal).sum(1)).exp()


class InceptionScore(Metric):
    """``is`` with its ``is_deviation`` over the splits, and ``is_whole``, the score on one split.

    A part of the images may be too small for ten splits or leave one of them out, so a part's score is that on one.
    """

    scores: ClassVar = {
        "is": Score("IS", "higher", 2, "is_whole", ("is_deviation", f"over {NUM_SPLITS} splits"), tolerance=1e-5),
    }
    needs = frozenset({"logits"})
    added = ("split_count", "split_probability", "split_negative_entropy")
    refers_to_real = False

    def sums(self, seen: Seen) -> Sums:
        """Add up by split."""
        return dict(zip(self.added, _split_sums(seen.detection.logits, seen.numbers, seen.total), strict=True))

    def compute(self, sums: Sums, real: Statistics) -> dict[str, float]:
        """Return the score over splits and on one split."""
        values = [sums[name] for name in self.added]
        splits = inception_scores(*values)
        (whole,) = inception_scores(*(value.sum(0, keepdim=True) for value in values))
        return {"is": float(splits.mean()), "is_deviation": float(splits.std(correction=0)), "is_whole": float(whole)}

    def enough(self, fewest: int, size: int) -> tuple[int, str]:
        """Ten images to a split."""
        return FEW, f"each of the {NUM_SPLITS} splits has fewer than ten"
