"""Making a step's table: ask the network at the nodes, and at more of them until the table no longer changes."""

from dataclasses import dataclass, replace
from functools import partial
from itertools import product

import torch
from jaxtyping import Float
from torch import Tensor

from amed_lightning.denoisers.cached import CachedDenoiser, Noted
from amed_lightning.flow.model import Condition
from amed_lightning.flow.probability_flow import ProbabilityFlow
from amed_lightning.noise.schedules import Grid
from amed_lightning.solvers.placed import PlacedSolver
from amed_lightning.solvers.placement import Placement
from amed_lightning.solvers.state import SolverState
from amed_lightning.teacher.nodes import AXES, Axis, AxisName, Nodes
from amed_lightning.teacher.step_table import StepTable
from amed_lightning.tensors import Images, per_sample

_PROBES = 32
"""Ratios at which two sets of nodes are compared; none is a node."""
_TIME_PARTS = (0.3, 0.93)
"""How far along their axis the time scales are at which they are compared, likewise."""
TINY = 1e-30


@dataclass(frozen=True)
class Agreement:
    """When there are enough nodes.

    Attributes:
        bound: the mean loss may change by this much of itself where every second node of an axis is left out. The
            error that remains is about its square, because polynomials converge geometrically.
        most: nodes of an axis at which to give up; the table says by how much it misses the bound.
    """

    bound: float = 0.05
    most: int = 33


def tabulate(
    solver: PlacedSolver,
    denoiser: CachedDenoiser,
    condition: Condition | None,
    start: SolverState,
    sigmas: Grid,
    target: Images,
    nodes: Nodes,
) -> StepTable:
    """Ask at every node and keep the inner products.

    Args:
        solver: of the student.
        denoiser: the network; what it was asked before is not asked again.
        condition: labels, or None.
        start: of the interval, with the flow's answer there.
        sigmas: the student's levels from there on.
        target: the teacher's states at the interval's end.
        nodes: placements to ask at.
    """
    assert start.known is not None, "the flow's answer at the interval's start is not known"
    asked: list[list[Images]] = []
    for place in nodes.placements():
        noted = Noted(denoiser)
        # Where past levels are one per sample, so is this one.
        everywhere = place.per_sample(start.x) if start.history else place
        solver.step_at(ProbabilityFlow(noted, condition), start, sigmas[1], everywhere)
        asked.append([(q.x - q.answer.image) / (q.sigma / place.time_scale) for q in noted.queries])
    answers = [vector for answer in (*start.history, start.known) for vector in (answer.derivative, answer.denoised)]
    slopes = [slope for query in zip(*asked, strict=True) for slope in query]
    vectors = (target.double() - start.x.double(), start.x, *answers, *slopes)
    directions = torch.stack([vector.double().flatten(1) for vector in vectors], 1)
    levels = [per_sample(answer.sigma.double(), len(target)) for answer in start.history]
    return StepTable(
        sigmas=sigmas,
        nodes=nodes,
        gram=directions @ directions.mT,
        features=start.known.features,
        past=torch.stack(levels, 1) if levels else directions.new_zeros(len(target), 0),
    )


def tabulate_until_agreed(
    solver: PlacedSolver,
    denoiser: CachedDenoiser,
    condition: Condition | None,
    start: SolverState,
    sigmas: Grid,
    target: Images,
    nodes: Nodes,
    agreement: Agreement,
) -> StepTable:
    """Tabulate, with more nodes on every axis that needs them; the arguments are those of :func:`tabulate`."""
    make = partial(tabulate, solver, denoiser, condition, start, sigmas, target)
    while True:
        table = make(nodes)
        sizes = {axis: len(getattr(nodes, axis)) for axis in AXES}
        found = {axis: disagreement(table, solver, axis) for axis in AXES if sizes[axis] > 2}
        short = [axis for axis, value in found.items() if not value <= agreement.bound]
        short = [axis for axis in short if 2 * sizes[axis] - 1 <= agreement.most]
        if not short:
            return replace(table, disagreement=max(found.values(), default=0.0))
        for axis in short:
            nodes = nodes.finer(axis)


def disagreement(table: StepTable, solver: PlacedSolver, axis: AxisName) -> float:
    """Return by how much of itself the mean loss changes where every second node of an axis is left out, at its worst.

    Args:
        table: an interval.
        solver: of a student.
        axis: whose nodes are left out.
    """
    places = _probes(table.nodes)
    fine, coarse = (_mean_losses(each, solver, places) for each in (table, table.coarser(axis)))
    return float(((fine - coarse).abs() / fine.clamp(min=TINY)).max())


def _mean_losses(table: StepTable, solver: PlacedSolver, places: list[Placement]) -> Float[Tensor, "places"]:
    """Return the mean loss where all samples are placed alike, for several placements."""
    if table.past.shape[1]:
        return torch.stack([table.losses(solver, place).mean() for place in places])
    averaged = table.averaged(len(places))
    entries = ([getattr(place, name) for place in places] for name in ("ratio", "direction_scale", "time_scale"))
    return averaged.losses(solver, Placement(*(averaged.gram.new_tensor(e).reshape(-1, 1, 1, 1) for e in entries)))


def _probes(nodes: Nodes) -> list[Placement]:
    """Return placements between the nodes."""
    along = product(range(_PROBES), _TIME_PARTS if len(nodes.time_scale) > 1 else _TIME_PARTS[:1])
    return [Placement(_at(nodes.ratio, (i + 0.5) / _PROBES), 1.0, _at(nodes.time_scale, part)) for i, part in along]


def _at(axis: Axis, part: float) -> float:
    return axis[0] + (axis[-1] - axis[0]) * part
