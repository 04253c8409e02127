r"""The probability-flow ODE, and the only place where a network is called.

``dx/dsigma = (x - D(x; sigma)) / sigma`` (EDM, Karras et al. 2022, eq. 1, with sigma as the time). An
:class:`Evaluation` is one answer of the flow; the analytic first step is an answer that costs nothing.
"""

from dataclasses import dataclass, replace

import torch

from amed_lightning.flow.model import Condition, Denoiser, Features
from amed_lightning.tensors import Images, Level


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What the flow said at a state (x, sigma).

    Attributes:
        sigma: the level, of shape () or (batch, 1, 1, 1).
        denoised: the estimate of the clean image.
        derivative: dx/dsigma.
        features: the network's bottleneck.
        cost: network runs per sample that it took.
    """

    sigma: Level
    denoised: Images
    derivative: Images
    features: Features
    cost: int

    def detach(self) -> "Evaluation":
        """Cut the gradient."""
        return replace(
            self,
            sigma=self.sigma.detach(),
            denoised=self.denoised.detach(),
            derivative=self.derivative.detach(),
            features=self.features.detach(),
        )


@dataclass(frozen=True, slots=True)
class ProbabilityFlow:
    """The slope of the ODE for one batch of samples.

    Attributes:
        denoiser: answers the calls.
        condition: label of each sample, or None.
        time_scale: the denoiser is asked at ``time_scale * sigma`` while the slope still divides by sigma, as AMED's
            time scaling does (Zhou et al. 2024, section 3.3); of shape () or (batch, 1, 1, 1).
    """

    denoiser: Denoiser
    condition: Condition | None = None
    time_scale: Level | float = 1.0

    def __call__(self, x: Images, sigma: Level) -> Evaluation:
        """Evaluate the flow at ``x`` and level ``sigma``."""
        denoised = self.denoiser(x, sigma * self.time_scale, self.condition)
        runs = denoised.runs(self.denoiser)
        return Evaluation(sigma, denoised.image, (x - denoised.image) / sigma, denoised.features, runs)

    def scaled(self, time_scale: Level | float) -> "ProbabilityFlow":
        """Return this flow with another time scale."""
        return replace(self, time_scale=time_scale)


def analytic_first_step(x: Images, sigma: Level, feature_size: int) -> Evaluation:
    """Answer without the network at a level so high that the data's variance hardly counts.

    The derivative is ``x / sqrt(1 + sigma^2)``, the noise that unit-variance data would leave in x (AFS, Dockhorn et
    al. 2022). The features are zeros.

    Args:
        x: states, pure noise times sigma.
        sigma: their level.
        feature_size: length of the model's features.
    """
    derivative = x / (1 + sigma.square()).sqrt()
    features = torch.zeros(x.shape[0], feature_size, dtype=x.dtype, device=x.device)
    return Evaluation(sigma, x - sigma * derivative, derivative, features, cost=0)
