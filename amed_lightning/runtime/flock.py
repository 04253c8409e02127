"""The kernel's lock on an open file, which ends with its process.

Windows has none that outlasts a change of the file's name. What asks for one is told there what a file system without
locks says, and is content with less: a lock that a killed process has left is deleted by hand.
"""

import errno
from typing import TextIO

try:
    import fcntl
except ImportError:
    fcntl = None  # type: ignore[assignment]

HAS_LOCKS = fcntl is not None


def lock(file: TextIO | int, shared: bool = False) -> None:
    """Lock a file until it is closed, or its process ends.

    Raises:
        OSError: another process has it, or there are no locks.
    """
    if fcntl is None:
        raise OSError(errno.ENOLCK, "no locks here")
    fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
