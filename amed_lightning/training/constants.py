"""Students of a few numbers per interval, out of a table: what a predictor must beat.

At a given ratio the loss is quadratic in the factors of the derivatives, so the best ones solve the normal equations,
in float64: two almost parallel derivatives leave nothing of a float32 solution. Where they are parallel, or one of them
has no effect (AMED-Plugin's second half-step at ratio 1), the smallest solution is taken. The ratio of the constants is
searched.

A predictor that begins at the constants is nowhere worse than they are. One that begins anywhere else may not get
there: where the best ratio of an interval is close to 0, as under an analytic first step, all ratios run that way, and
the sigmoid's gradient is gone before the other intervals have pulled theirs back.
"""

from collections.abc import Sequence
from copy import deepcopy
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn

from amed_lightning.amed.constants import ConstantForm, Numbers
from amed_lightning.solvers.placed import PlacedSolver
from amed_lightning.solvers.placement import Placement
from amed_lightning.teacher.step_table import StepTable, Weights
from amed_lightning.tensors import is_finite

Ratios: TypeAlias = Float[Tensor, "tried"]
Losses: TypeAlias = Float[Tensor, "tried"]
MIDDLE = 0.5
APPROACH_STEPS, APPROACH_RATE = 200, 1e-2
REACHED = 0.9
"""Part of a bound that a sigmoid reaches soon enough."""
RATIOS = 64
"""Ratios that are tried, and then as many between the neighbours of the best."""
_NEAREST = 1 / RATIOS**2
"""To an end of the interval that a predictor is to reach, as near as the search comes to its beginning."""


def fit_constants(solver: PlacedSolver, tables: Sequence[StepTable]) -> Numbers:
    """Search each interval's ratio, with the best direction scale at each."""
    return torch.cat([_searched(solver, table) for table in tables])


def fit_coefficients(solver: PlacedSolver, tables: Sequence[StepTable]) -> Numbers:
    """Weigh the derivatives at each interval's start and middle freely."""
    middle = tables[0].gram.new_full((1,), MIDDLE)
    return torch.cat([best_factors("coefficients", solver, table, middle)[0] for table in tables])


def losses_of(solver: PlacedSolver, table: StepTable, numbers: Float[Tensor, "3"]) -> Float[Tensor, "rows"]:
    """Return each sample's squared distance to the teacher at the end of an interval with these numbers."""
    ratio, direction, start = numbers
    left = table.residual(solver, Placement(ratio, direction)) - start * table.start_slope
    return table.products(left, left)


def best_factors(form: ConstantForm, solver: PlacedSolver, table: StepTable, ratios: Ratios) -> tuple[Numbers, Losses]:
    """Choose, at each of several ratios, the factors that minimise the mean loss.

    Args:
        form: constants have a factor of the placed derivative, coefficients one of the first derivative too.
        solver: of the student.
        table: an interval of a one-step student.
        ratios: to choose at.

    Returns:
        The numbers of each ratio, and their losses.
    """
    means = table.averaged(len(ratios))
    places = ratios.reshape(-1, 1, 1, 1)
    without = means.residual(solver, Placement(places, direction_scale=0.0))
    placed = means.residual(solver, Placement(places)) - without
    effects: list[Weights] = [placed, -table.start_slope.expand_as(placed)][: 1 if form == "constants" else 2]
    normal = torch.stack([torch.stack([means.products(a, b) for b in effects], -1) for a in effects], -2)
    right = torch.stack([-means.products(without, effect) for effect in effects], -1)
    factors = (torch.linalg.pinv(normal, hermitian=True) @ right[..., None])[..., 0]
    left = without + sum(factor[:, None] * effect for factor, effect in zip(factors.unbind(-1), effects, strict=True))
    numbers = ratios.new_zeros(len(ratios), 3)
    numbers[:, 0], numbers[:, 1 : 1 + len(effects)] = ratios, factors
    return numbers, means.products(left, left)


def approach(placer: nn.Module, constants: Numbers, tables: Sequence[StepTable], scale_dir: float) -> None:
    """Let a predictor place every sample where the constants do, as far as its bounds allow.

    One that saturates on the way, as on features far from 1, has no logits there: it begins where it was.

    Args:
        placer: learns.
        constants: of each interval.
        tables: whose samples it sees.
        scale_dir: bound of its direction scale's distance from 1.
    """
    before = deepcopy(placer.state_dict())
    optimizer = torch.optim.Adam(placer.parameters(), APPROACH_RATE)
    for _ in range(APPROACH_STEPS):
        optimizer.zero_grad()
        distance = torch.zeros((), device=tables[0].gram.device)
        for table, (ratio, direction, _) in zip(tables, constants, strict=True):
            own = placer(table.start, table.sigmas[0], table.sigmas[1])
            distance = distance + (own.ratio.logit() - ratio.logit(_NEAREST)).square().mean()
            if scale_dir:
                offset = ((direction - 1) / scale_dir).clamp(-REACHED, REACHED)
                distance = distance + ((own.direction_scale - 1) / scale_dir - offset).square().mean()
        torch.autograd.backward(distance)
        optimizer.step()
    if not is_finite(*placer.parameters()):
        placer.load_state_dict(before)


def _searched(solver: PlacedSolver, table: StepTable) -> Numbers:
    """Try ratios all over the table, then around the best."""
    low, high = table.nodes.ratio[0], table.nodes.ratio[-1]
    width, parts = (high - low) / RATIOS, torch.arange(RATIOS, dtype=torch.float64, device=table.gram.device)
    ratios = low + width * (parts + 0.5)
    for _ in range(2):
        found, losses = best_factors("constants", solver, table, ratios)
        best = found[losses.argmin(0, keepdim=True)][0]  # an index without dimensions would be read from the device
        ratios = (best[0] + width * (2 * parts / (RATIOS - 1) - 1)).clamp(low + width / RATIOS, high)
    return best[None]
