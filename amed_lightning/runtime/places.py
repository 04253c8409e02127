"""Whether something can be written where it is to go, asked before hours of work and not after them."""

import os
from pathlib import Path

from amed_lightning.config import InputError
from amed_lightning.runtime.trouble import told


def require_place(path: Path, is_folder: bool = False) -> None:
    """Check that a file or a folder can be written.

    Args:
        path: where it is to go; its folders may be missing.
        is_folder: what it is.

    Raises:
        InputError: something else is there, or this user may not write there.
    """
    try:
        found = next(place for place in (path, *path.absolute().parents) if _is_there(place))
        if found == path and found.is_dir() != is_folder:
            raise InputError(f"{path}: is a {'folder' if found.is_dir() else 'file'}; name another")
        if found != path and not found.is_dir():
            raise InputError(f"{path}: {found} is a file; name another place")
        folder = found if found.is_dir() else path.absolute().parent
        if not os.access(folder, os.W_OK | os.X_OK):
            raise InputError(f"{path}: {folder} may not be written by this user; name another place")
    except OSError as error:
        raise InputError(told(error)) from error


def _is_there(path: Path) -> bool:
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True
