"""What is said of a sample that is not finite: whose it is, and where the NaN or the infinity began."""

from collections.abc import Sequence

import torch
from torch import Tensor

from amed_lightning.seeds import Seeds

USUAL_CAUSE = (
    "overflow is the usual cause where the network computes in float16: set arithmetic.precision to bfloat16 or float32"
)


class NotFiniteError(FloatingPointError):
    """A sample has a NaN or an infinity, of which no byte, no score and no training may be made.

    Args:
        what: was computed ("sample").
        seeds: of the batch.
        row: the first one in it that is affected.
        place: where that began.
    """

    def __init__(self, what: str, seeds: Seeds, row: int, place: str) -> None:
        whose = f"{seeds.stream.name} seed {seeds.start + row}"
        super().__init__(f"the {what} of {whose} is not finite, which began in {place}; {USUAL_CAUSE}")


def places(sigmas: Sequence[float]) -> list[str]:
    """Name the states at N + 1 levels by the interval that ends there.

    >>> places([80.0, 1.5, 0.002])
    ['the first state (sigma 80)', 'interval 1 of 2 (sigma 80 to 1.5)', 'interval 2 of 2 (sigma 1.5 to 0.002)']
    """
    count = len(sigmas) - 1
    return [f"the first state (sigma {sigmas[0]:g})"] + [
        f"interval {number} of {count} (sigma {sigmas[number - 1]:g} to {sigmas[number]:g})"
        for number in range(1, count + 1)
    ]


def first_broken(*parts: Tensor) -> int | None:
    """Return the first row in which any of several tensors has a NaN or an infinity, if there is one."""
    rows = [int(row) for part in parts for row in torch.nonzero(~part.isfinite().flatten(1).all(1))[:1]]
    return min(rows, default=None)
