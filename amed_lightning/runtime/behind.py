"""What was made last is finished by a thread while the next is made."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

Finish = Callable[[], object]
"""What is left to do of something."""
Later = Callable[[Finish, ExitStack], None]
"""Called with what is left to do, and with what is held until that is done."""


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
