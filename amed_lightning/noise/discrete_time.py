"""The time of a model that was trained at M discrete levels (DDPM, Ho et al. 2020; Stable Diffusion), made continuous.

Such a model has a table of ``ln alpha = ln(cumulative alpha) / 2`` at the times 1/M, 2/M, ..., 1, and the level of a
time is ``sigma = sqrt(1 - alpha^2) / alpha``. Between the entries ln alpha is linear in time; beyond both ends it goes
on straight (DPM-Solver, Lu et al. 2022, section 3.4).
"""

from dataclasses import dataclass
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from amed_lightning.tensors import Level

Table: TypeAlias = Float[Tensor, "times"]


@dataclass(frozen=True)
class DiscreteTime:
    """Maps times onto levels and back.

    Args:
        log_alphas: half the log of the cumulative alphas at times 1/M, 2/M, ..., 1; decreasing.

    >>> time = DiscreteTime(torch.tensor([-0.1, -0.4, -0.9], dtype=torch.float64))
    >>> round(float(time.of(time.sigma(torch.tensor(0.5, dtype=torch.float64)))), 6)
    0.5
    """

    log_alphas: Table

    @property
    def times(self) -> Table:
        """Return the times of the table's entries."""
        steps = len(self.log_alphas)
        return torch.arange(1, steps + 1, dtype=self.log_alphas.dtype, device=self.log_alphas.device) / steps

    def sigma(self, t: Level) -> Level:
        """Return the level at time ``t``."""
        return (-2 * _interpolate(t, self.times, self.log_alphas)).expm1().sqrt()

    def of(self, sigma: Level) -> Level:
        """Return the time of a level."""
        return _interpolate(-sigma.square().log1p() / 2, self.log_alphas.flip(0), self.times.flip(0))


def _interpolate(x: Level, xs: Table, ys: Table) -> Level:
    """Interpolate linearly between the points of increasing ``xs``; go on straight beyond both ends."""
    right = torch.searchsorted(xs, x).clamp(1, len(xs) - 1)
    # An index without dimensions would be read from the device, again and again.
    x_left, x_right, y_left, y_right = (points.take(index) for points in (xs, ys) for index in (right - 1, right))
    return y_left + (x - x_left) * (y_right - y_left) / (x_right - x_left)
