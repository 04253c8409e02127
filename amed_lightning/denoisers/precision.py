"""Half precision and channels-last memory, as choices of whoever loads a model.

Weights stay in single precision. Convolutions and products of matrices run in the chosen one, everything else and the
preconditioning in single; images and features are single precision in and out.
"""

from dataclasses import replace
from typing import Literal, TypeAlias

import torch
from torch import nn

from amed_lightning.config import digest
from amed_lightning.flow.model import Condition, Denoised, Denoiser, DiffusionModel
from amed_lightning.tensors import Images, Level

Precision: TypeAlias = Literal["float32", "float16", "bfloat16"]


class Autocast(nn.Module):
    """A denoiser whose products are computed in half precision.

    Args:
        denoiser: answers.
        dtype: of the products.
    """

    def __init__(self, denoiser: Denoiser, dtype: torch.dtype) -> None:
        super().__init__()
        self.denoiser, self.dtype = denoiser, dtype
        self.cost = denoiser.cost

    def forward(self, x: Images, sigma: Level, condition: Condition | None) -> Denoised:
        """Denoise."""
        with torch.autocast(x.device.type, self.dtype):
            answer = self.denoiser(x, sigma, condition)
        return Denoised(answer.image.to(x.dtype), answer.features.to(x.dtype))


def computed_in(model: DiffusionModel, precision: Precision, channels_last: bool) -> DiffusionModel:
    """Compute a model's answers in another way.

    Args:
        model: whose denoiser is a module.
        precision: of the products; it makes another model of it, with a digest of its own.
        channels_last: keep images with their channels side by side, which tensor cores want; the numbers are the same
            up to the order of sums.
    """
    if channels_last and isinstance(model.denoiser, nn.Module):
        model.denoiser.to(memory_format=torch.channels_last)
    if precision == "float32":
        return model
    denoiser = Autocast(model.denoiser, getattr(torch, precision))
    return replace(model, denoiser=denoiser, digest=digest([model.digest, precision]))
