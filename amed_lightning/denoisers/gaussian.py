r"""Exact denoisers: data whose probability flow is known.

For data N(mean, v) with independent coordinates, ``D(x; sigma) = mean + v / (v + sigma^2) (x - mean)``, and the flow
keeps ``(x - mean) / sqrt(v + sigma^2)`` constant. For a mixture, D is the components' answers weighted with their
posterior probabilities, which are also the features here. The flow of a one-dimensional mixture keeps the value of the
cumulative distribution function constant.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from amed_lightning.config import digest
from amed_lightning.flow.model import Condition, Denoised, DiffusionModel
from amed_lightning.noise.schedules import NoiseRange
from amed_lightning.tensors import Images, Level

Components = Float[Tensor, "components channels height width"]
MAX_SIDE = 256


@dataclass(frozen=True)
class GaussianMixture:
    """The exact denoiser of a mixture of Gaussians with independent pixels.

    Args:
        weights: probability of each component.
        means: their means.
        variances: of each pixel in each component.
    """

    weights: Float[Tensor, "components"]
    means: Components
    variances: Components
    cost: int = 1

    def __call__(self, x: Images, sigma: Level, condition: Condition | None) -> Denoised:
        """Denoise ``x``; the features are the components' posterior probabilities."""
        sigma = sigma.to(x.dtype).reshape(-1, 1, 1, 1, 1)
        means, variances = self.means.to(x), self.variances.to(x)
        offset = x[:, None] - means
        noisy = variances + sigma.square()
        log_density = -(offset.square() / noisy + noisy.log()).flatten(2).sum(2) / 2
        posterior = (self.weights.to(x).log() + log_density).softmax(1)
        answers = means + variances / noisy * offset
        return Denoised((posterior[:, :, None, None, None] * answers).sum(1), posterior)

    def gaussian_solution(self, x: Images, sigma: Level, sigma_next: Level) -> Images:
        """Carry ``x`` along the flow of a single Gaussian, exactly.

        Raises:
            ValueError: there are several components, whose flow has no closed form.
        """
        if len(self.weights) != 1:
            raise ValueError(f"the flow of {len(self.weights)} components has no closed form")
        mean, variance = self.means[0], self.variances[0]
        return mean + (x - mean) * ((variance + sigma_next**2) / (variance + sigma**2)).sqrt()


def gaussian(variances: Float[Tensor, "channels height width"]) -> GaussianMixture:
    """Return the exact denoiser of a Gaussian with mean zero.

    Args:
        variances: of each pixel.
    """
    return GaussianMixture(torch.ones(1), torch.zeros_like(variances)[None], variances[None])


def exact_model(denoiser: GaussianMixture, sigma_min: float = 0.002, sigma_max: float = 80.0) -> DiffusionModel:
    """Describe an exact denoiser as a model."""
    parameters = [value.tolist() for value in (denoiser.weights, denoiser.means, denoiser.variances)]
    channels, height, width = denoiser.means.shape[1:]
    return DiffusionModel(
        denoiser, digest(parameters), (channels, height, width), NoiseRange(sigma_min, sigma_max), len(denoiser.weights)
    )


def anisotropic_gaussian(height: int = 4, width: int = 4) -> DiffusionModel:
    """Return a Gaussian model whose pixels have variances from 1/100 to 4, equidistant in their logarithm."""
    if not (1 <= height <= MAX_SIDE and 1 <= width <= MAX_SIDE):
        raise ValueError(f"{height} x {width} pixels; a side has 1 to {MAX_SIDE}")
    exponents = torch.linspace(-2.0, 0.602, height * width, dtype=torch.float64)
    return exact_model(gaussian((10**exponents).reshape(1, height, width)))
