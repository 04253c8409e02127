"""Kill, or stop for ever, one rank of a fit of two, and tell how the other one ends: a list of cases in JSON."""

import importlib
import json
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from .chaos import NEEDED
from .commands import Command, adopt_orphans
from .recipes import command, write

SECONDS = 90.0


def lose(folder: Path, rank: int, number: int) -> dict[str, Any]:
    """Send a signal to one rank while both are fitting."""
    folder.mkdir()
    write("fit", folder)
    started = Command(folder, [*command("fit", 2), "--trainer.max_epochs=100000"], 2)
    while not started.wait(0.05) and "batches" not in started.said and not (folder / "run" / "last.ckpt").exists():
        pass
    began = time.monotonic()
    started.send(number, [rank])
    while not started.has_ended(1 - rank) and time.monotonic() - began < SECONDS:
        time.sleep(0.1)
    seconds = time.monotonic() - began
    started.end()
    case = {"signal": signal.Signals(number).name, "rank": rank, "seconds": seconds}
    return case | {"code": started.codes.get(1 - rank), "said": started.said[-600:]}


def main() -> None:
    adopt_orphans()
    for name in (*NEEDED, "amed_lightning.cli.fit"):
        importlib.import_module(name)
    with tempfile.TemporaryDirectory() as home:
        cases = [(1, signal.SIGKILL), (1, signal.SIGSTOP), (0, signal.SIGKILL), (0, signal.SIGSTOP)]
        print(json.dumps([lose(Path(home) / str(i), *case) for i, case in enumerate(cases)]))


if __name__ == "__main__":
    sys.exit(main())
