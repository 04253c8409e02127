"""Scores that need the features themselves: KID, precision and recall, as torch-fidelity computes them.

KID (Binkowski et al. 2018) is the unbiased squared maximum mean discrepancy under the kernel ``(x.y / d + 1)^3``,
averaged over subsets whose choice is seeded. Precision (Kynkaanniemi et al. 2019) is the share of generated images
that lie within the distance of a real image to its third neighbour; recall is the same with the roles exchanged. Both
depend on the numbers of images; with the published ones they can be compared only at the published number, and with
this project's detectors only among themselves, because theirs is VGG-16.
"""

from abc import abstractmethod
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor
from torch_fidelity.metric_kid import kid_features_to_metric
from torch_fidelity.metric_prc import prc_features_to_metric

from amed_lightning.metrics.metric import Metric, Score, Seen, Sums
from amed_lightning.metrics.statistics import Statistics

Generated = Float[Tensor, "generated features"]
Real = Float[Tensor, "real features"]

KID_DEGREE, KID_CONSTANT = 3, 1
KID_SUBSETS, KID_SUBSET_SIZE, KID_SEED = 100, 1000, 2020
NEIGHBOURS = 3
ROWS_AT_ONCE = 1000
_FEW_FOR_SHARES = 1000
"""Images below which a share is said to be doubtful: it is known to ±0.016."""


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


class FeatureMetric(Metric):
    """Compares the features of all generated images with those of all real ones; the sums are the features."""

    needs = frozenset({"features"})
    kept = ("features", "indices")

    def sums(self, seen: Seen) -> Sums:
        """Keep each image's features, and its number, because blocks may arrive in any order."""
        return {"features": seen.detection.features, "indices": seen.numbers}

    def compute(self, sums: Sums, real: Statistics) -> dict[str, float]:
        """Compare in the order of the images' numbers."""
        return self.compare(sums["features"][sums["indices"].argsort()], real.features)

    @abstractmethod
    def compare(self, generated: Generated, real: Real) -> dict[str, float]:
        """Return the scores."""

    def sizes(self, images: int, size: int) -> dict[str, int]:
        """Return what the features take in float32."""
        return {"features": 4 * images * size}


class KernelInceptionDistance(FeatureMetric):
    """``kid``, with its ``kid_deviation`` over subsets."""

    scores: ClassVar = {"kid": Score("KID", "lower", 5, spread=("kid_deviation", "over subsets"))}

    def compare(self, generated: Generated, real: Real) -> dict[str, float]:
        """Return the distance and its deviation."""
        return kernel_distance(generated, real)

    def enough(self, fewest: int, size: int) -> tuple[int, str]:
        """As many as a subset has."""
        return KID_SUBSET_SIZE, f"its subsets are of fewer than the usual {KID_SUBSET_SIZE}"


class PrecisionRecall(FeatureMetric):
    """``precision`` and ``recall``."""

    scores: ClassVar = {"precision": Score("precision", "higher", 3), "recall": Score("recall", "higher", 3)}
    fewest = NEIGHBOURS + 1

    def compare(self, generated: Generated, real: Real) -> dict[str, float]:
        """Return both shares."""
        return precision_recall(generated, real)

    def enough(self, fewest: int, size: int) -> tuple[int, str]:
        """Say the standard error of a share of one half."""
        return _FEW_FOR_SHARES, f"a share is known to ±{0.5 / fewest**0.5:.3f}"
