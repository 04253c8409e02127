"""What a configuration names as a solver: a class whose fields are the options, and which holds the method's facts.

Its paper, its orders and where it leaves the textbook stand in the class alone: the registry, the page of solvers and
the tests read them there. :meth:`Method.maker` is the one factory of all.
"""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, get_args, get_origin, get_type_hints

from amed_lightning.noise.form import require_choice
from amed_lightning.runtime.maker import maker_of
from amed_lightning.solvers.placement import Placer
from amed_lightning.solvers.state import Solver


@dataclass(frozen=True)
class Variant:
    """Options that change a method's arithmetic, and what holds with them.

    Attributes:
        orders: of convergence from exact history, at ``order`` = 1, 2, ...; one if there is no such option. None where
            it is another one from grid to grid.
        options: the ones of this variant.
        deviation: from the textbook, in Markdown.
        most_elsewhere: the largest order on levels that are not uniform in sigma, where that is lower.
    """

    orders: tuple[int | None, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    deviation: str = "none"
    most_elsewhere: int | None = None


class Method(ABC):
    """A method with its options: a frozen dataclass, whose fields a configuration gives.

    A field ``order`` goes from 1 to as many as a variant has orders; a field of literals takes these alone.

    Attributes:
        paper: its reference, in Markdown.
        variants: that the page of solvers shows.
        warm_up_order: the largest order from the first level on, with no past.

    Raises:
        ValueError: an option that does not exist.
    """

    paper: ClassVar[str]
    variants: ClassVar[tuple[Variant, ...]] = ()
    warm_up_order: ClassVar[int] = 2

    def __post_init__(self) -> None:
        for name, choices in choices_of(type(self)).items():
            require_choice(name, getattr(self, name), choices)

    @abstractmethod
    def solver(self, placer: Placer | None) -> Solver:
        """Return what advances states, its second evaluations where the placer says, if there is one."""

    @classmethod
    def maker(cls) -> Callable[..., Solver]:
        """Return what builds a solver of an optional placer and of the options."""
        make: Callable[..., Solver] = maker_of(cls, cls.solver)
        return make


def choices_of(method: type[Method]) -> dict[str, tuple[Any, ...]]:
    """Return what each option of few choices can be."""
    hints, options = get_type_hints(method), inspect.signature(method).parameters
    choices = {name: get_args(hints[name]) for name in options if get_origin(hints[name]) is Literal}
    if "order" in options and method.variants:
        choices["order"] = tuple(range(1, len(method.variants[0].orders) + 1))
    return choices
