"""Memory that is given back and asked for again, batch after batch, costs page faults: glibc is told to keep it.

It maps large blocks anew each time and gives back what is free, and the kernel fills each page with zeros at its first
use.
"""

import ctypes
import os
from typing import Any

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
"""``mallopt``'s numbers of them."""
KEPT = (1 << 31) - 1
"""Bytes that may lie idle at the end of the heap; all that ``mallopt``'s whole number can say."""
_MAPPED = 1 << 30, 1 << 25
"""Bytes from which a block is mapped: the most that is taken; glibc before 2.35 takes no more than 32 MiB."""
OWN = "MALLOC_", "GLIBC_TUNABLES"
"""How the names of environment variables begin by which a user says it."""


def keep_large_blocks() -> bool:
    """Let freed memory stay with this process, and say whether that was understood.

    Results are the same. Where the C library is another than glibc, or the environment says how it allocates, nothing
    is changed.
    """
    if any(name.startswith(OWN) for name in os.environ):
        return False
    try:
        mallopt: Any = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library; TypeError is Windows'
        return False
    return bool(mallopt(TRIM_THRESHOLD, KEPT)) and any(mallopt(MMAP_THRESHOLD, size) for size in _MAPPED)
