"""The distance to the images of a reference sampler from the same noise.

RMSE is the root mean square over all pixels of all images in [-1, 1]; PSNR says the same in decibels below the range
of pixels, ``20 log10(2 / RMSE)``.
"""

import math
from typing import ClassVar

from amed_lightning.metrics.metric import Metric, Score, Seen, Sums
from amed_lightning.metrics.statistics import Statistics

PIXEL_RANGE = 2.0


class PairedDistance(Metric):
    """RMSE and, unless the images are equal, PSNR."""

    scores: ClassVar = {
        "rmse": Score("RMSE", "lower", 3, tolerance=1e-5),
        "psnr": Score("PSNR", "higher", 2, is_implied=True),
    }
    needs = frozenset({"pairs"})
    added = ("squared_error", "compared_values")
    refers_to_real = False

    def sums(self, seen: Seen) -> Sums:
        """Add up the squares of differences."""
        images, reference = seen.pair
        squares = (images.double() - reference.double()).square().sum()
        return {"squared_error": squares, "compared_values": seen.numbers.new_full((), images.numel())}

    def compute(self, sums: Sums, real: Statistics) -> dict[str, float]:
        """Return the scores; there are none where nothing was compared."""
        if not (compared := int(sums["compared_values"])):
            return {}
        rmse = math.sqrt(float(sums["squared_error"]) / compared)
        return {"rmse": rmse} | ({"psnr": 20 * math.log10(PIXEL_RANGE / rmse)} if rmse else {})
