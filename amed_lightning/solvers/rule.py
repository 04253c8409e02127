"""What an update rule with one evaluation per interval is, and what rules share."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from amed_lightning.flow.probability_flow import Evaluation
from amed_lightning.noise.form import Form
from amed_lightning.tensors import Images, Level


@runtime_checkable
class Rule(Protocol):
    """One update from the newest answers.

    Attributes:
        max_order: how many answers it uses once they are there.
    """

    @property
    def max_order(self) -> int: ...

    def __call__(
        self, x: Images, answers: Sequence[Evaluation], sigma_next: Level, updates_left: int
    ) -> tuple[Images, Images]:
        """Return (carried, increment), whose sum is the state at ``sigma_next``.

        Args:
            x: the state at the newest answer's level.
            answers: 1 to ``max_order`` answers, newest first.
            sigma_next: the level to reach.
            updates_left: this update and those after it.
        """
        ...


def usable_order(available: int, max_order: int, updates_left: int, lower_order_final: bool, form: Form) -> int:
    """Return the order of an update.

    Args:
        available: answers that are there, at most ``max_order``.
        max_order: of the rule.
        updates_left: this update and those after it.
        lower_order_final: fall back to lower orders at the last updates.
        form: as published, the fall-back does not touch the warm-up; the textbook's does.
    """
    warm = available == max_order
    return min(available, updates_left) if lower_order_final and (warm or form == "textbook") else available
