"""Solvers with one evaluation per interval, which may also use past ones.

:class:`OneEvaluation` is what they share. :class:`Multistep` keeps the history around a rule, which is the arithmetic
alone. A rule returns its update in two parts, what is carried over and what the network adds, because AMED-Plugin
scales only the second.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from amed_lightning.flow.probability_flow import Evaluation, ProbabilityFlow
from amed_lightning.noise.schedules import Grid
from amed_lightning.solvers.rule import Rule
from amed_lightning.solvers.state import SolverState
from amed_lightning.tensors import Images, Level


class OneEvaluation(ABC):
    """A solver with one evaluation per interval and a memory of past ones."""

    @property
    @abstractmethod
    def memory(self) -> int:
        """Number of past answers that it uses."""

    @abstractmethod
    def update(
        self, flow: ProbabilityFlow, state: SolverState, sigma_next: Level, direction_scale: Level | float = 1.0
    ) -> SolverState:
        """Advance to ``sigma_next``, what the network adds multiplied by ``direction_scale``."""

    @property
    def evaluations_per_interval(self) -> int:
        """One."""
        return 1

    @property
    def is_multistep(self) -> bool:
        """Whether it looks back."""
        return self.memory > 0

    @property
    def updates_below_order(self) -> int:
        """Updates of a lower order than its own: those before there are enough answers, and a fall-back at the end."""
        return self.memory

    @property
    def warm_up_intervals(self) -> int:
        """As many intervals: an update each."""
        return self.updates_below_order

    def init(self, x: Images, sigmas: Grid, known: Evaluation | None = None) -> SolverState:
        """Return the state at ``sigmas[0]``."""
        return SolverState(x, sigmas[0], known, (), len(sigmas) - 1, 0)

    def step(self, flow: ProbabilityFlow, state: SolverState, sigma_next: Level) -> SolverState:
        """Advance by one interval."""
        return self.update(flow, state, sigma_next)

    def remembered(self, answers: tuple[Evaluation, ...]) -> tuple[Evaluation, ...]:
        """Keep of all answers, newest last, those that the next update needs."""
        return answers[max(0, len(answers) - self.memory) :]


@dataclass(frozen=True)
class Multistep(OneEvaluation):
    """Apply a rule, with a warm-up of rising order.

    Args:
        rule: the update.
    """

    rule: Rule

    @property
    def memory(self) -> int:
        """Number of past answers that the rule uses."""
        return self.rule.max_order - 1

    @property
    def updates_below_order(self) -> int:
        """The warm-up, and as many at the end where the rule falls back to lower orders there."""
        return 2 * self.memory if getattr(self.rule, "lower_order_final", False) else self.memory

    def update(
        self, flow: ProbabilityFlow, state: SolverState, sigma_next: Level, direction_scale: Level | float = 1.0
    ) -> SolverState:
        """Advance to ``sigma_next``, what the network adds multiplied by ``direction_scale``."""
        here, nfe = state.evaluated(flow)
        answers = (*state.history, here)
        carried, increment = self.rule(state.x, answers[::-1], sigma_next, state.updates_left)
        x = carried + direction_scale * increment
        return SolverState(x, sigma_next, None, self.remembered(answers), state.updates_left - 1, nfe)
