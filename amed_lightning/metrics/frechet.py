r"""The Frechet distance between two Gaussians fitted to features (FID, Heusel et al. 2017).

``|mu_1 - mu_2|^2 + tr(S_1 + S_2 - 2 (S_1 S_2)^(1/2))`` with covariances over N - 1. The last trace is that of the root
of the symmetric ``S_1^(1/2) S_2 S_1^(1/2)``, whose eigenvalues are real: no general matrix root is taken, and the
reference's half is computed once.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

Vector = Float[Tensor, "features"]
Matrix = Float[Tensor, "features features"]


def feature_sums(features: Float[Tensor, "batch features"]) -> tuple[Vector, Matrix]:
    """Return the sum of features and the sum of their outer products, in float64."""
    features = features.double()
    return features.sum(0), features.T @ features


@dataclass(frozen=True)
class Moments:
    """Mean and covariance of features, in float64.

    Attributes:
        count: number of images; None where a file of statistics does not say.
        mean: their mean.
        covariance: over ``count - 1``.
    """

    count: int | None
    mean: Vector
    covariance: Matrix

    @classmethod
    def from_sums(cls, count: int, total: Vector, outer: Matrix) -> "Moments":
        """Compute the moments from sums of features and of their outer products.

        Raises:
            ValueError: fewer than two images.
        """
        if count < 2:
            raise ValueError(f"a covariance needs at least two images, got {count}")
        mean = total / count
        return cls(count, mean, (outer - count * torch.outer(mean, mean)) / (count - 1))

    @cached_property
    def root(self) -> Matrix:
        """The symmetric square root of the covariance."""
        values, vectors = torch.linalg.eigh(self.covariance)
        return (vectors * values.clamp(min=0).sqrt()) @ vectors.T


def frechet_distance(reference: Moments, other: Moments) -> float:
    """Return the distance; the reference's matrix root is kept for the next call.

    >>> one = Moments(9, torch.zeros(2), torch.eye(2))
    >>> frechet_distance(one, Moments(9, torch.tensor([3.0, 0.0]), 4 * torch.eye(2)))
    11.0
    """
    values = torch.linalg.eigvalsh(reference.root @ other.covariance @ reference.root)
    means = (reference.mean - other.mean).square().sum()
    traces = reference.covariance.trace() + other.covariance.trace()
    return float(means + traces - 2 * values.clamp(min=0).sqrt().sum())
