"""Windows and macOS: what they lack is missed by nothing that a single process needs."""

import subprocess
import sys

WITHOUT = """
import builtins, select, signal, sys
found = builtins.__import__
def refuse(name, scope=None, *rest):
    ours = str((scope or {}).get("__name__")).startswith("amed_lightning")
    if ours and name in ("fcntl", "resource", "termios", "pwd"):
        raise ImportError(name)
    return found(name, scope, *rest)
builtins.__import__ = refuse
for name in ("SIGUSR1", "SIGHUP"):
    delattr(signal, name)
del select.poll
import os
del os.sysconf
"""
EVERYTHING = """
import importlib, pkgutil
import amed_lightning.cli, amed_lightning.runtime
for package in (amed_lightning.cli, amed_lightning.runtime):
    for module in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
        importlib.import_module(module.name)
from pathlib import Path
from amed_lightning.config import write_atomically
from amed_lightning.runtime.flock import HAS_LOCKS
from amed_lightning.runtime.lock import DirectoryLock
from amed_lightning.runtime.unfinished import unfinished
assert not HAS_LOCKS
write_atomically(Path("a/file"), b"whole")
with unfinished(Path("a/folder"), is_folder=True) as made:
    (made / "inside").write_text("")
    made.rename("a/folder")
with DirectoryLock(Path("a")).held():
    assert Path("a/run.lock").is_file()
    try:
        with DirectoryLock(Path("a")).held():
            raise AssertionError("taken twice")
    except ValueError as error:
        print(error)
print(*sorted(path.name for path in Path("a").iterdir()))
"""


def test_nothing_at_start_is_of_one_system_alone(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT + EVERYTHING], capture_output=True, text=True, cwd=tmp_path, timeout=300
    )
    assert done.returncode == 0, done.stderr
    refusal, names = done.stdout.splitlines()
    assert "belongs to another run" in refusal
    assert names == "file folder"


def test_apple_s_gpu_is_refused_in_a_line(tmp_path):
    command = "from amed_lightning.cli.main import main; main(['sample', 'digits/classes', '--accelerator', 'mps'])"
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT + command], capture_output=True, text=True, cwd=tmp_path, timeout=300
    )
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: accelerator 'mps': Apple's GPU has no float64")
