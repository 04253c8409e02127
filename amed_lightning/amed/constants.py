r"""The same placement for every sample of an interval: a few numbers per interval, and so a table.

``constants`` have one ratio and one direction scale per interval. ``coefficients`` keep the ratio at 1/2 and weigh the
two derivatives freely: ``x' = x + h (alpha d_0 + beta d_s)``. A predictor that does no better than these has not used
what it sees.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from amed_lightning.config import build
from amed_lightning.flow.probability_flow import Evaluation, ProbabilityFlow
from amed_lightning.noise.schedules import Grid
from amed_lightning.solvers.placed import PlacedSolver
from amed_lightning.solvers.placement import FixedPlacement, Placement
from amed_lightning.solvers.registry import SOLVERS
from amed_lightning.solvers.state import SolverState
from amed_lightning.solvers.tabulated import Table, Tabulated, table_of
from amed_lightning.tensors import Images, Level

ConstantForm: TypeAlias = Literal["constants", "coefficients"]
Numbers: TypeAlias = Float[Tensor, "intervals 3"]
"""Of each interval: ratio, direction scale, and what is added of the derivative at its start (alpha)."""
_COLUMNS = ("ratio", "direction_scale", "start_scale")


@dataclass(frozen=True)
class _Placed:
    """A one-step solver that finds an interval's numbers by its first level."""

    base: PlacedSolver
    numbers: Mapping[float, tuple[float, float, float]]
    evaluations_per_interval = 2
    is_multistep = False
    warm_up_intervals = 0

    def init(self, x: Images, sigmas: Grid, known: Evaluation | None = None) -> SolverState:
        return self.base.init(x, sigmas, known)

    def step(self, flow: ProbabilityFlow, state: SolverState, sigma_next: Level) -> SolverState:
        ratio, direction, start = self.numbers[float(state.sigma)]
        here, nfe = state.evaluated(flow)
        end = self.base.step_at(flow, replace(state, known=here, nfe=nfe), sigma_next, Placement(ratio, direction))
        return replace(end, x=end.x + start * (sigma_next - state.sigma) * here.derivative)


def constants_table(solver: PlacedSolver, sigmas: Grid, afs: bool, numbers: Numbers) -> Table:
    """Return the table of a one-step solver whose every interval is placed by its own numbers.

    Args:
        solver: around any placer.
        sigmas: its N + 1 levels, in float64.
        afs: whether its first evaluation is analytic.
        numbers: of the N intervals.
    """
    of_level = {sigma: tuple(row) for sigma, row in zip(sigmas.tolist()[:-1], numbers.tolist(), strict=True)}
    return table_of(_Placed(solver, of_level), sigmas, afs)


def _read_constants(
    form: ConstantForm, options: Mapping[str, Any], numbers: Mapping[str, Tensor], purpose: Mapping[str, Any]
) -> Tabulated:
    """Read the numbers per interval that files held before they held tables.

    Raises:
        ValueError: numbers of another number of intervals.
    """
    columns = torch.stack([numbers[name].double() for name in _COLUMNS], 1)
    if columns.shape != (options["num_intervals"], 3) or len(numbers) != len(_COLUMNS) + 1:
        raise ValueError("its numbers are not those that its options say")
    solver = build("solver", SOLVERS, purpose["solver"], placer=FixedPlacement(0.5))
    assert isinstance(solver, PlacedSolver)
    sigmas = torch.tensor(purpose["sigmas"], dtype=torch.float64)
    return Tabulated(constants_table(solver, sigmas, purpose["afs"], columns), form)


READERS = {form: partial(_read_constants, form) for form in ("constants", "coefficients")}
