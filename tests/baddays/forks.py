"""The command in a fork of this process, which has imported everything: a run costs a fraction of a second."""

import importlib
import os
import shlex
import signal
import sys
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from amed_lightning.cli.main import VERBS, main

for module, _ in VERBS.values():
    importlib.import_module(module)  # once, and not in every fork
SECONDS = 100
NOTHING = ("stdout", "stderr")


@dataclass(frozen=True)
class Ended:
    """How a command ended.

    Attributes:
        code: its exit code; minus the signal that has killed it.
        out: what it printed.
        err: on the other stream.
    """

    code: int
    out: str
    err: str


def run(folder: Path, command: str, within: Callable[[], object] = lambda: None) -> Ended:
    """Run the command in a folder.

    Args:
        folder: where to.
        command: as it is typed, without the program's name.
        within: is called in the new process, before the command.
    """
    outputs = [folder.parent / f"{folder.name}.{name}" for name in NOTHING]
    sys.stdout.flush()
    sys.stderr.flush()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of a fork beside threads, which wait for ever
        if not (child := os.fork()):
            _become(folder, shlex.split(command), outputs, within)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return Ended(code, *(output.read_text(errors="replace") for output in outputs))


def _become(folder: Path, arguments: list[str], outputs: list[Path], within: Callable[[], object]) -> None:
    """Be the command's process, and end as it does."""
    code = 1
    try:
        signal.alarm(SECONDS)
        warnings.resetwarnings()
        warnings.simplefilter("ignore")
        os.chdir(folder)
        for number, output in enumerate(outputs, 1):
            handle = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
            os.dup2(handle, number)
            os.close(handle)
        sys.stdin, sys.stdout, sys.stderr = open(os.devnull), open(1, "w"), open(2, "w", buffering=1)  # noqa: SIM115
        within()
        main(arguments)
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    except BaseException:
        traceback.print_exc()
    try:
        sys.stdout.flush()
    except OSError:
        code = 120  # as Python's own
    os._exit(code)
