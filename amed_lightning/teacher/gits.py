r"""GITS: choose the levels of a few-step run from a fine teacher's trajectories (Chen et al. 2024, ICML, section 3.3).

With ``x^_ij = x_i + (sigma_j - sigma_i) d_i`` the Euler jump from the teacher's own state i to level j, the cost of the
jump is ``dev``, by how much farther x^_ij lies than x_j from the straight line through the trajectory's ends, as in the
published recipe; ``l2``, the distance between x^_ij and x_j; or ``l1``, the sum of absolute differences. Costs are
means over samples.

A dynamic program finds the path of N jumps: ``V_k(i) = min_j cost(i, j) + gamma V_(k-1)(j)``, so gamma above 1 makes
later costs weigh more (1.15 in the published recipe, 1.1 on others); ties go to the lowest index. Under an analytic
first step the teacher takes it too, and if the first jump passes over levels, the one is inserted from which the
student ends nearest to the teacher.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from amed_lightning.flow.probability_flow import ProbabilityFlow
from amed_lightning.noise.found import Metric
from amed_lightning.sampling.finite import USUAL_CAUSE
from amed_lightning.sampling.sampler import Sampler
from amed_lightning.solvers.state import solve
from amed_lightning.teacher.trajectories import Trajectories
from amed_lightning.tensors import is_finite, squared_distance

Costs: TypeAlias = Float[Tensor, "levels levels"]
States: TypeAlias = Float[Tensor, "batch levels pixels"]
Targets: TypeAlias = Float[Tensor, "batch targets pixels"]
Distances: TypeAlias = Float[Tensor, "batch targets"]


def jump_costs(batches: Iterable[Trajectories], sigmas: Float[Tensor, "levels"], metric: Metric) -> Costs:
    """Return the mean cost of every jump from level i to a later level j; others are infinite.

    Args:
        batches: the teacher's trajectories at all its levels; every sample counts alike.
        sigmas: its levels.
        metric: what a jump costs.
    """
    size = len(sigmas)
    total, count = torch.zeros(size, size, dtype=torch.float64), 0
    for batch in batches:
        count += len(batch.states)
        states, derivatives = batch.states.flatten(2).double(), batch.derivatives.flatten(2).double()
        for start in range(size - 1):
            steps = (sigmas[start + 1 :] - sigmas[start])[:, None]
            jumped = states[:, start, None] + steps * derivatives[:, start, None]
            total[start, start + 1 :] += _distance(jumped, states[:, start + 1 :], states, metric).sum(0)
    earlier = torch.ones(size, size).tril().bool()
    return (total / count).masked_fill(earlier, torch.inf)


def _distance(jumped: Targets, reached: Targets, states: States, metric: Metric) -> Distances:
    if metric == "l2":
        return (jumped - reached).norm(dim=2)
    if metric == "l1":
        return (jumped - reached).abs().sum(2)
    return _deviation(jumped, states) - _deviation(reached, states)


def _deviation(points: Targets, states: States) -> Distances:
    """Return the distance of points from the straight line through the first and last state."""
    first = states[:, :1]
    direction = torch.nn.functional.normalize(states[:, -1:] - first, dim=2)
    offset = points - first
    along = (offset * direction).sum(2, keepdim=True)
    return (offset - along * direction).norm(dim=2)


def cheapest_path(costs: Costs, num_intervals: int, gamma: float) -> list[int]:
    """Return the indices of the levels at which the cheapest path of N jumps stops, both ends included.

    Raises:
        ValueError: there are not enough levels for so many jumps, a cost is not finite, or gamma is not positive.
    """
    last = len(costs) - 1
    if not (is_finite(costs.triu(1)) and 0 < gamma < torch.inf):
        raise ValueError(f"no path is the cheapest where a jump's cost is not finite, or gamma is {gamma}")
    if not 1 <= num_intervals <= last:
        raise ValueError(f"{num_intervals} intervals cannot be chosen among {last}")
    table = costs.tolist()
    to_go = [torch.inf] * last + [0.0]
    choices: list[list[int]] = []
    for _ in range(num_intervals):
        totals = [[table[i][j] + gamma * to_go[j] for j in range(last + 1)] for i in range(last + 1)]
        to_go = [min(row) for row in totals]
        choices.append([row.index(least) for row, least in zip(totals, to_go, strict=True)])
    path = [0]
    for choice in reversed(choices):
        path.append(choice[path[-1]])
    return path


def with_inserted_level(
    path: Sequence[int], sampler: Sampler, sigmas: Float[Tensor, "levels"], teacher: Trajectories
) -> list[int]:
    """Insert the level below the first jump from which the student ends nearest to the teacher.

    Args:
        path: the chosen levels' indices.
        sampler: the student, with its analytic first step.
        sigmas: the teacher's levels.
        teacher: some of its trajectories.

    Raises:
        FloatingPointError: the student ends in a NaN or an infinity.
    """
    flow = ProbabilityFlow(sampler.model.denoiser, teacher.condition)
    start, end = teacher.states[:, 0], teacher.states[:, -1]

    def distance(candidate: list[int]) -> float:
        student = replace(sampler, sigmas=sigmas[candidate])
        state = solve(student.solver, flow, start, student.sigmas, known=student.known_at_start(start))
        found = float(squared_distance(state.x, end).sqrt().mean())
        if not math.isfinite(found):
            raise FloatingPointError(
                f"the student is not finite on the levels {student.sigmas.tolist()}; {USUAL_CAUSE}"
            )
        return found

    candidates = [[path[0], between, *path[1:]] for between in range(1, path[1])]
    with torch.inference_mode():
        return min(candidates, key=distance, default=list(path))
