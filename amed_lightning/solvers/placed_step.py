"""A solver's step at a placement that the caller chooses.

Distillation chooses placements outside of the solver: a predictor's, ones shifted by a little, the nodes of a table.
All of them go through the one ``step`` that sampling makes.
"""

from collections.abc import Callable
from dataclasses import dataclass

from amed_lightning.flow.probability_flow import Evaluation, ProbabilityFlow
from amed_lightning.solvers.placement import Placement, Placer
from amed_lightning.solvers.state import Solver, SolverState
from amed_lightning.tensors import Level


@dataclass(slots=True)
class Told:
    """A placer that answers what it was told."""

    place: Placement

    def __call__(self, here: Evaluation, sigma: Level, sigma_next: Level) -> Placement:
        """Return the placement."""
        return self.place


class PlacedStep:
    """The step of a solver, with the placement as an argument.

    Args:
        make: builds the solver around a placer.
    """

    def __init__(self, make: Callable[[Placer], Solver]) -> None:
        self._told = Told(Placement(0.5))
        self.solver = make(self._told)

    def __call__(self, flow: ProbabilityFlow, state: SolverState, sigma_next: Level, place: Placement) -> SolverState:
        """Advance by one interval."""
        self._told.place = place
        return self.solver.step(flow, state, sigma_next)
