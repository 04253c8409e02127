r"""The standard error of a score, and whether two scores differ: the jackknife over blocks of seeds.

With g blocks, ``theta`` the score of all of them and ``theta_(i)`` the same score of all but block i,

    SE^2 = (g - 1) / g  sum_i (theta_(i) - mean theta_(.))^2

estimates the variance of ``theta`` at its own number of images (Tukey 1958; Efron and Stein 1981): a bias that goes by
that number, as FID's does, is the same in every ``theta_(i)``. Scores of two samplers on equal seeds are compared by
the jackknife of their difference, in which what the seeds have in common cancels; difference / SE is held against
Student's t with g - 1 degrees of freedom. Near the least value that a distance can have at its number of images the
error is too large, by a factor of up to sqrt(2): there its first derivative vanishes.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from scipy.special import stdtrit

LEVEL = 0.05
"""Two-sided: how often a test tells apart what is equal."""
TEST = f"a paired t test on the same seeds (two-sided, {LEVEL:.0%})"


@dataclass(frozen=True)
class Estimate:
    """A score, or a difference of two.

    Attributes:
        value: of all blocks.
        leave_one_out: without each block in turn; empty where there are not two.
    """

    value: float
    leave_one_out: Sequence[float] = ()

    @property
    def error(self) -> float | None:
        """The standard error of the value, if there are blocks to leave out.

        >>> Estimate(2.0, [2.5, 2.0, 1.5]).error  # of a mean of 1, 2 and 3: their deviation 1 over the root of 3
        0.5773502691896257
        """
        count = len(self.leave_one_out)
        if count < 2:
            return None
        mean = fmean(self.leave_one_out)
        return math.sqrt((count - 1) / count * math.fsum((part - mean) ** 2 for part in self.leave_one_out))

    @property
    def is_told_from_zero(self) -> bool:
        """Whether a t test tells the value from zero; where there is no test, whatever is not zero is told from it."""
        if self.error is None:
            return self.value != 0
        quantile = float(stdtrit(len(self.leave_one_out) - 1, 1 - LEVEL / 2))
        return not abs(self.value) <= quantile * self.error

    def __sub__(self, other: "Estimate") -> "Estimate":
        """Return the difference of scores on equal seeds.

        Raises:
            ValueError: they have unlike numbers of blocks.
        """
        both = bool(self.leave_one_out) and bool(other.leave_one_out)
        pairs = zip(self.leave_one_out, other.leave_one_out, strict=both)
        return Estimate(self.value - other.value, [one - two for one, two in pairs])
