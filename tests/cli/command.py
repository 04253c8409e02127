"""The command, called in this process."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from amed_lightning.cli.main import main


def call(*arguments: Any) -> int:
    """Run the command and return its exit code."""
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    return ended.value.code


def refusal(capsys: pytest.CaptureFixture[str], *arguments: Any) -> str:
    """Return the line that the command refuses its arguments with."""
    capsys.readouterr()
    assert call(*arguments) == 2
    *_, line = (error := capsys.readouterr().err).splitlines()
    assert error.count("error: ") == 1
    assert "Traceback" not in error
    assert line.startswith("error: ")
    return line


def start(
    folder: Path, *arguments: Any, code: int = 0, interrupt: tuple[int, Callable[[], bool]] | None = None
) -> None:
    """Run the command in a process of its own, in ``folder``; whatever it starts ends with it.

    Args:
        folder: where to.
        arguments: of the command.
        code: that it must end with.
        interrupt: a signal to send to the process, and when.
    """
    command = [sys.executable, "-m", "amed_lightning", *map(str, arguments)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with (folder / "output.txt").open("w+") as output:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=output, stderr=output, start_new_session=True
        )
        try:
            if interrupt is not None:
                number, is_time = interrupt
                while process.poll() is None and not is_time():
                    time.sleep(0.05)
                process.send_signal(number)
            assert process.wait(timeout=120) == code, (folder / "output.txt").read_text()
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
