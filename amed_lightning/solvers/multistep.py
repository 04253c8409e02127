"""Solvers with one evaluation per interval, which may also use past ones.

:class:`Multistep` keeps the history; a :class:`Rule` is the arithmetic. A rule returns its update in two parts, what is
carried over and what the network adds, because AMED-Plugin scales only the second.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from amed_lightning.flow.probability_flow import Evaluation, ProbabilityFlow
from amed_lightning.noise.schedules import Grid
from amed_lightning.solvers.state import SolverState
from amed_lightning.tensors import Images, Level


@runtime_checkable
class Rule(Protocol):
    """One update from the newest answers.

    Attributes:
        max_order: how many answers it uses once they are there.
    """

    @property
    def max_order(self) -> int: ...

    def __call__(
        self, x: Images, answers: Sequence[Evaluation], sigma_next: Level, updates_left: int
    ) -> tuple[Images, Images]:
        """Return (carried, increment), whose sum is the state at ``sigma_next``.

        Args:
            x: the state at the newest answer's level.
            answers: 1 to ``max_order`` answers, newest first.
            sigma_next: the level to reach.
            updates_left: this update and those after it.
        """
        ...


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
