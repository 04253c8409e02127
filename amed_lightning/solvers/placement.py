"""Where inside an interval the second evaluation happens: placers.

A placer sees the flow's answer at the interval's start and chooses, for the whole batch or for each sample, the ratio
r of the intermediate level ``s = sigma_next^r sigma^(1 - r)``, a factor on the second update (c in AMED) and a factor
on the level that the network is told (a in AMED).
"""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from amed_lightning.flow.probability_flow import Evaluation
from amed_lightning.tensors import Level


@dataclass(frozen=True, slots=True)
class Placement:
    """A placer's answer; each entry is a number or a tensor of shape (batch, 1, 1, 1).

    Attributes:
        ratio: in (0, 1]; 0 is the interval's start, 1 its end, in ln sigma.
        direction_scale: factor on the second update, around 1.
        time_scale: factor on the level at the second evaluation, around 1.
    """

    ratio: Level | float
    direction_scale: Level | float = 1.0
    time_scale: Level | float = 1.0

    def level(self, sigma: Level, sigma_next: Level) -> Level:
        """Return the intermediate level between ``sigma`` and ``sigma_next``."""
        return sigma * (sigma_next / sigma) ** self.ratio

    def per_sample(self, like: Float[Tensor, "batch *_"]) -> "Placement":
        """Give each sample of ``like`` entries of its own, in its precision, as a predictor does."""
        ones = like.new_ones(len(like), 1, 1, 1)
        entries = (self.ratio, self.direction_scale, self.time_scale)
        return Placement(*((ones * entry).to(like.dtype) for entry in entries))


@runtime_checkable
class Placer(Protocol):
    """Chooses placements."""

    def __call__(self, here: Evaluation, sigma: Level, sigma_next: Level) -> Placement:
        """Place the second evaluation of the interval from ``sigma`` to ``sigma_next``."""
        ...


@dataclass(frozen=True, slots=True)
class FixedPlacement:
    """The same ratio for every sample and interval, scales of one: a classical solver.

    Args:
        ratio: in (0, 1].

    Raises:
        ValueError: the ratio lies outside.
    """

    ratio: float

    def __post_init__(self) -> None:
        if not 0 < self.ratio <= 1:
            raise ValueError(f"a ratio lies above 0 and at most at 1, got {self.ratio}")

    def __call__(self, here: Evaluation, sigma: Level, sigma_next: Level) -> Placement:
        """Return the placement."""
        return Placement(self.ratio)
