r"""Preconditioning: how a network F becomes a denoiser (Karras et al. 2022, eq. 7 and table 1).

``D(x; sigma) = c_skip x + c_out F(c_in x; c_noise)``. Here ``c_in`` is ``1 / sqrt(sigma_data^2 + sigma^2)`` throughout,
so that the network sees inputs of unit variance.

========== =================================== ====================================== ==================
           c_skip                              c_out                                  c_noise
========== =================================== ====================================== ==================
edm        sigma_data^2/(sigma_data^2+sigma^2) sigma sigma_data c_in                  ln(sigma) / 4
cm         the same                            the same                               250 ln(sigma)
vp         1                                   -sigma: F is the noise                 999 t(sigma)
========== =================================== ====================================== ==================

cm is EDM's network in the consistency models' files (Song et al. 2023). vp is the variance-preserving form of ADM
(sigma_data = 1), where ``sigma^2 + 1 = exp(beta_d t^2 / 2 + beta_min t)``; t is not rounded to the steps of training.
"""

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from amed_lightning.denoisers.adm import NoisyClassifier
from amed_lightning.denoisers.unet import UNet
from amed_lightning.flow.model import Condition, Denoised
from amed_lightning.tensors import Images, Level, per_sample

BETA_D, BETA_MIN = 19.9, 0.1
LAST_STEP = 999
"""The number of the last step that ADM was trained at, at time 1."""


class Coefficients(NamedTuple):
    """What surrounds a network at a level; ``scale`` is 1 / c_in."""

    skip: Level | float
    out: Level
    scale: Level
    noise: Level


class Preconditioned(nn.Module, ABC):
    """A network as a denoiser.

    Args:
        model: the network F.
        sigma_data: standard deviation of the data.
    """

    cost = 1

    def __init__(self, model: UNet, sigma_data: float) -> None:
        super().__init__()
        self.model, self.sigma_data = model, sigma_data

    @abstractmethod
    def coefficients(self, sigma: Level) -> Coefficients:
        """Return what surrounds the network at level ``sigma``."""

    def forward(self, x: Images, sigma: Level, condition: Condition | None) -> Denoised:
        """Denoise ``x`` at level ``sigma``; a negative label, or None, leaves the class open."""
        at = self.coefficients(sigma.to(x.dtype))
        labels = self._one_hot(condition, x)
        output, features = self.model(x / at.scale, per_sample(at.noise, len(x)), labels)
        answer = output[:, : x.shape[1]].to(x.dtype)
        return Denoised(at.skip * x + at.out * answer, features)

    def _one_hot(self, labels: Condition | None, like: Images) -> Tensor | None:
        if labels is None or not self.model.label_dim:
            return None
        hot = F.one_hot(labels.clamp(min=0), self.model.label_dim) * (labels >= 0)[:, None]
        return hot.to(like.dtype)


class EDMPreconditioned(Preconditioned):
    """EDM's denoiser.

    Args:
        model: the network F.
        sigma_data: standard deviation of the data.
        noise_scale: factor of ln(sigma) in c_noise.
    """

    def __init__(self, model: UNet, sigma_data: float = 0.5, noise_scale: float = 0.25) -> None:
        super().__init__(model, sigma_data)
        self.noise_scale = noise_scale

    def coefficients(self, sigma: Level) -> Coefficients:
        """Return what surrounds the network at level ``sigma``."""
        variance = sigma.square() + self.sigma_data**2
        scale = variance.sqrt()
        return Coefficients(
            self.sigma_data**2 / variance, sigma * self.sigma_data / scale, scale, sigma.log() * self.noise_scale
        )


class VPPreconditioned(Preconditioned):
    """The denoiser of a variance-preserving model whose network says the noise.

    Args:
        model: the network F; outputs beyond the image's channels are variances, unused.
    """

    def __init__(self, model: UNet) -> None:
        super().__init__(model, sigma_data=1.0)

    def coefficients(self, sigma: Level) -> Coefficients:
        """Return what surrounds the network at level ``sigma``."""
        return Coefficients(1.0, -sigma, (1 + sigma.square()).sqrt(), training_step(sigma))


class VPClassifier(nn.Module):
    """A classifier of noisy images beside a variance-preserving model.

    Args:
        model: the classifier of scaled images.
    """

    def __init__(self, model: NoisyClassifier) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Images, sigma: Level, labels: Condition) -> Float[Tensor, "batch"]:
        """Return log p(class | x; sigma) of each sample's own class."""
        sigma = sigma.to(x.dtype)
        logits = self.model(x / (1 + sigma.square()).sqrt(), per_sample(training_step(sigma), len(x)))
        own: Tensor = logits.log_softmax(1).gather(1, labels[:, None])
        return own[:, 0]


def training_step(sigma: Level) -> Level:
    """Return the step, 0 to 999 and anything between, that ADM was trained at when the level was sigma."""
    root = (BETA_MIN**2 + 2 * BETA_D * sigma.square().log1p()).sqrt()
    return LAST_STEP * ((root - BETA_MIN) / BETA_D)
