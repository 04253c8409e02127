"""Images as files: in a folder, or in a zip that is laid out like EDM's.

Nested folders are searched; the order is that of the names. A ``dataset.json`` at the top gives labels, as EDM's tool
writes it: ``{"labels": [["00000/img00000000.png", 6], ...]}``, or null where there are none.
"""

import json
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from zipfile import BadZipFile, ZipFile

import numpy as np
import torch
from PIL import Image

from amed_lightning.config import InputError
from amed_lightning.data.images import ImageSet, Label, Pixels

SUFFIXES = (".png", ".jpg", ".jpeg")
LABELS = "dataset.json"
UNREADABLE = (OSError, BadZipFile, zlib.error, SyntaxError, ValueError, RuntimeError)
"""What Pillow and zipfile raise for files that are damaged or of a kind that they do not know."""


def write_image(path: Path, image: Pixels) -> None:
    """Write one image of one (grey) or three channels."""
    pixels = image.permute(1, 2, 0).cpu().numpy()
    Image.fromarray(pixels[:, :, 0] if len(image) == 1 else pixels).save(path)


def to_pixels(picture: Image.Image, name: str) -> Pixels:
    """Turn a decoded picture into a tensor.

    Raises:
        InputError: it is neither grey nor RGB, or has more than eight bits.
    """
    if picture.mode not in ("L", "RGB"):
        raise InputError(f"{name}: an image of mode {picture.mode}; use 8-bit grey or RGB")
    pixels = np.array(picture)
    return torch.from_numpy(pixels).reshape(*pixels.shape[:2], -1).permute(2, 0, 1)


def image_files(path: Path) -> ImageSet:
    """Return the PNG and JPEG files of a folder or a zip, which is not unpacked.

    Args:
        path: of the folder or the zip.

    Raises:
        InputError: there are no such files, or the labels are not EDM's; later, when they are read, that one is no
            image or differs from the first in size or channels.
    """
    path = Path(path)
    present, content = _open_folder(path) if path.is_dir() else _open_zip(path)
    names = sorted(name for name in present if name.lower().endswith(SUFFIXES))
    if not names:
        raise InputError(f"{path}: no PNG or JPEG files there")
    labels = _labels(content(LABELS), path / LABELS) if LABELS in present else {}

    def read(number: int) -> tuple[Pixels, Label]:
        name = names[number]
        try:
            picture = Image.open(BytesIO(content(name)))
            picture.load()
        except UNREADABLE as error:
            raise InputError(f"{path / name}: not a readable image") from error
        return to_pixels(picture, str(path / name)), labels.get(name)

    return ImageSet(len(names), read, lambda number: str(path / names[number]))


def _open_folder(path: Path) -> tuple[list[str], Callable[[str], bytes]]:
    """Return the names below a folder, and a function that reads one."""
    names = [file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file()]
    return names, lambda name: (path / name).read_bytes()


def _open_zip(path: Path) -> tuple[list[str], Callable[[str], bytes]]:
    """Return the names in a zip, and a function that reads one."""
    try:
        archive = ZipFile(path)
    except FileNotFoundError:
        raise InputError(f"{path}: no such folder or zip") from None
    except UNREADABLE as error:
        raise InputError(f"{path}: neither a folder nor a readable zip") from error
    return archive.namelist(), archive.read


def _labels(content: bytes, path: Path) -> dict[str, int]:
    """Read the labels by file name."""
    try:
        labels = dict(json.loads(content)["labels"] or [])
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(f'{path}: expected {{"labels": [[<file>, <class>], ...]}} or null for no labels') from error
    if not all(isinstance(label, int) for label in labels.values()):
        raise InputError(f"{path}: a label is the number of a class")
    return labels
