"""The same placement for every sample of an interval: students that learn a few numbers.

``constants`` have one ratio and one direction scale per interval. ``coefficients`` keep the ratio at 1/2 and weigh the
two derivatives freely: ``x' = x + h (alpha d_0 + beta d_s)``. A predictor that does no better than these has not used
what it sees.
"""

from typing import Any, Literal, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn

from amed_lightning.flow.probability_flow import Evaluation
from amed_lightning.noise.schedules import Grid
from amed_lightning.solvers.placement import Placement
from amed_lightning.tensors import Level

ConstantKind: TypeAlias = Literal["constants", "coefficients"]
SAME_LEVEL = 1e-6
"""Relative distance of levels that differ by rounding alone."""


class ConstantPlacer(nn.Module):
    """A placer that knows an interval by its first level.

    Args:
        kind: how the numbers were found.
        num_intervals: of the student.

    Attributes:
        sigmas: level at each interval's start.
        ratio: of each interval, as are direction_scale and start_scale.
    """

    sigmas: Grid
    ratio: Grid
    direction_scale: Grid
    start_scale: Grid

    def __init__(self, kind: ConstantKind, num_intervals: int) -> None:
        super().__init__()
        self.kind, self.num_intervals = kind, num_intervals
        for name, value in (("sigmas", 0.0), ("ratio", 0.5), ("direction_scale", 1.0), ("start_scale", 0.0)):
            self.register_buffer(name, torch.full((num_intervals,), value, dtype=torch.float64))

    @property
    def options(self) -> dict[str, Any]:
        """What builds it."""
        return {"kind": self.kind, "num_intervals": self.num_intervals}

    def forward(self, here: Evaluation, sigma: Level, sigma_next: Level) -> Placement:
        """Return the interval's placement, of shape () or (batch, 1, 1, 1) as ``sigma`` is.

        Raises:
            RuntimeError: no interval begins at this level.
        """
        distances, own = (self.sigmas / sigma.reshape(-1, 1) - 1).abs().min(1)
        torch._assert_async((distances < SAME_LEVEL).all(), f"no interval of these {self.kind} begins at this level")
        own = own.reshape(sigma.shape)
        return Placement(
            ratio=self._entry(self.ratio, own, sigma),
            direction_scale=self._entry(self.direction_scale, own, sigma),
            start_scale=self._entry(self.start_scale, own, sigma),
        )

    def _entry(self, values: Float[Tensor, "intervals"], own: Tensor, sigma: Level) -> Level:
        return values.take(own).to(sigma.dtype)  # an index would be read from the device first
