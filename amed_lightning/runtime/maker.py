"""A class whose options a configuration gives, where the part itself is made of an instance of it.

Such a class has a ``maker``, a class method, which returns what a registry holds and what an import path stands for.
"""

import inspect
from collections.abc import Callable
from functools import cache
from typing import Any, get_type_hints


@cache
def maker_of(options: type, finish: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that makes an instance, and then the part.

    Args:
        options: the class; its arguments are the options.
        finish: what makes the part of an instance. Its other arguments come before the options, None if they are left
            out.

    >>> maker_of(complex, lambda number, factor: abs(number) * (factor or 1))(2, real=3.0, imag=4.0)
    10.0
    """
    _, *given = inspect.signature(finish).parameters.values()
    own = inspect.signature(options).parameters
    hints = {**get_type_hints(options.__init__), **get_type_hints(finish)}  # type: ignore[misc]
    first = [each.replace(default=None) for each in given]
    parameters = [each.replace(annotation=hints.get(each.name, Any)) for each in (*first, *own.values())]
    signature = inspect.Signature(parameters, return_annotation=hints.get("return", Any))

    def make(*arguments: Any, **named: Any) -> Any:
        told = signature.bind(*arguments, **named).arguments
        instance = options(**{name: value for name, value in told.items() if name in own})
        return finish(instance, *(told.get(each.name) for each in given))

    make.__signature__ = signature  # type: ignore[attr-defined]
    make.__annotations__ = {each.name: each.annotation for each in parameters}
    make.__doc__, make.__name__, make.__qualname__ = options.__doc__, options.__name__, options.__qualname__
    return make
