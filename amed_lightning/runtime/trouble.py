"""What goes wrong around the program, and neither in it nor in its input, told in one line."""

import errno
import os
import sys
import traceback
from collections.abc import Iterator

MORE_MEMORY = "take a smaller batch, or ask for more memory"
_SOMETHING_ELSE = "something else is there: move it away, or name another place"
_MORE_ROOM = "make room there"
_NO_RIGHT = "name a place that this user may use"
_MORE_FILES = "raise the limit on open files (ulimit -n)"
CURES = {
    errno.ENOSPC: _MORE_ROOM,
    errno.EDQUOT: _MORE_ROOM,
    errno.EFBIG: "raise the limit on a file's size (ulimit -f)",
    errno.EACCES: _NO_RIGHT,
    errno.EPERM: _NO_RIGHT,
    errno.EROFS: _NO_RIGHT,
    errno.ENOTDIR: _SOMETHING_ELSE,
    errno.EISDIR: _SOMETHING_ELSE,
    errno.EEXIST: _SOMETHING_ELSE,
    errno.ENOTEMPTY: _SOMETHING_ELSE,
    errno.ENOENT: "it is gone, or its folder is",
    errno.EMFILE: _MORE_FILES,
    errno.ENFILE: _MORE_FILES,
    errno.ENAMETOOLONG: "use shorter names",
    errno.ELOOP: "a link leads to itself",
    errno.ENOMEM: MORE_MEMORY,
    errno.EIO: "look after the disk",
    errno.ESTALE: "look after the file server",
}
OURS = __name__.partition(".")[0]


def told(error: BaseException) -> str | None:
    """Say in one line what is wrong with the machine, or return None if it is nothing of the machine.

    >>> told(OSError(errno.ENOSPC, "No space left on device", "runs/last.ckpt"))
    'runs/last.ckpt: No space left on device; make room there'
    """
    return next(filter(None, map(_told, _causes(error))), None)


def _told(error: BaseException) -> str | None:
    if isinstance(error, OSError) and error.errno is not None:
        cure = CURES.get(error.errno)
        return f"{_place(error)}: {os.strerror(error.errno)}" + (f"; {cure}" if cure else "")
    if isinstance(error, RuntimeError) and "determine home directory" in str(error):
        return "this user has no home directory; set HOME"
    if isinstance(error, MemoryError) or _is_out_of_memory(error):
        return f"no memory left ({first_line(error) or type(error).__name__}); {MORE_MEMORY}"
    if isinstance(error, ImportError) and (error.name or OURS).partition(".")[0] != OURS:
        return f"{first_line(error)}; `amed-lightning doctor` says what is missing"
    return None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _place(error: OSError) -> str:
    names = [os.fsdecode(name) for name in (error.filename, error.filename2) if isinstance(name, str | bytes)]
    if names:
        return " to ".join(names)
    frames = traceback.extract_tb(error.__traceback__)
    charts = any("tensorboard" in frame.filename for frame in frames)
    return "TensorBoard's files" if charts else "standard output or another open file"


def _is_out_of_memory(error: BaseException) -> bool:
    """Whether torch, if it is there, has found no memory: on a device, or in its allocator for the CPU."""
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(error, torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message."""
    return (str(error).splitlines() or [""])[0]
