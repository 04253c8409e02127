"""JSON, whoever wrote it: numbers are finite, and brackets inside brackets without end are an error like any other."""

import json
import math
from collections.abc import Callable, Collection, Mapping
from typing import Any

_DEEPEST = 64
"""Mappings and lists inside one another."""
TOO_DEEP = "nested too deeply"


def finite(digits: str) -> float:
    """Read a number.

    Raises:
        ValueError: it is none, or no finite one.
    """
    if not math.isfinite(value := float(digits)):
        raise ValueError(f"{digits} is not finite")
    return value


def parse_json(text: str | bytes, number: Callable[[str], Any] | None = finite) -> Any:
    """Read JSON.

    Args:
        text: to read.
        number: reads what is no whole number; none takes NaN and the infinities for what they are.

    Raises:
        ValueError: it is none, has a NaN or an infinity, or is nested deeper than ``_DEEPEST``.

    >>> parse_json('{"a": [1]}')
    {'a': [1]}
    """
    try:
        content = json.loads(text, parse_constant=number, parse_float=number)
    except RecursionError:
        raise ValueError(TOO_DEEP) from None
    brackets = text.count("[") + text.count("{") if isinstance(text, str) else text.count(b"[") + text.count(b"{")
    if brackets > _DEEPEST:  # fewer are no deeper, and quickly counted
        require_shallow(content)
    return content


def require_shallow(content: Any) -> None:
    """Refuse mappings and lists more than ``_DEEPEST`` deep.

    Raises:
        ValueError: they are.
    """
    level = [content]
    for _ in range(_DEEPEST):
        level = [inner for outer in level if isinstance(outer, dict | list) for inner in _inside(outer)]
        if not level:
            return
    raise ValueError(TOO_DEEP)


def _inside(outer: Mapping[Any, Any] | list[Any]) -> Collection[Any]:
    return outer.values() if isinstance(outer, Mapping) else outer
