"""Options with a few allowed words, above all the form: whom to follow where an implementation left its method."""

from collections.abc import Sequence
from typing import Literal, TypeAlias

Form: TypeAlias = Literal["published", "textbook"]
"""Where a published implementation deviates from the method's definition: which of the two to follow."""


def require_choice(name: str, value: object, choices: Sequence[object]) -> None:
    """Refuse an option that does not exist.

    Raises:
        ValueError: naming the choices.
    """
    if value not in choices:
        raise ValueError(f"{name} {value} does not exist; use {', '.join(map(str, choices))}")
