"""What an optimiser step minimises: the intervals' losses, and how they weigh against one another.

The losses of a student's intervals differ by orders of magnitude, and one Adam over all of them serves the largest: it
starves the others. ``normalised`` divides each by its running size, which is a step along the gradient of the sum of
their logarithms; the run is judged by the same, the geometric mean. ``published`` takes them as they are and judges by
their sum. ``end_to_end`` takes the last one alone, the distance of the samples.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Literal, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn

LossForm: TypeAlias = Literal["normalised", "published", "end_to_end"]
DECAY = 0.9
"""Of an interval's running size, per batch."""


class Objective(nn.Module, ABC):
    """Weighs the losses of intervals.

    Args:
        num_intervals: of the student.

    Attributes:
        of_the_end: whether the samples alone count, so that the gradient has to come through all intervals.
    """

    of_the_end: ClassVar[bool] = False
    sizes: Tensor

    def __init__(self, num_intervals: int) -> None:
        super().__init__()
        self.register_buffer("sizes", torch.full((num_intervals,), math.nan, dtype=torch.float64))

    @abstractmethod
    def scale(self, number: int, loss: Float[Tensor, ""]) -> Float[Tensor, ""]:
        """Return the factor of an interval's loss in the objective.

        Args:
            number: of the interval, from 1.
            loss: its mean over the batch of all processes, without gradient.
        """

    @abstractmethod
    def judge(self, losses: Sequence[float]) -> float:
        """Return by what one predictor is better than another: the smaller of these."""


class Normalised(Objective):
    """The sum of the losses' logarithms, along whose gradient their running sizes lead."""

    def scale(self, number: int, loss: Float[Tensor, ""]) -> Float[Tensor, ""]:
        """Return the reciprocal of the loss's running size, which learns of it."""
        size = self.sizes[number - 1]
        size.copy_(torch.where(size.isnan(), loss, DECAY * size + (1 - DECAY) * loss))
        return 1 / size.clamp(min=torch.finfo(size.dtype).tiny)

    def judge(self, losses: Sequence[float]) -> float:
        """Return the geometric mean.

        Rounding may leave a table's loss below zero where the student is at its teacher.
        """
        return math.exp(math.fsum(-math.inf if loss <= 0 else math.log(loss) for loss in losses) / len(losses))


class Published(Objective):
    """The sum of the losses."""

    def scale(self, number: int, loss: Float[Tensor, ""]) -> Float[Tensor, ""]:
        """Return one."""
        return torch.ones_like(loss)

    def judge(self, losses: Sequence[float]) -> float:
        """Return the sum."""
        return math.fsum(losses)


class EndToEnd(Objective):
    """The last loss, that of the samples, alone."""

    of_the_end = True

    def scale(self, number: int, loss: Float[Tensor, ""]) -> Float[Tensor, ""]:
        """Return one at the last interval."""
        return torch.full_like(loss, number == len(self.sizes))

    def judge(self, losses: Sequence[float]) -> float:
        """Return the last."""
        return losses[-1]


OBJECTIVES: dict[LossForm, type[Objective]] = {
    "normalised": Normalised,
    "published": Published,
    "end_to_end": EndToEnd,
}
