r"""CMMD (Jayasumana et al. 2024, arXiv 2401.09603): a maximum mean discrepancy between CLIP's embeddings.

``1000 (mean k(x, x') + mean k(y, y') - 2 mean k(x, y))`` with ``k(a, b) = exp(-|a - b|^2 / (2 * 10^2))`` and means over
all pairs, an image with itself included: the estimate of least variance, which is never negative.
"""

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from amed_lightning.config import Spec
from amed_lightning.metrics.feature_metrics import FeatureMetric, Generated, Real
from amed_lightning.metrics.metric import Score

BANDWIDTH, SCALE = 10.0, 1000.0
ROWS_AT_ONCE = 1000


def gaussian_discrepancy(generated: Generated, real: Real) -> float:
    """Return the squared discrepancy, times 1000; its time goes by the square of the numbers of images."""
    x, y = generated.double(), real.double()
    return SCALE * (_mean_kernel(x, x) + _mean_kernel(y, y) - 2 * _mean_kernel(x, y))


def _mean_kernel(x: Float[Tensor, "some features"], y: Float[Tensor, "others features"]) -> float:
    squares, total = y.square().sum(1), 0.0
    for part in torch.split(x, ROWS_AT_ONCE):
        distances = part.square().sum(1)[:, None] + squares - 2 * part @ y.T
        total += float(torch.exp(-distances / (2 * BANDWIDTH**2)).sum())
    return total / (len(x) * len(y))


class CLIPDiscrepancy(FeatureMetric):
    """CMMD.

    Args:
        model: CLIP, a folder of transformers or its id on the hub; published figures are of the default.
        reference: the real images or statistics with their features; None for the user's images.
    """

    scores: ClassVar = {"cmmd": Score("CMMD", "lower", 3)}
    feature_size = 768

    def __init__(self, model: str = "openai/clip-vit-large-patch14-336", reference: Spec | None = None) -> None:
        self.detector, self.reference = {"name": "clip", "model": model}, reference

    def compare(self, generated: Generated, real: Real) -> dict[str, float]:
        """Return the discrepancy."""
        return {"cmmd": gaussian_discrepancy(generated, real)}
