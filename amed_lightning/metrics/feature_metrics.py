"""Scores that need the features themselves: KID, precision and recall, as torch-fidelity computes them.

KID (Binkowski et al. 2018) is the unbiased squared maximum mean discrepancy under the kernel ``(x.y / d + 1)^3``,
averaged over subsets whose choice is seeded. Precision (Kynkaanniemi et al. 2019) is the share of generated images
that lie within the distance of a real image to its third neighbour; recall is the same with the roles exchanged. Both
depend on the numbers of images; with the published ones they can be compared only at the published number, and with
this project's detectors only among themselves, because theirs is VGG-16.
"""

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor
from torch_fidelity.metric_kid import kid_features_to_metric
from torch_fidelity.metric_prc import prc_features_to_metric

Generated = Float[Tensor, "generated features"]
Real = Float[Tensor, "real features"]

KID_DEGREE, KID_CONSTANT = 3, 1
KID_SUBSETS, KID_SUBSET_SIZE, KID_SEED = 100, 1000, 2020
NEIGHBOURS = 3
ROWS_AT_ONCE = 1000


def kernel_distance(generated: Generated, real: Real) -> dict[str, float]:
    """Return ``kid`` and its deviation over subsets of 1,000 images, or of all where there are fewer."""
    found = kid_features_to_metric(
        generated.double(),
        real.double(),
        kid_kernel="poly",
        kid_kernel_poly_degree=KID_DEGREE,
        kid_kernel_poly_gamma=1 / real.shape[1],
        kid_kernel_poly_coef0=KID_CONSTANT,
        kid_subsets=KID_SUBSETS,
        kid_subset_size=min(KID_SUBSET_SIZE, len(generated), len(real)),
        rng_seed=KID_SEED,
        verbose=False,
    )
    return {"kid": found["kernel_inception_distance_mean"], "kid_deviation": found["kernel_inception_distance_std"]}


def precision_recall(generated: Generated, real: Real) -> dict[str, float]:
    """Return ``precision`` and ``recall``; each set needs more images than there are neighbours."""
    found = prc_features_to_metric(
        generated.double(),
        real.double(),
        prc_neighborhood=NEIGHBOURS,
        prc_batch_size=ROWS_AT_ONCE,
        save_cpu_ram=True,
        verbose=False,
    )
    return {name: found[name] for name in ("precision", "recall")}


FEATURE_METRICS: dict[str, Callable[[Generated, Real], dict[str, float]]] = {
    "kid": kernel_distance,
    "precision_recall": precision_recall,
}
"""The scores that a block keeps its features for, and the real images' statistics must have theirs for."""
