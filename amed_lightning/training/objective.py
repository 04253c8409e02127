"""What an optimiser step minimises: the intervals' losses, and how they weigh against one another.

The losses of a student's intervals differ by orders of magnitude, and one Adam over all of them serves the largest: it
starves the others. ``normalised`` divides each by its running size, which is a step along the gradient of the sum of
their logarithms; the run is judged by the same, the geometric mean. ``published`` takes them as they are and judges by
their sum.
"""

import math
from collections.abc import Sequence
from typing import Literal, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn

LossForm: TypeAlias = Literal["normalised", "published"]
DECAY = 0.9
"""Of an interval's running size, per batch."""


class Objective(nn.Module):
    """Weighs the losses of intervals.

    Args:
        form: as above.
        num_intervals: of the student.
    """

    sizes: Tensor

    def __init__(self, form: LossForm, num_intervals: int) -> None:
        super().__init__()
        self.form = form
        self.register_buffer("sizes", torch.full((num_intervals,), math.nan, dtype=torch.float64))

    def scale(self, number: int, loss: Float[Tensor, ""]) -> Float[Tensor, ""]:
        """Return the factor of an interval's loss in the objective.

        Args:
            number: of the interval, from 1.
            loss: its mean over the batch of all processes, without gradient; the running size learns of it.
        """
        if self.form == "published":
            return torch.ones_like(loss)
        size = self.sizes[number - 1]
        size.copy_(torch.where(size.isnan(), loss, DECAY * size + (1 - DECAY) * loss))
        return 1 / size.clamp(min=torch.finfo(size.dtype).tiny)

    def judge(self, losses: Sequence[float]) -> float:
        """Return by what one predictor is better than another: the smaller of these.

        Rounding may leave a table's loss below zero where the student is at its teacher.
        """
        if self.form == "published":
            return math.fsum(losses)
        return math.exp(math.fsum(-math.inf if loss <= 0 else math.log(loss) for loss in losses) / len(losses))
