"""Students of a few numbers per interval, out of a table: what a predictor must beat.

At a given ratio the loss is quadratic in the factors of the derivatives, so the best ones solve the normal equations,
in float64: two almost parallel derivatives leave nothing of a float32 solution. The ratio of the constants is searched.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from amed_lightning.amed.constant import ConstantKind, ConstantPlacer
from amed_lightning.solvers.placed_step import PlacedStep
from amed_lightning.solvers.placement import Placement
from amed_lightning.teacher.step_table import StepTable

RATIOS = 64
"""Ratios that are tried, and then as many between the neighbours of the best."""
FACTORS: dict[ConstantKind, tuple[str, ...]] = {
    "constants": ("direction_scale",),
    "coefficients": ("direction_scale", "start_scale"),
}
"""What each kind chooses by least squares."""


def fit_constants(step: PlacedStep, tables: Sequence[StepTable]) -> ConstantPlacer:
    """Search each interval's ratio, with the best direction scale at each."""
    return _placer("constants", tables, [_searched(step, table) for table in tables])


def fit_coefficients(step: PlacedStep, tables: Sequence[StepTable]) -> ConstantPlacer:
    """Weigh the derivatives at each interval's start and middle freely."""
    return _placer("coefficients", tables, [best_factors("coefficients", step, table, 0.5)[0] for table in tables])


def best_factors(kind: ConstantKind, step: PlacedStep, table: StepTable, ratio: float) -> tuple[Placement, float]:
    """Return the placement with the factors that minimise the mean loss at a ratio, and that loss.

    Args:
        kind: which factors there are.
        step: of the student.
        table: an interval.
        ratio: of the placement.
    """
    names = FACTORS[kind]
    without = table.residual(step, Placement(ratio, 0.0))
    effects = [
        table.residual(step, Placement(ratio, **({"direction_scale": 0.0} | {name: 1.0}))) - without for name in names
    ]
    normal = torch.stack([torch.stack([table.products(a, b).mean() for b in effects]) for a in effects])
    right = torch.stack([-table.products(without, effect).mean() for effect in effects])
    factors: Float[Tensor, "factors"] = torch.linalg.solve(normal, right)
    place = Placement(ratio, **dict(zip(names, factors.tolist(), strict=True)))
    return place, float(table.losses(step, place).mean())


def _searched(step: PlacedStep, table: StepTable) -> Placement:
    low, high = table.nodes.ratio[0], table.nodes.ratio[-1]
    width = (high - low) / RATIOS
    best = min(
        (best_factors("constants", step, table, low + (index + 0.5) * width) for index in range(RATIOS)),
        key=lambda found: found[1],
    )
    middle = float(best[0].ratio)
    for index in range(RATIOS):
        ratio = min(max(middle + (2 * index / (RATIOS - 1) - 1) * width, low + width / RATIOS), high)
        best = min(best, best_factors("constants", step, table, ratio), key=lambda found: found[1])
    return best[0]


def _placer(kind: ConstantKind, tables: Sequence[StepTable], places: Sequence[Placement]) -> ConstantPlacer:
    placer = ConstantPlacer(kind, len(tables))
    placer.sigmas.copy_(torch.stack([table.sigmas[0] for table in tables]))
    for name in ("ratio", "direction_scale", "start_scale"):
        getattr(placer, name).copy_(torch.tensor([float(getattr(place, name)) for place in places]))
    return placer
