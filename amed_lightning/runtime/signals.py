"""Signals that ask the process to stop: USR1, to be started again; TERM; HUP of a terminal that is gone; and Ctrl-C.

A handler only raises a flag. The work looks at the flag where nothing would be lost, between two batches or blocks, and
stops there; saving from within a handler would happen in the middle of a step, and on several processes in the middle
of different ones. If several have come, TERM counts most and USR1 least. A second Ctrl-C ends the process at once.

A process that another one started (it has a ``LOCAL_RANK`` above 0) stops once that one is gone, because a signal often
reaches the parent alone. It ends with 0: the parent's code counts, and Lightning kills the parent of one that fails.
"""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from amed_lightning.runtime.exit_codes import ExitCode

_MEANINGS = {
    "SIGUSR1": ExitCode.requeue,
    "SIGINT": ExitCode.interrupted,
    "SIGTERM": ExitCode.terminated,
    "SIGHUP": ExitCode.terminated,
}
ENDINGS = {signal.Signals[name]: code for name, code in _MEANINGS.items() if hasattr(signal, name)}
"""Windows has two of them."""
_IGNORED = [number for number in ENDINGS if signal.getsignal(number) is signal.SIG_IGN]
"""By whoever started the process, as ``nohup`` does."""

_asked: set[ExitCode] = set()
_parent = os.getppid()


class Stopped(SystemExit):
    """The work has stopped because a signal asked for it.

    Args:
        code: to end the process with.
    """

    def __init__(self, code: ExitCode) -> None:
        super().__init__(ExitCode.done if _is_child() else code)


@contextmanager
def listening() -> Iterator[None]:
    """Let the signals do nothing but raise the flag, in this block."""
    before = {number: signal.getsignal(number) for number in ENDINGS}
    _asked.clear()
    listen()
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _asked.clear()


def listen() -> None:
    """Install the handlers, also over those that a library has put in their place."""
    for number in ENDINGS:
        if number not in _IGNORED:
            signal.signal(number, _raise_flag)


def let_go() -> None:
    """Let Ctrl-C end the process without a word: nothing is left to do, and Python would print where it is."""
    if signal.SIGINT not in _IGNORED:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def asked() -> ExitCode | None:
    """Return the code to stop with, if this process was asked to stop."""
    if is_orphan():
        return ExitCode.terminated
    return max(_asked, default=None)


def stop_if_asked() -> None:
    """Stop here, at a boundary, if this process was asked to.

    Raises:
        Stopped: it was.
    """
    if (code := asked()) is not None:
        raise Stopped(code)


def _raise_flag(number: int, frame: FrameType | None) -> None:
    code = ENDINGS[signal.Signals(number)]
    if code is ExitCode.interrupted:
        if code in _asked:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        _asked.add(code)  # before the line: who reads it may press at once
        print("stopping after the batch or block at hand; Ctrl-C again stops at once", file=sys.stderr, flush=True)
    _asked.add(code)


def is_orphan() -> bool:
    """Whether another process started this one, and is gone."""
    return _is_child() and os.getppid() != _parent


def _is_child() -> bool:
    return os.environ.get("LOCAL_RANK", "0") != "0"
