r"""Networks that were trained at discrete, variance-preserving levels, as denoisers (LDM, Stable Diffusion).

The network sees ``alpha x`` with ``alpha = 1 / sqrt(1 + sigma^2)``, and the time ``M t - 1`` (0 to M - 1, fractions
included). It predicts the noise eps, so that ``D = x - sigma eps``, or ``v = alpha eps - alpha sigma x_0`` (Salimans
and Ho 2022, appendix D), so that ``D = alpha^2 x - alpha sigma v``, or the sample, which is D.
"""

from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn

from amed_lightning.flow.model import Condition, Denoised, Features
from amed_lightning.noise.discrete_time import DiscreteTime
from amed_lightning.tensors import Images, Level, per_sample

Prediction: TypeAlias = Literal["epsilon", "v_prediction", "sample"]
IMAGE_FROM: dict[Prediction, Callable[[Images, Level, Level, Images], Images]] = {
    "epsilon": lambda x, sigma, alpha, noise: x - sigma * noise,
    "v_prediction": lambda x, sigma, alpha, velocity: alpha * (alpha * x - sigma * velocity),
    "sample": lambda x, sigma, alpha, image: image,
}
"""The clean image that follows from the state, its level, alpha, and what the network predicts."""
Network: TypeAlias = Callable[[Images, Float[Tensor, "batch"], Condition | None], tuple[Images, Features]]
"""Answers at a scaled state, a time per sample and their conditions, with its bottleneck features."""


class DiscreteDenoiser(nn.Module):
    """A network of discrete time as a denoiser.

    Args:
        network: predicts.
        log_alphas: half the log of the cumulative alphas at times 1/M, ..., 1.
        prediction: what the network predicts.
    """

    cost = 1

    def __init__(self, network: Network, log_alphas: Sequence[float], prediction: Prediction) -> None:
        super().__init__()
        self.network, self.prediction = network, prediction
        self.log_alphas = torch.tensor(log_alphas, dtype=torch.float64)  # no buffer, which `to` would round

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "DiscreteDenoiser":
        """Let the table follow the weights to their device, in its own precision."""
        self.log_alphas = self.log_alphas.to(fn(self.log_alphas).device)
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call]

    def forward(self, x: Images, sigma: Level, condition: Condition | None) -> Denoised:
        """Denoise ``x`` at level ``sigma``."""
        time = len(self.log_alphas) * DiscreteTime(self.log_alphas.to(sigma.device)).of(sigma.double()) - 1
        sigma = sigma.to(x.dtype)
        alpha = 1 / (1 + sigma.square()).sqrt()
        output, features = self.network(alpha * x, per_sample(time, len(x)).to(x.dtype), condition)
        return Denoised(IMAGE_FROM[self.prediction](x, sigma, alpha, output), features)
