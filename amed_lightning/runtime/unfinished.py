"""Names for what is being written: a killed writer's is found, and used or removed, by the next one of the same file.

A file or folder is made beside its final name, as ``.<name>.<host>.unfinished``, and renamed. Its writer holds the
kernel's lock on it, which ends with the process, so the next writer on that host knows whether it was left. Where
somebody else is at work, or a file system has no locks, a writer takes a name that nobody else has.
"""

import os
import shutil
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from amed_lightning.runtime.flock import HAS_LOCKS, lock

ENDING = ".unfinished"


@contextmanager
def unfinished(path: Path, is_folder: bool = False) -> Iterator[Path]:
    """Give a new empty file or folder in this block, to be filled and renamed to ``path`` or else removed.

    Args:
        path: the final name; its folder is made.
        is_folder: what it is.

    Yields:
        The path to write to.

    Raises:
        OSError: of whatever went wrong with a file in this block, naming ``path``.
    """
    try:
        own = path.with_name(f".{path.name}.{socket.gethostname()}{ENDING}")
        handle = _locked(own, is_folder) if HAS_LOCKS else None
        if handle is None:
            own = path.with_name(f".{uuid.uuid4().hex}{ENDING}")
            handle = _new(own, is_folder)
        try:
            yield own
        finally:
            if handle is None or _is(handle, own):
                _remove(own)
            if handle is not None:
                os.close(handle)
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, os.strerror(error.errno), str(path)) from error


def _locked(path: Path, is_folder: bool) -> int | None:
    """Make a file or folder and lock it, or take over what was left, emptied; None if it is another's."""
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            handle = _made(path, is_folder)
        except FileNotFoundError:  # removed since it was made, or its folder
            continue
        except OSError:  # another user's, or too long a name
            return None
        try:
            lock(handle)
        except OSError:
            os.close(handle)
            return None
        if _is(handle, path):  # and was not renamed by whoever had it until now
            break
        os.close(handle)
    if is_folder:
        for left in path.iterdir():
            _remove(left)
    else:
        os.truncate(handle, 0)
    return handle


def _made(path: Path, is_folder: bool) -> int:
    if is_folder:
        path.mkdir(exist_ok=True)
    return os.open(path, os.O_RDONLY if is_folder else os.O_RDWR | os.O_CREAT, 0o666)


def _new(path: Path, is_folder: bool) -> int | None:
    """Make a file or folder; where there are no locks it is kept closed, as Windows renames nothing that is open."""
    if HAS_LOCKS:
        return _made(path, is_folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.mkdir() if is_folder else path.touch()
    return None


def _is(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except OSError:
        return False


def _remove(path: Path) -> None:
    """Remove what has not been renamed, as far as it can be."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()
