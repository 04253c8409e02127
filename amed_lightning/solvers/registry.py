"""The solvers that configurations call by name.

Each takes an optional placer. Given one, a rule with a single evaluation becomes AMED-Plugin on that rule, and a
two-stage rule asks its second question there.
"""

from collections.abc import Callable
from typing import Literal

from amed_lightning.noise.form import Form
from amed_lightning.solvers.adams_bashforth import Equidistant, VariableStep
from amed_lightning.solvers.deis import DEIS
from amed_lightning.solvers.dpm_solver_pp import DPMSolverPlusPlus, Prediction
from amed_lightning.solvers.multistep import Multistep, OneEvaluation
from amed_lightning.solvers.placement import FixedPlacement, Placer
from amed_lightning.solvers.refined import Refined
from amed_lightning.solvers.state import Solver
from amed_lightning.solvers.two_stage import TwoStage, mean_direction, second_order
from amed_lightning.solvers.unipc import UniPC

MIDDLE, END = FixedPlacement(0.5), FixedPlacement(1.0)


def _placed(base: OneEvaluation, placer: Placer | None) -> Solver:
    return base if placer is None else Refined(base, placer)


def euler(placer: Placer | None = None) -> Solver:
    """Euler's method, which is DDIM."""
    return _placed(Multistep(Equidistant(1)), placer)


def heun(placer: Placer | None = None) -> TwoStage:
    """Heun's method, EDM's sampler."""
    return TwoStage(second_order, placer or END)


def dpm_solver_2(placer: Placer | None = None) -> TwoStage:
    """DPM-Solver-2; a fixed placer gives it another ratio than 1/2."""
    return TwoStage(second_order, placer or MIDDLE)


def ipndm(placer: Placer | None = None, order: int = 4) -> Solver:
    """Adams-Bashforth with the weights of an equidistant grid; orders 1 to 4."""
    return _placed(Multistep(Equidistant(order)), placer)


def ipndm_v(placer: Placer | None = None, order: int = 4, form: Form = "published") -> Solver:
    """Adams-Bashforth with the weights of the grid it is on; orders 1 to 4."""
    return _placed(Multistep(VariableStep(order, form)), placer)


def deis(
    placer: Placer | None = None, order: int = 4, variable: Literal["tAB", "rhoAB"] = "tAB", form: Form = "published"
) -> Solver:
    """DEIS; orders 1 to 4 count answers, so that order 4 is tAB3."""
    return _placed(Multistep(DEIS(order, variable, form)), placer)


def dpm_solver_pp(
    placer: Placer | None = None,
    order: int = 3,
    prediction: Prediction = "data",
    lower_order_final: bool = True,
    form: Form = "published",
) -> Solver:
    """DPM-Solver++, multistep; orders 1 to 3. Thresholding is the model's, in the published form too."""
    return _placed(Multistep(DPMSolverPlusPlus(order, prediction, lower_order_final, form)), placer)


def unipc(
    placer: Placer | None = None,
    order: int = 3,
    prediction: Prediction = "data",
    variant: Literal["bh1", "bh2"] = "bh2",
    lower_order_final: bool = True,
) -> Solver:
    """UniPC; orders 1 to 3. Thresholding is the model's."""
    return _placed(UniPC(order, prediction, variant, lower_order_final), placer)


def amed(placer: Placer | None = None) -> TwoStage:
    """AMED-Solver; without a learned placer it is DPM-Solver-2."""
    return TwoStage(mean_direction, placer or MIDDLE)


SOLVERS: dict[str, Callable[..., Solver]] = {
    "euler": euler,
    "heun": heun,
    "dpm_solver_2": dpm_solver_2,
    "ipndm": ipndm,
    "ipndm_v": ipndm_v,
    "deis": deis,
    "dpm_solver_pp": dpm_solver_pp,
    "unipc": unipc,
    "amed": amed,
}


def network_runs(solver: Solver, num_intervals: int, afs: bool) -> int:
    """Return the evaluations that N intervals take; the analytic first step saves one."""
    return solver.evaluations_per_interval * num_intervals - afs


def evaluations_for(nfe: int, cost: int) -> int:
    """Return the evaluations that ``nfe`` network runs allow where each costs ``cost``.

    Raises:
        ValueError: they do not divide.
    """
    if nfe % cost:
        raise ValueError(f"every evaluation of this model costs {cost} network runs, which do not divide {nfe}")
    return nfe // cost


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
