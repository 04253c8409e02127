"""Windows and macOS: what they lack is missed by nothing that a single process needs."""

import subprocess
import sys

import pytest

WITHOUT = """
import builtins, os, select, signal, sys
found = builtins.__import__
def refuse(name, globals=None, *rest, **options):
    ours = str((globals or {}).get("__name__")).startswith("amed_lightning")
    if ours and name in ("fcntl", "resource", "termios", "pwd"):
        raise ImportError(name)
    return found(name, globals, *rest, **options)
builtins.__import__ = refuse
try:
    import psutil  # transformers takes it where it is there; of each system it has a module of its own
except ImportError:
    pass
for name in ("SIGUSR1", "SIGHUP"):
    delattr(signal, name)
del select.poll, os.sysconf
from amed_lightning.cli.main import main
"""
FILES = """
from pathlib import Path
from amed_lightning.config import write_atomically
from amed_lightning.runtime.flock import HAS_LOCKS
from amed_lightning.runtime.lock import DirectoryLock
from amed_lightning.runtime.signals import ENDINGS, listening
from amed_lightning.runtime.unfinished import unfinished
assert not HAS_LOCKS
write_atomically(Path("a/file"), b"whole")
with unfinished(Path("a/folder"), is_folder=True) as made:
    (made / "inside").write_text("")
    made.rename("a/folder")
with DirectoryLock(Path("a")).held(), listening():
    try:
        with DirectoryLock(Path("a")).held():
            raise AssertionError("taken twice")
    except ValueError as error:
        print(error)
print(*sorted(number.name for number in ENDINGS))
print(*sorted(path.name for path in Path("a").iterdir()))
"""
ALL = """
import importlib, pkgutil
import amed_lightning
for module in pkgutil.walk_packages(amed_lightning.__path__, "amed_lightning."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
main(["sample", "digits/classes", "--accelerator", "mps"])
"""


def run(folder, code):
    return subprocess.run([sys.executable, "-c", WITHOUT + code], cwd=folder, capture_output=True, text=True)


def test_files_are_written_and_folders_taken_without_locks(tmp_path):
    done = run(tmp_path, FILES)
    assert done.returncode == 0, done.stderr
    refusal, signals, names = done.stdout.splitlines()
    assert "belongs to another run" in refusal
    assert signals == "SIGINT SIGTERM"
    assert names == "file folder"


@pytest.mark.slow
def test_every_module_is_there_and_apple_s_gpu_is_refused_in_a_line(tmp_path):
    done = run(tmp_path, ALL)
    assert done.returncode == 2, done.stderr
    assert "accelerator 'mps': Apple's GPU has no float64" in done.stderr.splitlines()[-1]
