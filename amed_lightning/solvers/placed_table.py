"""A table whose steps a placer scales, for each sample: how far a run goes, and what level the next one is told."""

from dataclasses import dataclass, replace

from amed_lightning.flow.probability_flow import Evaluation, ProbabilityFlow
from amed_lightning.noise.schedules import Grid
from amed_lightning.solvers.placed import PlacedSolver
from amed_lightning.solvers.placement import Placement, Placer
from amed_lightning.solvers.state import SolverState
from amed_lightning.solvers.tabulated import Tabulated
from amed_lightning.tensors import Images, Level


@dataclass(frozen=True)
class PlacedTable(PlacedSolver):
    """``x' = x + c (row - x)`` with the table's next row, whose run is told ``a`` times its level; no ratio counts.

    Args:
        base: the table's solver.
        placer: sees every answer.
    """

    base: Tabulated
    placer: Placer
    evaluations_per_interval = 1
    is_multistep = True
    warm_up_intervals = 0

    def init(self, x: Images, sigmas: Grid, known: Evaluation | None = None) -> SolverState:
        """Return the first state; ``x`` is noise times ``sigmas[0]``."""
        return self.base.init(x, sigmas, known)

    def step_at(self, flow: ProbabilityFlow, state: SolverState, sigma_next: Level, place: Placement) -> SolverState:
        """Advance by one run, placed as the caller says."""
        end = self.base.step(flow, state, sigma_next)
        x = state.x + place.direction_scale * (end.x - state.x)
        told = sigma_next * place.time_scale if end.updates_left else sigma_next
        return replace(end, x=x, sigma=told)
