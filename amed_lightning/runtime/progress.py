"""Progress of long work: a bar with rate and time left on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

SECONDS_BETWEEN_LINES = 10.0

Advance = Callable[[int], None]


@contextmanager
def progress(description: str, total: int, unit: str) -> Iterator[Advance]:
    """Show how far work has come.

    Args:
        description: of the work.
        total: its size.
        unit: what it is counted in, plural.

    Yields:
        A function to call with the amount just done.
    """
    if sys.stderr.isatty():
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn(unit))
        with Progress(*columns, TaskProgressColumn(show_speed=True), TimeRemainingColumn()) as bar:
            task = bar.add_task(description, total=total)
            yield lambda amount: bar.advance(task, amount)
    else:
        yield progress_lines(description, total, unit)


def progress_lines(description: str, total: int | None, unit: str, already: int = 0) -> Advance:
    """Return a function to call with the amount just done; it prints a line now and then, and the last one.

    Args:
        description: of the work.
        total: its size; None where nobody knows it.
        unit: what it is counted in, plural.
        already: done before, which says nothing of the rate.
    """
    started = last_line = time.monotonic()
    done = already

    def advance(amount: int) -> None:
        nonlocal done, last_line
        done += amount
        now = time.monotonic()
        if now - last_line < SECONDS_BETWEEN_LINES and done != total:
            return
        last_line = now
        each = (now - started) / max(done - already, 1)
        speed = f"{each:.1f} s each" if each > 1 else f"{1 / max(each, 1e-9):.0f}/s"
        of_all, left = ("", "") if total is None else (f"/{total}", f", {(total - done) * each:.0f} s left")
        print(f"{description}: {done}{of_all} {unit}, {speed}{left}", file=sys.stderr, flush=True)

    return advance
