r"""Solvers with two evaluations per interval and no memory.

From (x, sigma) with slope ``d_0``, the second evaluation happens at the placed level s, at ``x + (s - sigma) d_0``, and
gives ``d_s``. The interval is then crossed with a combination of the two:

AMED-Solver (Zhou et al. 2024, eq. 11): ``x' = x + c (sigma' - sigma) d_s``. The mean value theorem promises a good
point; the placer has to find it. With the fixed ratio 1/2 this is DPM-Solver-2; with another fixed ratio it is first
order only.

DPM-Solver-2 (Lu et al. 2022): ``x' = x + c (sigma' - sigma) (d_s / 2r + (1 - 1/2r) d_0)``, order 2 for every ratio r in
log-SNR. With ratio 1 it is Heun's method (EDM, Karras et al. 2022, algorithm 1), order 2.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

from amed_lightning.flow.probability_flow import Evaluation, ProbabilityFlow
from amed_lightning.noise.schedules import Grid
from amed_lightning.solvers.method import Method, Variant
from amed_lightning.solvers.placed import PlacedSolver
from amed_lightning.solvers.placement import FixedPlacement, Placement, Placer
from amed_lightning.solvers.state import SolverState
from amed_lightning.tensors import Images, Level

Slope: TypeAlias = Callable[[Images, Images, Level | float], Images]
"""Combines the derivatives at the interval's start and at the placed level, whose ratio is given."""


def mean_direction(start: Images, placed: Images, ratio: Level | float) -> Images:
    """Take the placed derivative alone."""
    return placed


def second_order(start: Images, placed: Images, ratio: Level | float) -> Images:
    """Extrapolate linearly in log-SNR to the interval's middle."""
    weight = 1 / (2 * ratio)
    return weight * placed + (1 - weight) * start


@dataclass(frozen=True)
class TwoStage(PlacedSolver):
    """Evaluate at the interval's start and where the placer says; cross with their slope.

    Args:
        slope: :func:`mean_direction` or :func:`second_order`.
        placer: where the second evaluation happens.
    """

    slope: Slope
    placer: Placer
    is_multistep = False
    warm_up_intervals = 0

    def init(self, x: Images, sigmas: Grid, known: Evaluation | None = None) -> SolverState:
        """Return the state at ``sigmas[0]``."""
        return SolverState(x, sigmas[0], known, (), len(sigmas) - 1, 0)

    def step_at(self, flow: ProbabilityFlow, state: SolverState, sigma_next: Level, place: Placement) -> SolverState:
        """Advance by one interval, placed as the caller says."""
        here, nfe = state.evaluated(flow)
        sigma_placed = place.level(state.sigma, sigma_next)
        x_placed = state.x + (sigma_placed - state.sigma) * here.derivative
        placed = flow.scaled(place.time_scale)(x_placed, sigma_placed)
        slope = self.slope(here.derivative, placed.derivative, place.ratio)
        h = sigma_next - state.sigma
        x = state.x + place.direction_scale * h * slope
        return SolverState(x, sigma_next, None, (), state.updates_left - 1, nfe + placed.cost)


@dataclass(frozen=True)
class Heun(Method):
    """Heun's method, EDM's sampler."""

    paper: ClassVar = "Karras et al. 2022 (EDM), [2206.00364](https://arxiv.org/abs/2206.00364)"
    variants: ClassVar = (Variant((2,), deviation="ends at the last level, with no step to σ = 0"),)  # noqa: RUF001

    def solver(self, placer: Placer | None) -> TwoStage:
        """Return the solver, its second evaluation at the ratio 1 unless a placer says otherwise."""
        return TwoStage(second_order, placer or FixedPlacement(1.0))


@dataclass(frozen=True)
class DPMSolver2(Method):
    """DPM-Solver-2; a fixed placer gives it another ratio than 1/2."""

    paper: ClassVar = "Lu et al. 2022, [2206.00927](https://arxiv.org/abs/2206.00927)"
    variants: ClassVar = (Variant((2,)),)

    def solver(self, placer: Placer | None) -> TwoStage:
        """Return the solver, its second evaluation at the ratio 1/2 unless a placer says otherwise."""
        return TwoStage(second_order, placer or FixedPlacement(0.5))


@dataclass(frozen=True)
class AMED(Method):
    """AMED-Solver; without a learned placer it is DPM-Solver-2."""

    paper: ClassVar = "Zhou et al. 2024, [2312.00094](https://arxiv.org/abs/2312.00094)"
    variants: ClassVar = (
        Variant((2,), deviation="none at the ratio ½, where it is `dpm_solver_2`; order 1 at any other fixed ratio"),
    )

    def solver(self, placer: Placer | None) -> TwoStage:
        """Return the solver, its second evaluation at the ratio 1/2 unless a placer says otherwise."""
        return TwoStage(mean_direction, placer or FixedPlacement(0.5))
