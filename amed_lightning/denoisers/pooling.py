"""Bottleneck features of another size, as a denoiser around another.

Published predictors take 8x8 features. A bottleneck of another resolution serves them once it is averaged down to that.
"""

import math
from dataclasses import replace

import torch.nn.functional as F

from amed_lightning.config import digest
from amed_lightning.denoisers.around import Changed
from amed_lightning.flow.model import Denoised, Denoiser, DiffusionModel


class Pooled(Changed):
    """A denoiser whose features are averaged over neighbours.

    Args:
        denoiser: answers, with the features of a square.
        resolution: height and width of the new features.
    """

    def __init__(self, denoiser: Denoiser, resolution: int) -> None:
        super().__init__(denoiser)
        self.resolution = resolution

    def change(self, answer: Denoised) -> Denoised:
        """Average the features."""
        size = math.isqrt(answer.features.shape[1])
        square = answer.features.reshape(-1, 1, size, size)
        return replace(answer, features=F.adaptive_avg_pool2d(square, self.resolution).flatten(1))


def pooled(model: DiffusionModel, resolution: int = 8) -> DiffusionModel:
    """Average a model's features down.

    Raises:
        ValueError: they are no square, or not a larger one that the resolution divides.
    """
    size = math.isqrt(model.feature_size)
    if size**2 != model.feature_size or resolution < 1 or size % resolution:
        raise ValueError(f"{model.feature_size} features cannot be averaged down to {resolution}x{resolution}")
    return replace(
        model,
        denoiser=Pooled(model.denoiser, resolution),
        feature_size=resolution**2,
        digest=digest([model.digest, "pooled", resolution]),
    )
