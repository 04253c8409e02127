"""Stand-ins for SLURM's commands: programs that note how they were called and answer what a test wants."""

import os
from pathlib import Path

import pytest


class Commands:
    """A folder at the front of PATH.

    Args:
        folder: where the programs, and notes of their calls, are.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def answer(self, name: str, printed: str = "", complaint: str = "", code: int = 0) -> None:
        """Let ``name`` be a program that prints, complains and ends like this."""
        path = self.folder / name
        lines = [f'echo "$@" >>"{path}.calls"', f"printf '%s' '{printed}'", f"printf '%s' '{complaint}' >&2"]
        path.write_text("\n".join(["#!/bin/sh", *lines, f"exit {code}"]))
        path.chmod(0o755)

    def calls(self, name: str) -> list[str]:
        """Return the arguments of each call."""
        path = self.folder / f"{name}.calls"
        return path.read_text().splitlines() if path.exists() else []


def commands(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Commands:
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return Commands(folder)


def enter_job(monkeypatch: pytest.MonkeyPatch, **changes: str) -> None:
    """Set the variables of a job's only task, as srun does."""
    plain = {"JOB_ID": "12", "JOB_NAME": "fit", "NTASKS": "1", "PROCID": "0", "LOCALID": "0", "NODEID": "0"}
    for name, value in (plain | {"STEP_ID": "0", "NODELIST": "localhost"} | changes).items():
        monkeypatch.setenv(f"SLURM_{name}", value)
