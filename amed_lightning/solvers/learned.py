"""What is learned of a sampler, whatever its form: it says how a solver runs with it."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple, TypeAlias

from torch import nn

from amed_lightning.noise.schedules import Grid
from amed_lightning.solvers.placement import Placer
from amed_lightning.solvers.state import Solver

Rule: TypeAlias = Callable[[Placer | None], Solver]
"""Builds a solver around a placer."""


class Steps(NamedTuple):
    """What a sampler does besides asking its model.

    Attributes:
        solver: the update rule, placer included.
        sigmas: its N + 1 levels.
        afs: whether the first evaluation is analytic.
        placer: the one inside the solver, if it was given one.
    """

    solver: Solver
    sigmas: Grid
    afs: bool = False
    placer: Placer | None = None


class Learned(nn.Module, ABC):
    """What a fit has learned.

    Attributes:
        kind: its key among those that files may hold.
    """

    kind: ClassVar[str]

    def __repr__(self) -> str:
        options = ", ".join(f"{name}={value!r}" for name, value in self.options.items())
        return f"{type(self).__name__}({options})"

    @property
    @abstractmethod
    def options(self) -> dict[str, Any]:
        """Return what its numbers do not say."""

    @abstractmethod
    def steps(self, rule: Rule, sigmas: Grid, afs: bool) -> Steps:
        """Return the steps with it, of a solver along levels."""
