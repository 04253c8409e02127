"""The part of a sweep that one task of an array computes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from amed_lightning.config import InputError

Item = TypeVar("Item")


@dataclass(frozen=True)
class Share:
    """Task ``index`` of ``count``; the only one of one, unless an array is told otherwise.

    >>> Share(1, 3).of("abcdefg")
    'be'
    """

    index: int = 0
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> "Share":
        """Read ``index/count``, the index from 0 as arrays count.

        Raises:
            InputError: it is not of that form, or there is no such task.
        """
        index, _, count = text.partition("/")
        if not (index.isdigit() and count.isdigit() and int(index) < int(count)):
            raise InputError(f"--shard {text}: write a task from 0 and the number of tasks, like 0/4")
        return cls(int(index), int(count))

    def of(self, items: Sequence[Item]) -> Sequence[Item]:
        """Return this task's items."""
        return items[self.index :: self.count]

    def rotated(self, items: Sequence[Item]) -> list[Item]:
        """Return all items, each task beginning elsewhere, so that tasks which skip what is done share the work."""
        start = self.index * len(items) // self.count
        return [*items[start:], *items[:start]]
