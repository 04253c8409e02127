"""The solvers that configurations call by name.

Each takes an optional placer. Given one, a rule with a single evaluation becomes AMED-Plugin on that rule, and a
two-stage rule asks its second query there.
"""

from collections.abc import Callable

from amed_lightning.solvers.adams_bashforth import Equidistant, Euler, VariableStep
from amed_lightning.solvers.deis import DEIS
from amed_lightning.solvers.dpm_solver_pp import DPMSolverPlusPlus
from amed_lightning.solvers.method import Method
from amed_lightning.solvers.state import Solver
from amed_lightning.solvers.two_stage import AMED, DPMSolver2, Heun
from amed_lightning.solvers.unipc import UniPC

METHODS: dict[str, type[Method]] = {
    "euler": Euler,
    "heun": Heun,
    "dpm_solver_2": DPMSolver2,
    "ipndm": Equidistant,
    "ipndm_v": VariableStep,
    "deis": DEIS,
    "dpm_solver_pp": DPMSolverPlusPlus,
    "unipc": UniPC,
    "amed": AMED,
}
SOLVERS: dict[str, Callable[..., Solver]] = {name: method.maker() for name, method in METHODS.items()}
"""What builds each, of a placer and the options."""


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

    >>> intervals_for(SOLVERS["amed"](), 5, afs=True)
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
