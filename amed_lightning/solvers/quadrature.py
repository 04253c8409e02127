"""Weights that integrate the Lagrange extrapolation of past evaluations over the next step."""

from collections.abc import Sequence
from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor

from amed_lightning.tensors import Level

_Points = Float[Tensor, "..."]
"""Values at quadrature points: the first axis runs over the points, the others are a level's."""


@cache
def _gauss_legendre(count: int, device: torch.device) -> tuple[Float[Tensor, "count"], Float[Tensor, "count"]]:
    """Return the nodes and weights on [-1, 1] that integrate polynomials up to degree 2 count - 1 exactly.

    They are the eigenvalues of the Jacobi matrix and its eigenvectors' first entries (Golub and Welsch 1969), computed
    on the CPU, so that they are the same everywhere.
    """
    with torch.inference_mode(False):  # they are kept, and later calls may need gradients
        index = torch.arange(1, count, dtype=torch.float64, device="cpu")
        couplings = index / (4 * index.square() - 1).sqrt()
        nodes, vectors = torch.linalg.eigh(couplings.diag(1) + couplings.diag(-1))
        return nodes.to(device), (2 * vectors[0].square()).to(device)


def points_between(start: Level, stop: Level, count: int) -> tuple[_Points, _Points]:
    """Return Gauss-Legendre points between two levels, and the weight of each."""
    half = (stop - start) / 2
    nodes, weights = (rule.to(half.dtype).reshape(-1, *[1] * half.ndim) for rule in _gauss_legendre(count, half.device))
    return start + half * (1 + nodes), half * weights


def lagrange_weights(levels: Sequence[Level], points: _Points, measure: _Points) -> list[Level]:
    """Integrate each level's Lagrange polynomial over quadrature points.

    Args:
        levels: where the evaluations are, newest first.
        points: where the polynomials are evaluated, in the same variable.
        measure: weight of each point.
    """
    weights = []
    for own in levels:
        basis = measure
        for other in levels:
            if other is not own:
                basis = basis * ((points - other) / (own - other))
        weights.append(basis.sum(0))
    return weights


def extrapolation_weights(levels: Sequence[Level], sigma_next: Level) -> list[Level]:
    """Integrate the polynomial through up to four evaluations from the newest level to ``sigma_next``, exactly."""
    return lagrange_weights(levels, *points_between(levels[0], sigma_next, count=2))
