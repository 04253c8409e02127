"""Frechet distances between Gaussians fitted to features: FID (Heusel et al. 2017) and its kin with other features.

sFID (Nash et al. 2021, as the evaluator of Dhariwal and Nichol 2021 computes it) is on Inception's features at 17x17
positions, the first seven channels of one layer. FD-DINOv2 (Stein et al. 2023) is on the class token of DINOv2.
"""

from pathlib import Path
from typing import ClassVar

from amed_lightning.config import Spec
from amed_lightning.metrics.frechet import Moments, feature_sums, frechet_distance
from amed_lightning.metrics.metric import Metric, Score, Seen, Sums
from amed_lightning.metrics.statistics import Statistics


class FrechetInceptionDistance(Metric):
    """The distance on the features of the user's detector; a published FID is on Inception's 2,048."""

    scores: ClassVar = {"fid": Score("FID", "lower", 2, tolerance=1e-4)}
    needs = frozenset({"features"})
    added = ("count", "feature_sum", "feature_outer")

    def sums(self, seen: Seen) -> Sums:
        """Add up features and their outer products."""
        total, outer = feature_sums(seen.detection.features)
        return {"count": seen.numbers.new_full((), len(seen.numbers)), "feature_sum": total, "feature_outer": outer}

    def compute(self, sums: Sums, real: Statistics) -> dict[str, float]:
        """Return the distance."""
        moments = Moments.from_sums(int(sums["count"]), sums["feature_sum"], sums["feature_outer"])
        (name,) = self.scores
        return {name: frechet_distance(real.moments, moments)}

    def enough(self, fewest: int, size: int) -> tuple[int, str]:
        """Of fewer images than features the covariance has no full rank."""
        return size + 1, f"the covariance of {size} features has full rank from {size + 1}"

    def sizes(self, images: int, size: int) -> dict[str, int]:
        """Return what the sums take in float64."""
        return {"feature_sum": 8 * size, "feature_outer": 8 * size * size}


class SpatialFID(FrechetInceptionDistance):
    """sFID.

    Args:
        path: of Inception's weights; None for torch-fidelity's release.
        sha256: of the weights at ``path``.
        reference: the real images or statistics of their spatial features; None for the user's images.
    """

    scores: ClassVar = {"sfid": Score("sFID", "lower", 2)}
    feature_size = 2023

    def __init__(self, path: Path | None = None, sha256: str | None = None, reference: Spec | None = None) -> None:
        weights = {"path": None if path is None else str(path), "sha256": sha256}
        self.detector, self.reference = {"name": "inception", "tap": "spatial", "logits": False, **weights}, reference


class FrechetDINOv2Distance(FrechetInceptionDistance):
    """FD-DINOv2.

    Args:
        model: DINOv2, a folder of transformers or its id on the hub; published figures are of the default.
        reference: the real images or statistics of their features; None for the user's images.
    """

    scores: ClassVar = {"fd_dinov2": Score("FD-DINOv2", "lower", 1)}
    feature_size = 1024

    def __init__(self, model: str = "facebook/dinov2-large", reference: Spec | None = None) -> None:
        self.detector, self.reference = {"name": "dinov2", "model": model}, reference
