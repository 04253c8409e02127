r"""The Inception Score (Salimans et al. 2016), ``exp(mean KL(p(y|x) | p(y)))`` on ten splits, from sums.

Split j holds the samples with index from floor(j n / 10) to floor((j + 1) n / 10) in the order of their seeds, without
shuffling; the deviation is the population's over the splits.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

NUM_SPLITS = 10

Counts = Int[Tensor, "splits"]
Probabilities = Float[Tensor, "splits classes"]
Entropies = Float[Tensor, "splits"]


def split_sums(
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
