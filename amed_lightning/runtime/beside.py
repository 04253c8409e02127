"""Threads beside the work: what is needed next is made ahead, and what was made last is finished behind."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import TypeVar

Item = TypeVar("Item")
Finish = Callable[[], object]
"""What is left to do of something."""
Later = Callable[[Finish, ExitStack], None]
"""Called with what is left to do, and with what is held until that is done."""


def ahead(items: Iterable[Item]) -> Iterator[Item]:
    """Go through ``items``, none of which is None, one of them ahead.

    Whoever stops early waits for the one that is being made, and no longer; the thread ends with this iterator.

    >>> list(ahead(range(3)))
    [0, 1, 2]
    """
    source = iter(items)
    with ThreadPoolExecutor(max_workers=1) as thread:
        coming = thread.submit(next, source, None)
        while (item := coming.result()) is not None:
            coming = thread.submit(next, source, None)
            yield item


@contextmanager
def behind() -> Iterator[Later]:
    """Finish things in a thread in this block, one at a time; at its end all of them are.

    Yields:
        A function that returns as soon as the thread has begun. It waits for the thing before, and raises what went
        wrong with that, as the end of the block does; then the caller still has what is held.

    >>> with behind() as later, ExitStack() as held:
    ...     later(lambda: print("finished"), held)
    finished
    """
    last: list[Future[None]] = []

    def wait() -> None:
        while last:
            last.pop().result()

    def later(finish: Finish, held: ExitStack) -> None:
        wait()
        last.append(thread.submit(_run, finish, held.pop_all()))

    with ThreadPoolExecutor(max_workers=1) as thread:
        try:
            yield later
        finally:
            wait()


def _run(finish: Finish, held: ExitStack) -> None:
    with held:
        finish()
