"""Memory that is freed stays with the process, where glibc is told to keep it."""

import os
import subprocess
import sys

from amed_lightning.runtime import allocator

MEASURED = """
import ctypes, sys
from amed_lightning.runtime.allocator import keep_large_blocks

class Info(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int) for name in ("arena", "ordblks", "smblks", "hblks", "hblkhd", *"abcde")]

library = ctypes.CDLL(None)
library.mallinfo.restype = Info
library.malloc.restype, library.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
library.malloc.argtypes = [ctypes.c_size_t]
assert sys.argv[1] == "as it is" or keep_large_blocks()
before = library.mallinfo()
block = library.malloc(1 << 24)
mapped = library.mallinfo().hblks - before.hblks
library.free(block)
print(mapped, library.mallinfo().arena - before.arena)
"""


def measured(how):
    """Return how many blocks are mapped for a large one, and the bytes of it that stay when it is freed."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(allocator.OWN)}
    command = [sys.executable, "-c", MEASURED, how]
    return tuple(map(int, subprocess.check_output(command, text=True, env=environment).split()))


def test_a_large_block_is_not_mapped_and_stays_when_it_is_freed():
    if sys.platform == "linux":
        mapped, stayed = measured("kept")
        assert mapped == 0
        assert stayed > 1 << 23, "most of it; the heap grows by less where its end was free"
        assert measured("as it is") == (1, 0)
    else:
        assert not allocator.keep_large_blocks()


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
