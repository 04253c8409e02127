"""Memory that is freed stays with the process, where glibc is told to keep it."""

import os
import subprocess
import sys

import pytest

from amed_lightning.runtime import allocator

MEASURED = """
import ctypes, sys
from amed_lightning.runtime.allocator import keep_large_blocks

class Info(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in ("arena", "ordblks", "smblks", "hblks", "hblkhd", *"abcde")]

library = ctypes.CDLL(None)
if not hasattr(library, "mallinfo2") or (sys.argv[1] == "kept" and not keep_large_blocks()):
    sys.exit(3)
library.mallinfo2.restype = Info
library.malloc.restype, library.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
library.malloc.argtypes = [ctypes.c_size_t]
before = library.mallinfo2()
library.free(library.malloc(1 << 26))
after = library.mallinfo2()
block = library.malloc(1 << 26)
print(library.mallinfo2().hblks - before.hblks, after.arena - before.arena)
"""


def measured(how):
    """Return how many blocks are mapped for a large one, and the bytes that stayed when it was freed before."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(allocator.OWN)}
    done = subprocess.run([sys.executable, "-c", MEASURED, how], capture_output=True, text=True, env=environment)
    if done.returncode == 3:
        pytest.skip("this C library takes no such thresholds")
    return tuple(map(int, done.stdout.split()))


@pytest.mark.skipif(sys.platform != "linux", reason="glibc")
def test_a_large_block_is_not_mapped_and_stays_when_it_is_freed():
    mapped, stayed = measured("kept")
    assert mapped == 0
    assert stayed >= 1 << 26
    assert measured("as it is")[1] == 0


def test_what_the_environment_says_stays(monkeypatch):
    monkeypatch.setenv("MALLOC_ARENA_MAX", "1")
    assert not allocator.keep_large_blocks()


def test_another_c_library_is_left_alone(monkeypatch):
    for name in [name for name in os.environ if name.startswith(allocator.OWN)]:
        monkeypatch.delenv(name)
    for answer in (AttributeError, OSError, TypeError):

        def library(_, answer=answer):
            raise answer

        monkeypatch.setattr(allocator.ctypes, "CDLL", library)
        assert not allocator.keep_large_blocks()
