"""FID (Heusel et al. 2017): the Frechet distance between Gaussians fitted to features."""

from typing import ClassVar

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
