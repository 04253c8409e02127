"""The solvers that configurations call by name.

Each takes an optional placer. Given one, a rule with a single evaluation becomes AMED-Plugin on that rule, and a
two-stage rule asks its second question there.
"""

from collections.abc import Callable
from typing import Literal

from amed_lightning.solvers.multistep import Multistep, Rule
from amed_lightning.solvers.placement import FixedPlacement, Placer
from amed_lightning.solvers.refined import Refined
from amed_lightning.solvers.rules import DPMSolverPlusPlus, EquidistantAdamsBashforth
from amed_lightning.solvers.state import Solver
from amed_lightning.solvers.two_stage import TwoStage, mean_direction, second_order

MIDDLE, END = FixedPlacement(0.5), FixedPlacement(1.0)


def _multistep(rule: Rule, placer: Placer | None) -> Solver:
    base = Multistep(rule)
    return base if placer is None else Refined(base, placer)


def euler(placer: Placer | None = None) -> Solver:
    """Euler's method, which is DDIM."""
    return _multistep(EquidistantAdamsBashforth(1), placer)


def heun(placer: Placer | None = None) -> Solver:
    """Heun's method, EDM's sampler."""
    return TwoStage(second_order, placer or END)


def dpm_solver_2(placer: Placer | None = None) -> Solver:
    """DPM-Solver-2; a fixed placer gives it another ratio than 1/2."""
    return TwoStage(second_order, placer or MIDDLE)


def ipndm(placer: Placer | None = None, order: int = 4) -> Solver:
    """Adams-Bashforth with the weights of an equidistant grid; orders 1 to 4."""
    return _multistep(EquidistantAdamsBashforth(order), placer)


def dpm_solver_pp(
    placer: Placer | None = None,
    order: int = 3,
    prediction: Literal["data", "noise"] = "data",
    lower_order_final: bool = True,
) -> Solver:
    """DPM-Solver++, multistep; orders 1 to 3."""
    return _multistep(DPMSolverPlusPlus(order, prediction, lower_order_final), placer)


def amed(placer: Placer | None = None) -> Solver:
    """AMED-Solver; without a learned placer it is DPM-Solver-2."""
    return TwoStage(mean_direction, placer or MIDDLE)


SOLVERS: dict[str, Callable[..., Solver]] = {
    "euler": euler,
    "heun": heun,
    "dpm_solver_2": dpm_solver_2,
    "ipndm": ipndm,
    "dpm_solver_pp": dpm_solver_pp,
    "amed": amed,
}


def network_runs(solver: Solver, num_intervals: int, afs: bool) -> int:
    """Return the evaluations that N intervals take; the analytic first step saves one."""
    return solver.evaluations_per_interval * num_intervals - afs


def intervals_for(solver: Solver, nfe: int, afs: bool) -> int:
    """Return the number of intervals that takes ``nfe`` evaluations.

    Raises:
        ValueError: no number of intervals does; the message names the nearest that one does.

    >>> intervals_for(amed(), 5, afs=True)
    3
    """
    per_interval = solver.evaluations_per_interval
    intervals, left_over = divmod(nfe + afs, per_interval)
    if left_over or intervals < 1:
        first = max(1, intervals)
        possible = [network_runs(solver, n, afs) for n in (first, first + 1)]
        step = "with" if afs else "without"
        raise ValueError(
            f"{nfe} evaluations are not possible {step} an analytic first step; the nearest are "
            f"{possible[0]} and {possible[1]}"
        )
    return intervals
