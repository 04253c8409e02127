"""AMED-Plugin: any one-evaluation solver, every interval cut where a placer says (Zhou et al. 2024, section 3.4).

An interval is two updates of the base solver around the placed level s, with the base's own history: both half-steps
enter it, at the levels sigma and s, and its warm-up and final orders count half-steps. What the network adds in the
second update is multiplied by the direction scale; its query level by the time scale.
"""

from dataclasses import dataclass, replace

from amed_lightning.flow.probability_flow import Evaluation, ProbabilityFlow
from amed_lightning.noise.schedules import Grid
from amed_lightning.solvers.multistep import OneEvaluation
from amed_lightning.solvers.placed import PlacedSolver
from amed_lightning.solvers.placement import Placement, Placer
from amed_lightning.solvers.state import SolverState
from amed_lightning.tensors import Images, Level


@dataclass(frozen=True)
class Refined(PlacedSolver):
    """Two updates of ``base`` per interval.

    Args:
        base: the solver.
        placer: where the first update ends.
    """

    base: OneEvaluation
    placer: Placer

    @property
    def is_multistep(self) -> bool:
        """Whether the base looks back."""
        return self.base.is_multistep

    @property
    def warm_up_intervals(self) -> int:
        """Intervals until there are enough answers, two from each."""
        return (self.base.memory + 1) // 2

    def init(self, x: Images, sigmas: Grid, known: Evaluation | None = None) -> SolverState:
        """Return the state at ``sigmas[0]``."""
        state = self.base.init(x, sigmas, known)
        return replace(state, updates_left=2 * state.updates_left)

    def step_at(self, flow: ProbabilityFlow, state: SolverState, sigma_next: Level, place: Placement) -> SolverState:
        """Advance by one interval, placed as the caller says."""
        here, nfe = state.evaluated(flow)
        scaled = flow.scaled(place.time_scale)
        halfway = self.base.update(scaled, replace(state, known=here, nfe=nfe), place.level(state.sigma, sigma_next))
        there, nfe = halfway.evaluated(scaled)
        return self.base.update(flow, replace(halfway, known=there, nfe=nfe), sigma_next, place.direction_scale)
