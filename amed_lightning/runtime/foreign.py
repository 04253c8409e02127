"""Files of tensors that anybody may have written: read without running them, within bounds that their size sets.

Both formats allow more than is here. A header of safetensors may have a hundred megabytes; what ``torch.save`` writes
is a zip that could be packed, so that kilobytes become gigabytes, and whose pickle may name classes.
"""

import re
import struct
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any
from zipfile import BadZipFile, LargeZipFile

import safetensors.torch
import torch
from torch import Tensor

from amed_lightning.config import InputError
from amed_lightning.runtime.zips import require_stored

LARGEST_HEADER = 4 << 20
"""Bytes of the header of safetensors; one of 2,500 tensors, as SDXL's, has 0.3 MB."""
LENGTH = struct.Struct("<Q")
_ZIPPED = b"PK\x03\x04"
"""How PyTorch tells its own zips, and so what is to be checked as one."""
Named = Sequence[Callable[..., Any] | tuple[Callable[..., Any], str]]
UNREADABLE = (
    *(AttributeError, EOFError, IndexError, KeyError, OSError, OverflowError, RuntimeError, TypeError, ValueError),
    *(AssertionError, MemoryError, BadZipFile, LargeZipFile, UnpicklingError, safetensors.SafetensorError),
    struct.error,
)
"""What the libraries raise for files that are missing, damaged or of something else."""


def require_bounded(path: Path) -> bool:
    """Refuse safetensors whose header says more than any model has, and a zip whose files are packed.

    Returns:
        Whether it is a zip.

    Raises:
        InputError: it is one of these, or there is no such file.
        OSError: it cannot be read, or is no zip though it begins like one.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    with path.open("rb") as file:
        start = file.read(LENGTH.size)
    if start.startswith(_ZIPPED):
        require_stored(path)
        return True
    if path.suffix == ".safetensors" and len(start) == LENGTH.size and LENGTH.unpack(start)[0] > LARGEST_HEADER:
        raise InputError(f"{path}: not safetensors: its header says more than {LARGEST_HEADER} bytes")
    return False


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Read safetensors.

    Raises:
        InputError: the file is missing, damaged or something else.
    """
    try:
        require_bounded(path)
        return safetensors.torch.load_file(path)
    except InputError:
        raise
    except UNREADABLE as error:
        raise InputError(f"{path}: not readable safetensors ({' '.join(str(error).split()):.200})") from error


def read_torch(path: Path, named: Named = ()) -> Any:
    """Read what ``torch.save`` wrote, if it is tensors and plain values alone.

    Args:
        path: of the file.
        named: classes that it may name besides, and what stands for them.

    Raises:
        InputError: there is no such file, or it is a zip whose files are packed.
        Exception: it is damaged or something else; such a file can make the library raise anything.
    """
    zipped = require_bounded(path)
    with torch.serialization.safe_globals(list(named)):
        # Without the memory map a storage is as long as the pickle says, wherever it ends in the file.
        return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)


def reason(error: Exception) -> str:
    """Return an error's message in a line; torch's own for a refused pickle advises to trust it."""
    if isinstance(error, UnpicklingError):
        refused = re.search(r"GLOBAL (\S+)", str(error))
        asked = f"it asks for {refused[1]}" if refused else "it is no pickle of tensors"
        return f"{asked}; where you trust it, save its tensors as .safetensors"
    return textwrap.shorten(str(error) or repr(error), 400, placeholder=" ...")
