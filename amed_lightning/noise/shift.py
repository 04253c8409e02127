"""The shift of a flow's times, by which large images spend more steps at high noise (Esser et al. 2024, section 5.3).

A time ``s = sigma / (1 + sigma)`` becomes ``a s / (1 + (a - 1) s)``, the time of the level ``a sigma``: a shift is a
factor of levels. Pipelines have a constant one (Stable Diffusion 3: 3) or let it follow the number of tokens of an
image (FLUX): with m on the line through (256, 0.5) and (4096, 1.15) it is ``exp(m)``, or m itself where the time shift
is said to be linear.
"""

import math
from typing import Literal, TypeAlias

ShiftType: TypeAlias = Literal["exponential", "linear"]


def dynamic_shift(
    tokens: int,
    base_shift: float = 0.5,
    max_shift: float = 1.15,
    base_tokens: int = 256,
    max_tokens: int = 4096,
    kind: ShiftType = "exponential",
) -> float:
    """Return the shift of an image.

    Args:
        tokens: of the image, positive: (height / patch) (width / patch) of its latent.
        base_shift: m at ``base_tokens``.
        max_shift: m at ``max_tokens``.
        base_tokens: where the line begins.
        max_tokens: another point of it, which goes on beyond.
        kind: what m is the logarithm of, or the shift itself.

    Raises:
        ValueError: the two points are one, or there is no positive, finite shift.

    >>> round(dynamic_shift(4096), 6) == round(math.exp(1.15), 6)
    True
    """
    if base_tokens == max_tokens or tokens < 1:
        raise ValueError(f"{tokens} tokens on a line through {base_tokens} and {max_tokens}: there is no such shift")
    at = base_shift + (max_shift - base_shift) / (max_tokens - base_tokens) * (tokens - base_tokens)
    shift = math.exp(min(at, 700.0)) if kind == "exponential" else at
    if not 0 < shift < math.inf:
        raise ValueError(f"a shift is positive and finite, and that of {tokens} tokens is {shift}")
    return shift
