r"""Networks that were trained at variance-preserving levels of a table, or by flow matching, as denoisers.

``D(x; sigma) = c_skip x + c_out F(x / scale; time)``, by what the network F predicts:

=============== ====================== ========================== ================= =========================
                c_skip                 c_out                      scale             time
=============== ====================== ========================== ================= =========================
epsilon         1                      -sigma                     sqrt(1 + sigma^2) M t - 1
v_prediction    1 / (1 + sigma^2)      -sigma / sqrt(1 + sigma^2) the same          the same
sample          0                      1                          the same          the same
flow_prediction 1 / (1 + sigma)        -sigma / (1 + sigma)       1 + sigma         1000 sigma / (1 + sigma)
=============== ====================== ========================== ================= =========================

The first three are those of DDPM, LDM and Stable Diffusion: epsilon is the noise n, ``v = alpha n - alpha sigma x_0``
(Salimans and Ho 2022, appendix D) with ``alpha = 1 / sqrt(1 + sigma^2)``, and times are 0 to M - 1, fractions included.
A network of flow matching (Liu et al. 2023; Stable Diffusion 3, Esser et al. 2024) sees ``(1 - s) x_0 + s n`` at
``s = sigma / (1 + sigma)``, which is ``x / (1 + sigma)``, and predicts ``n - x_0``.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn

from amed_lightning.denoisers.preconditioning import Coefficients
from amed_lightning.flow.model import Condition, Denoised, Features
from amed_lightning.noise.discrete_time import DiscreteTime
from amed_lightning.noise.schedules import NoiseRange
from amed_lightning.tensors import Images, Level, per_sample

Prediction: TypeAlias = Literal["epsilon", "v_prediction", "sample"]
SKIP_AND_OUT: dict[Prediction, Callable[[Level], tuple[Level | float, Level]]] = {
    "epsilon": lambda sigma: (1.0, -sigma),
    "v_prediction": lambda sigma: (1 / (1 + sigma.square()), -sigma / (1 + sigma.square()).sqrt()),
    "sample": lambda sigma: (0.0, torch.ones_like(sigma)),
}
"""The factors of the state and of what the network predicts in the clean image."""
Network: TypeAlias = Callable[[Images, Float[Tensor, "batch"], Condition | None], tuple[Images, Features]]
"""Answers at a scaled state, a time per sample and their conditions, with its bottleneck features."""
FLOW_STEPS = 1000
"""What a network of flow matching takes its time in."""


def noise_range_of(log_alphas: Sequence[float]) -> NoiseRange:
    """Return the levels between which a network was trained: those of the first and of the last entry of its table.

    Args:
        log_alphas: half the log of the cumulative alphas at times 1/M, ..., 1.
    """
    sigma_min, sigma_max = (math.sqrt(math.expm1(-2 * end)) for end in (log_alphas[0], log_alphas[-1]))
    return NoiseRange(sigma_min, sigma_max, tuple(log_alphas))


class NetworkDenoiser(nn.Module, ABC):
    """A network as a denoiser.

    Args:
        network: predicts.
    """

    cost = 1

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    @abstractmethod
    def coefficients(self, sigma: Level) -> Coefficients:
        """Return what surrounds the network at level ``sigma``."""

    def forward(self, x: Images, sigma: Level, condition: Condition | None) -> Denoised:
        """Denoise ``x`` at level ``sigma``."""
        at = self.coefficients(sigma)
        time = per_sample(at.noise, x.shape[0]).to(x.dtype)
        output, features = self.network((x / at.scale).to(x.dtype), time, condition)
        return Denoised((at.skip * x + at.out * output).to(x.dtype), features)


class DiscreteDenoiser(NetworkDenoiser):
    """A network of discrete time as a denoiser.

    Args:
        network: predicts.
        log_alphas: half the log of the cumulative alphas at times 1/M, ..., 1.
        prediction: what the network predicts.
    """

    def __init__(self, network: Network, log_alphas: Sequence[float], prediction: Prediction) -> None:
        super().__init__(network)
        self.prediction = prediction
        self.log_alphas = torch.tensor(log_alphas, dtype=torch.float64)  # no buffer, which `to` would round

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "DiscreteDenoiser":
        """Let the table follow the weights to their device, in its own precision."""
        self.log_alphas = self.log_alphas.to(fn(self.log_alphas).device)
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call]

    def coefficients(self, sigma: Level) -> Coefficients:
        """Return what surrounds the network at level ``sigma``."""
        time = len(self.log_alphas) * DiscreteTime(self.log_alphas.to(sigma.device)).of(sigma.double()) - 1
        skip, out = SKIP_AND_OUT[self.prediction](sigma)
        return Coefficients(skip, out, (1 + sigma.square()).sqrt(), time)


class FlowDenoiser(NetworkDenoiser):
    """A network of flow matching as a denoiser."""

    def coefficients(self, sigma: Level) -> Coefficients:
        """Return what surrounds the network at level ``sigma``."""
        scale = 1 + sigma
        return Coefficients(1 / scale, -sigma / scale, scale, FLOW_STEPS * sigma / scale)
