"""Where the answers of the flow are tabulated, and the polynomials between them.

Each axis of a placement (ratio, direction scale, time scale) has Chebyshev points of the second kind, the extrema of
the Chebyshev polynomial, both ends included. The points of a grid of 2n - 1 contain those of the grid of n, so a finer
grid reuses the answers of a coarser one, and the coarser one inside it tells how well the finer interpolates. Between
them the answers are those of Lagrange's polynomials (Berrut and Trefethen 2004), in their product form: the barycentric
one is 0/0 at a node, and its gradient is lost there.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import product
from typing import Literal, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from amed_lightning.solvers.placement import Placement
from amed_lightning.tensors import per_sample

Axis: TypeAlias = tuple[float, ...]
AxisName: TypeAlias = Literal["ratio", "time_scale", "direction_scale"]
AXES: tuple[AxisName, ...] = ("ratio", "time_scale", "direction_scale")
"""In the order in which nodes are counted: the last runs fastest."""
LINEAR: tuple[AxisName, ...] = ("direction_scale",)
"""An axis of one point says nothing about what a step is linear in."""
ROUNDING = 1e-6
"""By how much a placement in single precision may pass an axis' end."""


def chebyshev(size: int, low: float, high: float) -> Axis:
    """Return ``size`` Chebyshev points from ``low`` to ``high``, both included, or the middle alone.

    >>> [round(point, 9) for point in chebyshev(3, 0.0, 1.0)]
    [0.0, 0.5, 1.0]
    """
    if size == 1:
        return ((low + high) / 2,)
    return tuple(low + (high - low) * (1 - math.cos(index * math.pi / (size - 1))) / 2 for index in range(size))


def cardinals(nodes: Axis, points: Float[Tensor, "points"]) -> Float[Tensor, "points nodes"]:
    """Return Lagrange's polynomials: 1 at their own node, 0 at the others.

    Args:
        nodes: of the axis.
        points: where they are wanted.
    """
    places = _placed(nodes, points.dtype, points.device)
    own = torch.eye(len(nodes), dtype=torch.bool, device=points.device)
    steps = (places[:, None] - places).masked_fill(own, 1.0).prod(1)
    # One row per polynomial, with its own factor taken out.
    factors = (points[:, None] - places)[:, None].expand(-1, len(nodes), -1)
    return factors.masked_fill(own, 1.0).prod(2) / steps


@cache
def _placed(nodes: Axis, dtype: torch.dtype, device: torch.device) -> Float[Tensor, "nodes"]:
    """Copy an axis to a device, once: a fit asks for it at every step."""
    with torch.inference_mode(False):  # it is kept, and later calls may need gradients
        return torch.tensor(nodes, dtype=dtype, device=device)


@dataclass(frozen=True)
class Nodes:
    """A grid of placements.

    Attributes:
        ratio: points of its axis, likewise the others; an axis of one point is not interpolated.
    """

    ratio: Axis
    time_scale: Axis = (1.0,)
    direction_scale: Axis = (1.0,)

    def __len__(self) -> int:
        return math.prod(len(axis) for axis in self._axes())

    def placements(self) -> Iterator[Placement]:
        """Yield the grid's placements."""
        for ratio, time_scale, direction_scale in product(*self._axes()):
            yield Placement(ratio, direction_scale, time_scale)

    def weights(self, place: Placement, like: Float[Tensor, "rows *_"]) -> Float[Tensor, "rows nodes"]:
        """Return what each node contributes at a placement of as many samples as ``like`` has rows.

        Raises:
            RuntimeError: the placement lies beyond the ends of an axis, where polynomials know nothing.
        """
        total = like.new_ones(len(like), 1)
        for name, axis in zip(AXES, self._axes(), strict=True):
            if len(axis) > 1 or name not in LINEAR:
                value = torch.as_tensor(getattr(place, name), dtype=like.dtype, device=like.device)
                points = per_sample(value, len(like))
                inside = (points >= axis[0] - ROUNDING) & (points <= axis[-1] + ROUNDING)
                torch._assert_async(inside.all(), f"a {name} lies outside of the tabulated {axis[0]} to {axis[-1]}")
                total = (total[:, :, None] * cardinals(axis, points)[:, None]).flatten(1)
        return total

    def finer(self, name: AxisName) -> "Nodes":
        """Return the grid with a point more inside every step of one axis."""
        axis: Axis = getattr(self, name)
        return replace(self, **{name: chebyshev(2 * len(axis) - 1, axis[0], axis[-1])})

    def united(self, other: "Nodes") -> "Nodes":
        """Return the grid that takes the larger of two nested axes each time."""
        return Nodes(*(max(own, others, key=len) for own, others in zip(self._axes(), other._axes(), strict=True)))

    def coarser(self, name: AxisName) -> tuple["Nodes", list[int]]:
        """Return the grid with every second point of one axis, and the places of its nodes in this one."""
        axis: Axis = getattr(self, name)
        kept = [range(0, len(own), 2 if name == other else 1) for other, own in zip(AXES, self._axes(), strict=True)]
        sizes = [len(own) for own in self._axes()]
        places = [(i * sizes[1] + j) * sizes[2] + k for i, j, k in product(*kept)]
        return replace(self, **{name: axis[::2]}), places

    def _axes(self) -> Sequence[Axis]:
        return self.ratio, self.time_scale, self.direction_scale
