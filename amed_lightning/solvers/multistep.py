"""Solvers with one evaluation per interval, which may also use past ones.

:class:`Multistep` keeps the history, a rule is the arithmetic. A rule returns its update in two parts, what is carried
over and what the network adds, because AMED-Plugin scales only the second.
"""

from dataclasses import dataclass

from amed_lightning.flow.probability_flow import Evaluation, ProbabilityFlow
from amed_lightning.noise.schedules import Grid
from amed_lightning.solvers.rule import Rule
from amed_lightning.solvers.state import SolverState
from amed_lightning.tensors import Images, Level


@dataclass(frozen=True)
class Multistep:
    """Apply a rule, with a warm-up of rising order.

    Args:
        rule: the update.
    """

    rule: Rule
    evaluations_per_interval: int = 1

    @property
    def is_multistep(self) -> bool:
        """Whether the rule looks back."""
        return self.rule.max_order > 1

    def init(self, x: Images, sigmas: Grid, known: Evaluation | None = None) -> SolverState:
        """Return the state at ``sigmas[0]``."""
        return SolverState(x, sigmas[0], known, (), len(sigmas) - 1, 0)

    def step(self, flow: ProbabilityFlow, state: SolverState, sigma_next: Level) -> SolverState:
        """Advance by one interval."""
        return self.update(flow, state, sigma_next)

    def update(
        self, flow: ProbabilityFlow, state: SolverState, sigma_next: Level, direction_scale: Level | float = 1.0
    ) -> SolverState:
        """Advance to ``sigma_next``, what the network adds multiplied by ``direction_scale``."""
        here, nfe = state.evaluated(flow)
        answers = (*state.history, here)
        carried, increment = self.rule(state.x, answers[::-1], sigma_next, state.updates_left)
        kept = answers[max(0, len(answers) - self.rule.max_order + 1) :]
        return SolverState(carried + direction_scale * increment, sigma_next, None, kept, state.updates_left - 1, nfe)
