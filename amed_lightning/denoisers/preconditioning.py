"""EDM's preconditioning (Karras et al. 2022, eq. 7 and table 1).

``D(x; sigma) = c_skip x + c_out F(c_in x; c_noise)`` with coefficients that give the network inputs and targets of
unit variance at every level, for data of standard deviation ``sigma_data``.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from amed_lightning.denoisers.ddpmpp import DDPMpp
from amed_lightning.flow.model import Condition, Denoised
from amed_lightning.tensors import Images, Level, per_sample


class EDMPreconditioned(nn.Module):
    """A network as a denoiser.

    Args:
        model: the network F.
        sigma_data: standard deviation of the data.
    """

    cost = 1

    def __init__(self, model: DDPMpp, sigma_data: float = 0.5) -> None:
        super().__init__()
        self.model, self.sigma_data = model, sigma_data

    def forward(self, x: Images, sigma: Level, condition: Condition | None) -> Denoised:
        """Denoise ``x`` at level ``sigma``; a negative label, or None, leaves the class open."""
        sigma = sigma.to(x.dtype)
        variance = sigma.square() + self.sigma_data**2
        c_skip = self.sigma_data**2 / variance
        c_out = sigma * self.sigma_data / variance.sqrt()
        c_noise = per_sample(sigma, len(x)).log() / 4
        output, features = self.model(x / variance.sqrt(), c_noise, self._one_hot(condition, x))
        return Denoised(c_skip * x + c_out * output, features)

    def _one_hot(self, labels: Condition | None, like: Images) -> Tensor | None:
        if labels is None or not self.model.label_dim:
            return None
        hot = F.one_hot(labels.clamp(min=0), self.model.label_dim) * (labels >= 0)[:, None]
        return hot.to(like.dtype)
