"""Solvers whose second evaluation of an interval a placer places: what they share.

Distillation chooses placements outside of a solver: a predictor's, ones shifted by a little, the nodes of a table. So
the placement is an argument of the step that sampling makes, and a solver of several threads holds nothing of a call.
"""

from abc import ABC, abstractmethod
from dataclasses import replace

from amed_lightning.flow.probability_flow import Evaluation, ProbabilityFlow
from amed_lightning.noise.schedules import Grid
from amed_lightning.solvers.placement import Placement, Placer
from amed_lightning.solvers.state import SolverState
from amed_lightning.tensors import Images, Level


class PlacedSolver(ABC):
    """Two evaluations per interval, the second where ``placer`` says; a :class:`~amed_lightning.solvers.state.Solver`.

    Attributes:
        placer: sees the flow's evaluation at the interval's start.
    """

    placer: Placer
    evaluations_per_interval = 2

    @property
    @abstractmethod
    def is_multistep(self) -> bool:
        """Whether it looks back."""

    @property
    @abstractmethod
    def warm_up_intervals(self) -> int:
        """Intervals until there are enough evaluations."""

    @abstractmethod
    def init(self, x: Images, sigmas: Grid, known: Evaluation | None = None) -> SolverState:
        """Return the state at the first of the N + 1 levels ``sigmas``."""

    @abstractmethod
    def step_at(self, flow: ProbabilityFlow, state: SolverState, sigma_next: Level, place: Placement) -> SolverState:
        """Advance by one interval, placed as the caller says; ``state`` stays as it is."""

    def step(self, flow: ProbabilityFlow, state: SolverState, sigma_next: Level) -> SolverState:
        """Advance by one interval."""
        here, nfe = state.evaluated(flow)
        known = replace(state, known=here, nfe=nfe)
        return self.step_at(flow, known, sigma_next, self.placer(here, state.sigma, sigma_next))
