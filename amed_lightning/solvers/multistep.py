"""Solvers with one evaluation per interval, which may also use past ones, and AMED-Plugin around them.

:class:`OneEvaluation` is what they share. A :class:`Rule` is the arithmetic alone, :class:`Multistep` keeps the history
around it. A rule returns its update in two parts, what is carried over and what the network adds, because AMED-Plugin
scales only the second.

AMED-Plugin is any of them, every interval cut where a placer says (Zhou et al. 2024, section 3.4): two updates of the
base solver around the placed level s, with the base's own history. Both half-steps enter it, at the levels sigma and s,
and its warm-up and final orders count half-steps. What the network adds in the second update is multiplied by the
direction scale; its query level by the time scale.
"""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace

from amed_lightning.flow.probability_flow import Evaluation, ProbabilityFlow
from amed_lightning.noise.form import Form
from amed_lightning.noise.schedules import Grid
from amed_lightning.solvers.method import Method
from amed_lightning.solvers.placed import PlacedSolver
from amed_lightning.solvers.placement import Placement, Placer
from amed_lightning.solvers.state import Solver, SolverState
from amed_lightning.tensors import Images, Level


class OneEvaluation(Method):
    """A solver with one evaluation per interval and a memory of past ones."""

    @property
    @abstractmethod
    def memory(self) -> int:
        """Number of past evaluations that it uses."""

    @abstractmethod
    def step(
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
        """Updates of a lower order than its own: before there are enough evaluations, and a fall-back at the end."""
        return self.memory

    @property
    def warm_up_intervals(self) -> int:
        """As many intervals: an update each."""
        return self.updates_below_order

    def solver(self, placer: Placer | None) -> Solver:
        """Return this solver, or AMED-Plugin on it."""
        return self if placer is None else Refined(self, placer)

    def init(self, x: Images, sigmas: Grid, known: Evaluation | None = None) -> SolverState:
        """Return the state at ``sigmas[0]``."""
        return SolverState(x, sigmas[0], known, (), len(sigmas) - 1, 0)

    def remembered(self, evaluations: tuple[Evaluation, ...]) -> tuple[Evaluation, ...]:
        """Keep of all evaluations, newest last, those that the next update needs."""
        return evaluations[max(0, len(evaluations) - self.memory) :]


class Rule(Method):
    """One update from the newest evaluations; its history and its warm-up are :class:`Multistep`'s.

    Attributes:
        order: how many evaluations it uses once they are there.
        lower_order_final: whether it falls back to lower orders at the last updates.
    """

    order: int
    lower_order_final: bool = False

    @abstractmethod
    def __call__(
        self, x: Images, evaluations: Sequence[Evaluation], sigma_next: Level, updates_left: int
    ) -> tuple[Images, Images]:
        """Return (carried, increment), whose sum is the state at ``sigma_next``.

        Args:
            x: the state at the newest evaluation's level.
            evaluations: 1 to ``order`` evaluations, newest first.
            sigma_next: the level to reach.
            updates_left: this update and those after it.
        """

    def solver(self, placer: Placer | None) -> Solver:
        """Return the solver that applies it."""
        return Multistep(self).solver(placer)


@dataclass(frozen=True)
class Multistep(OneEvaluation):
    """Apply a rule, with a warm-up of rising order.

    Args:
        rule: the update.
    """

    rule: Rule

    @property
    def memory(self) -> int:
        """Number of past evaluations that the rule uses."""
        return self.rule.order - 1

    @property
    def updates_below_order(self) -> int:
        """The warm-up, and as many at the end where the rule falls back to lower orders there."""
        return 2 * self.memory if self.rule.lower_order_final else self.memory

    def step(
        self, flow: ProbabilityFlow, state: SolverState, sigma_next: Level, direction_scale: Level | float = 1.0
    ) -> SolverState:
        """Advance to ``sigma_next``, what the network adds multiplied by ``direction_scale``."""
        here, nfe = state.evaluated(flow)
        evaluations = (*state.history, here)
        carried, increment = self.rule(state.x, evaluations[::-1], sigma_next, state.updates_left)
        x = carried + direction_scale * increment
        return SolverState(x, sigma_next, None, self.remembered(evaluations), state.updates_left - 1, nfe)


@dataclass(frozen=True)
class Refined(PlacedSolver):
    """AMED-Plugin: two updates of ``base`` per interval.

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
        """Intervals until there are enough evaluations, two from each."""
        return (self.base.memory + 1) // 2

    def init(self, x: Images, sigmas: Grid, known: Evaluation | None = None) -> SolverState:
        """Return the state at ``sigmas[0]``."""
        state = self.base.init(x, sigmas, known)
        return replace(state, updates_left=2 * state.updates_left)

    def step_at(self, flow: ProbabilityFlow, state: SolverState, sigma_next: Level, place: Placement) -> SolverState:
        """Advance by one interval, placed as the caller says."""
        here, nfe = state.evaluated(flow)
        scaled = flow.scaled(place.time_scale)
        halfway = self.base.step(scaled, replace(state, known=here, nfe=nfe), place.level(state.sigma, sigma_next))
        there, nfe = halfway.evaluated(scaled)
        return self.base.step(flow, replace(halfway, known=there, nfe=nfe), sigma_next, place.direction_scale)


def usable_order(available: int, order: int, updates_left: int, lower_order_final: bool, form: Form) -> int:
    """Return the order of an update.

    Args:
        available: evaluations that are there, at most ``order``.
        order: of the rule.
        updates_left: this update and those after it.
        lower_order_final: fall back to lower orders at the last updates.
        form: as published, the fall-back does not touch the warm-up; the textbook's does.
    """
    warm = available == order
    return min(available, updates_left) if lower_order_final and (warm or form == "textbook") else available
