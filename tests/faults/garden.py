"""A copy of the package and its tests, in which one fault at a time is planted."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

HOME = Path(__file__).parents[2]
SPARE = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "JAXTYPING_DISABLE": "1", "OMP_NUM_THREADS": "1"}
"""What tests of faults do without: plugins, checks of shapes, threads."""
FOLDERS = ("amed_lightning", "benchmarks", "configs", "docs", "tests")


class Garden:
    """The copy, and a process that runs its tests.

    Args:
        folder: where it goes, a new one.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self._moments = folder, count(1)
        for name in FOLDERS:
            shutil.copytree(HOME / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        for path in filter(Path.is_file, HOME.iterdir()):
            shutil.copy2(path, folder)
        self._runner = subprocess.Popen(
            [sys.executable, "-P", folder / "tests" / "faults" / "forking.py"],
            cwd=folder,
            env=_environment() | {"PYTHONPATH": str(folder)} | SPARE,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, tests: Sequence[str]) -> dict[str, Any]:
        """Run tests of the copy, named below its ``tests``, until one fails; return what ``forking.py`` answers."""
        assert self._runner.stdin is not None
        assert self._runner.stdout is not None
        self._runner.stdin.write(json.dumps([f"tests/{test}" for test in tests]) + "\n")
        self._runner.stdin.flush()
        answer: dict[str, Any] = json.loads(self._runner.stdout.readline())
        return answer

    @contextmanager
    def planted(self, file: str, old: str, new: str) -> Iterator[None]:
        """Replace a text of a file below the package, which must be there exactly once, for a while."""
        path = self.folder / "amed_lightning" / file
        sound = path.read_text(encoding="utf-8")
        assert sound.count(old) == 1, f"{file}: {old!r} is there {sound.count(old)} times; bring the table up to date"
        self._write(path, sound.replace(old, new))
        try:
            yield
        finally:
            self._write(path, sound)

    def close(self) -> None:
        """End the process."""
        self._runner.communicate()

    def _write(self, path: Path, text: str) -> None:
        """Write at a moment of its own, by which Python tells which bytecode belongs to which text."""
        path.write_text(text, encoding="utf-8")
        moment = next(self._moments)
        os.utime(path, (moment, moment))


def _environment() -> dict[str, str]:
    """Return what the process inherits: nothing by which its tests would think that they ran in a worker of xdist."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
