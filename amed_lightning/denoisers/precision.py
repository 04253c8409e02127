"""Half precision, as a choice of whoever runs a model.

Weights stay in single precision. Convolutions and products of matrices run in the chosen one, everything else and the
preconditioning in single; images and features are single precision in and out.
"""

import torch
from torch import nn

from amed_lightning.flow.model import Condition, Denoised, Denoiser
from amed_lightning.tensors import Images, Level


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
