r"""A store's levels seen from a student's.

A level of the student that is stored is read as it is. Any other level sigma lies between stored levels
``sigma_j > sigma > sigma_(j+1)``, and with ``tau = ln sigma``, ``h = tau_(j+1) - tau_j`` and ``u = (tau - tau_j) / h``
the state there is the cubic Hermite polynomial through both ends, whose slopes ``dx/dtau = sigma d`` are stored:

    ``x = (1 + 2u)(1 - u)^2 x_j + u (1 - u)^2 h sigma_j d_j + u^2 (3 - 2u) x_(j+1) + u^2 (u - 1) h sigma_(j+1) d_(j+1)``

What the flow answers there, derivative and features, is interpolated in tau through the four nearest stored answers
(Lagrange). Both errors are of order four in h. The derivative of the Hermite polynomial would be a derivative too, but
one of order three: on the digits network, with 40 stored intervals, it is 3 to 35 times as far from the network's own
answer. At the last stored level there is no answer; where one is needed, it is extrapolated by the same formula, which
is why the answers inside the teacher's last interval are known less well. ``benchmarks/dense_store.py`` has figures.
"""

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import TypeAlias

import torch
from jaxtyping import Int
from torch import Tensor

from amed_lightning.config import InputError
from amed_lightning.noise.schedules import Grid
from amed_lightning.teacher.records import Layout, Rows
from amed_lightning.teacher.trajectories import TeacherRecipe, Trajectories

Weights: TypeAlias = dict[int, float]
"""Of stored levels, by index."""
SUPPORT = 4
"""Stored answers that one is interpolated from."""


@dataclass(frozen=True)
class LevelWeights:
    """How one level of a student is made of stored ones.

    Attributes:
        states: weights of states in the state there.
        slopes: weights of derivatives in the state there.
        answer: weights of derivatives in the derivative there, and of features in the features.
    """

    states: Weights
    slopes: Weights
    answer: Weights


def node_at(sigma: float, stored: Sequence[float]) -> LevelWeights:
    """Return how a level is made of stored ones.

    Args:
        sigma: the level.
        stored: decreasing levels; the first and the last enclose ``sigma``.

    Raises:
        InputError: they do not.
    """
    if not stored[-1] <= sigma <= stored[0]:
        raise InputError(f"the student's level {sigma:g} lies outside the teacher's, {stored[0]:g} to {stored[-1]:g}")
    last = len(stored) - 1
    right = bisect_left(stored, -sigma, key=lambda level: -level)
    if stored[right] == sigma:
        return LevelWeights({right: 1.0}, {}, {right: 1.0} if right < last else {})
    left = right - 1
    step = math.log(stored[right] / stored[left])
    u = math.log(sigma / stored[left]) / step
    slopes = {left: u * (1 - u) ** 2 * step * stored[left]}
    for index, weight in ({right: 1.0} if right < last else _interpolating(stored[last], stored)).items():
        slopes[index] = slopes.get(index, 0.0) + weight * u**2 * (u - 1) * step * stored[right]
    states = {left: (1 + 2 * u) * (1 - u) ** 2, right: u**2 * (3 - 2 * u)}
    return LevelWeights(states, slopes, _interpolating(sigma, stored))


def _interpolating(sigma: float, stored: Sequence[float]) -> Weights:
    """Return the weights of the nearest stored answers, two on either side where there are so many."""
    answers = len(stored) - 1
    below = bisect_left(stored, -sigma, key=lambda level: -level)
    first = max(0, min(below - SUPPORT // 2, answers - SUPPORT))
    support = range(first, min(first + SUPPORT, answers))
    return {
        i: math.prod(math.log(sigma / stored[j]) / math.log(stored[i] / stored[j]) for j in support if j != i)
        for i in support
    }


class View:
    """The pieces of a record that a student needs, and the trajectories that they make.

    Args:
        recipe: of the store.
        sigmas: the student's levels; all stored ones where None.

    Attributes:
        states: indices of the levels whose states are needed.
        answers: indices of the levels whose derivatives and features are.
        is_exact: whether the student's levels are among the stored ones.
        is_whole: whether all of a record is needed.
        row_bytes: size of what is read of a record.
    """

    def __init__(self, recipe: TeacherRecipe, sigmas: Grid | None) -> None:
        stored = recipe.stored_sigmas
        wanted = stored if sigmas is None else sigmas.tolist()
        self.nodes = [node_at(sigma, stored) for sigma in wanted]
        self.states = sorted({index for node in self.nodes for index in node.states})
        self.answers = sorted({index for node in self.nodes for index in (*node.slopes, *node.answer)})
        self.is_exact = not any(node.slopes for node in self.nodes)
        self.layout = Layout.of(recipe)
        self.pieces = self.layout.pieces(self.states, self.answers)
        self.row_bytes = sum(piece.stop - piece.start for piece in self.pieces)
        self.is_whole = self.row_bytes == self.layout.record_bytes

    def trajectories(self, rows: Rows, seeds: Int[Tensor, "batch"]) -> Trajectories:
        """Return the trajectories whose pieces ``rows`` holds, on its device, at the student's levels."""
        return self.at_levels(self.layout.unpack(rows, len(self.states), len(self.answers), seeds))

    def at_levels(self, stored: Trajectories) -> Trajectories:
        """Combine the stored levels that are needed to the student's; where these are the same there is no copy."""
        if self.is_exact:
            return stored
        derivatives = [_terms(stored.derivatives, self.answers, node.answer) for node in self.nodes[:-1]]
        features = [_terms(stored.features, self.answers, node.answer) for node in self.nodes[:-1]]
        states = [
            _terms(stored.states, self.states, node.states) + _terms(stored.derivatives, self.answers, node.slopes)
            for node in self.nodes
        ]
        return replace(stored, states=_sums(states), derivatives=_sums(derivatives), features=_sums(features))


def _terms(part: Tensor, levels: Sequence[int], weights: Weights) -> list[Tensor]:
    """Weigh the slices of a part that holds ``levels``."""
    return [weight * part[:, levels.index(index)] for index, weight in weights.items()]


def _sums(terms: Sequence[Sequence[Tensor]]) -> Tensor:
    """Add up each level's terms."""
    return torch.stack([reduce(torch.add, level) for level in terms], 1)
