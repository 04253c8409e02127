"""IDX, the form of MNIST's files: a magic number that says type and dimensions, their sizes, then the bytes.

A file that ends in ``.gz`` is unpacked while it is read, and no further than one byte beyond the size that it may have.
"""

import gzip
import hashlib
import zlib
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from amed_lightning.config import InputError

_UNSIGNED_BYTES = 8
"""What the third byte says where the numbers are bytes."""
UNREADABLE = (OSError, EOFError, zlib.error)
PACKED = ".gz"


def read_idx(path: Path, shape: tuple[int, ...]) -> tuple[UInt8[Tensor, "..."], str]:
    """Read a file of bytes.

    Args:
        path: of the file; packed if it ends in ``.gz``.
        shape: that it has to have, of 1 to 255 dimensions.

    Returns:
        The array, 0 to 255, and the SHA-256 of the unpacked file as 64 hexadecimal digits.

    Raises:
        InputError: the file cannot be read, is no IDX file of bytes of this shape, or ends early or late.
    """
    header = bytes([0, 0, _UNSIGNED_BYTES, len(shape)]) + np.array(shape, ">u4").tobytes()
    expected = len(header) + int(np.prod(shape))
    try:
        with gzip.open(path) if path.name.endswith(PACKED) else path.open("rb") as file:
            content = file.read(expected + 1)
    except UNREADABLE as error:
        raise InputError(f"{path}: cannot be read, it is damaged or cut off ({error}); get it anew") from error
    if content[: len(header)] != header:
        raise InputError(f"{path}: not an IDX file of bytes of shape {shape}; another set's, or damaged")
    if len(content) != expected:
        held = "more" if len(content) > expected else len(content)
        raise InputError(f"{path}: {expected} bytes are announced, and there are {held}; it is damaged, get it anew")
    array = torch.frombuffer(bytearray(content), dtype=torch.uint8, offset=len(header)).reshape(shape)
    return array, hashlib.sha256(content).hexdigest()
