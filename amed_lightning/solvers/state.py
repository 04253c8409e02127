"""A solver's state and contract, and the loop that every use of a solver shares.

The state is a value: ``step`` reads one and returns another, so a trajectory can be stopped, stored and resumed at any
interval. Sampling is :func:`solve`; a teacher's roll-out and training read the states of :func:`trajectory`.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

from amed_lightning.flow.probability_flow import Evaluation, ProbabilityFlow
from amed_lightning.noise.schedules import Grid
from amed_lightning.tensors import Images, Level


@dataclass(frozen=True, slots=True)
class SolverState:
    """Where a solver stands.

    Attributes:
        x: samples at level ``sigma``.
        sigma: shape (), or (batch, 1, 1, 1) inside an interval whose end a placer chose per sample.
        known: the flow's evaluation at (x, sigma) if there is one already (analytic first step, a stored one).
        history: past evaluations, newest last, no more than the rule needs.
        updates_left: updates until sigma_min, this interval's included.
        nfe: network runs per sample so far.
    """

    x: Images
    sigma: Level
    known: Evaluation | None
    history: tuple[Evaluation, ...]
    updates_left: int
    nfe: int

    def evaluated(self, flow: ProbabilityFlow) -> tuple[Evaluation, int]:
        """Return the flow's evaluation here, and the total of network runs with it; a known one costs nothing."""
        if self.known is not None:
            return self.known, self.nfe
        here = flow(self.x, self.sigma)
        return here, self.nfe + here.cost

    def detach(self) -> "SolverState":
        """Cut the gradient, also through the history."""
        history = tuple(evaluation.detach() for evaluation in self.history)
        known = None if self.known is None else self.known.detach()
        return replace(self, x=self.x.detach(), sigma=self.sigma.detach(), known=known, history=history)


@runtime_checkable
class Solver(Protocol):
    """Advances states along a grid of levels.

    Attributes:
        evaluations_per_interval: evaluations of the flow that an interval takes.
        is_multistep: past evaluations are used; such a solver cannot restart from another state in mid-trajectory.
        warm_up_intervals: so many intervals, or fewer, are all crossed at a lower order than its own.
    """

    @property
    def evaluations_per_interval(self) -> int: ...

    @property
    def is_multistep(self) -> bool: ...

    @property
    def warm_up_intervals(self) -> int: ...

    def init(self, x: Images, sigmas: Grid, known: Evaluation | None = None) -> SolverState:
        """Return the state at the first of the N + 1 levels ``sigmas``."""
        ...

    def step(self, flow: ProbabilityFlow, state: SolverState, sigma_next: Level) -> SolverState:
        """Advance by one interval; ``state`` stays as it is."""
        ...


def trajectory(
    solver: Solver, flow: ProbabilityFlow, x: Images, sigmas: Grid, *, known: Evaluation | None = None
) -> Iterator[SolverState]:
    """Yield the N + 1 states of a solver along N + 1 levels.

    Args:
        solver: the update rule.
        flow: evaluations for this batch.
        x: samples at the first level.
        sigmas: decreasing levels, in float64.
        known: the flow's evaluation at the start, if there is one.
    """
    sigmas = sigmas.to(x.device)
    state = solver.init(x, sigmas, known)
    yield state
    for sigma_next in sigmas[1:]:
        state = solver.step(flow, state, sigma_next)
        yield state


def solve(
    solver: Solver, flow: ProbabilityFlow, x: Images, sigmas: Grid, *, known: Evaluation | None = None
) -> SolverState:
    """Return the last state of :func:`trajectory`."""
    return deque(trajectory(solver, flow, x, sigmas, known=known), maxlen=1).pop()
