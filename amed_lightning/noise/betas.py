r"""The betas that discrete-time models were trained with.

After step k = 0 ... M - 1 the cumulative alpha is the product of ``1 - beta_i`` over i <= k.

====== ==============================================================================================================
linear uniform from ``0.1 / M`` to ``20 / M`` (DDPM, Ho et al. 2020, whose M is 1000)
cosine ``1 - f((i + 1) / M) / f(i / M)``, at most 0.999, with ``f(t) = cos^2(pi / 2 (t + s) / (1 + s))`` and s = 0.008
       (Nichol and Dhariwal 2021, eq. 17)
====== ==============================================================================================================
"""

import math
from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise
from typing import Literal, TypeAlias

_COSINE_OFFSET = 0.008
_LARGEST_BETA = 0.999
MAX_STEPS = 100_000
"""Beyond these a number of steps is a mistake, and a table would take for ever."""
RESCALED_STEPS = 1000
"""Steps that a rescaled step is one of."""
NoiseSchedule: TypeAlias = Literal["linear", "cosine"]


def linear_betas(steps: int) -> list[float]:
    """Return the linear betas of ``steps`` steps.

    Raises:
        ValueError: too many steps, or so few that the last beta would be 1.
    """
    _require_number(steps, 21)
    first, last = 0.1 / steps, 20 / steps
    return [first + (last - first) * step / (steps - 1) for step in range(steps)]


def cosine_betas(steps: int, offset: float = _COSINE_OFFSET, largest: float = _LARGEST_BETA) -> list[float]:
    """Return the cosine betas of ``steps`` steps.

    Args:
        steps: how many.
        offset: s; keeps the first betas from being too small.
        largest: they are clipped here, else the last would be 1.

    Raises:
        ValueError: too many steps, or too few.
    """
    _require_number(steps, 2)
    kept = [math.cos(math.pi / 2 * (i / steps + offset) / (1 + offset)) ** 2 for i in range(steps + 1)]
    return [min(1 - after / before, largest) for before, after in pairwise(kept)]


def _require_number(steps: int, least: int) -> None:
    if not least <= steps <= MAX_STEPS:
        raise ValueError(f"{steps} steps; there are {least} to {MAX_STEPS}")


def log_alphas_of(betas: Sequence[float]) -> tuple[float, ...]:
    """Return half the log of the cumulative alphas after each step.

    >>> [round(value, 6) for value in log_alphas_of([0.5, 0.5])]
    [-0.346574, -0.693147]
    """
    return tuple(total / 2 for total in accumulate(math.log1p(-beta) for beta in betas))


BETAS: dict[str, Callable[[int], list[float]]] = {"linear": linear_betas, "cosine": cosine_betas}
"""The schedules of guided-diffusion and improved-diffusion, by their names there."""
