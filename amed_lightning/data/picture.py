"""One image and its file: the exact bytes of its pixels, or a refusal; and what made it, if the file says so.

What Pillow can open and these formats hold without loss is read as it is: 8-bit grey and RGB, fewer bits of grey, and
palettes, whose colours are 8-bit (grey if all of them are). What would have to be changed is refused by name: more than
eight bits, which Pillow cuts off, transparency, several frames, CMYK, and pixels that an EXIF entry wants turned.

An image that this package makes says in its PNG file what made it (a ``Record``), so that images of two samplers are
told apart wherever they are copied.
"""

import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from amed_lightning.config import InputError, canonical_json
from amed_lightning.data.images import Pixels
from amed_lightning.runtime.json_text import parse_json
from amed_lightning.runtime.unfinished import unfinished

FORMATS = ("PNG", "BMP", "GIF", "JPEG", "PPM", "TIFF", "WEBP")
"""By Pillow's names. GIF and TIFF are read if they hold one image, PPM stands for its kin (PGM, PBM)."""
LOSSY = ("JPEG", "WEBP")
_CHANNELS = {"1": "L", "L": "L", "LA": "L", "P": "RGB", "RGB": "RGB", "RGBA": "RGB"}
"""Pillow's modes that hold 8-bit grey or RGB, where nothing is transparent."""
ORIENTATION, UPRIGHT = 0x0112, 1
_BITS, _SAMPLE_FORMAT, _COLOURS = 0x0102, 0x0153, 0x0140
"""Tags of TIFF: bits and kind of each sample; a palette of 16-bit colours, of which Pillow takes the upper eight."""
_UNSIGNED = 1
_MAX_BYTE = 255
_KEYWORD = "amed-lightning"
LARGEST, MOST_PIXELS = 128 << 20, 1 << 25
"""Bytes of an image's file, and pixels of an image: 5,792 squared."""
UNREADABLE = (
    *(OSError, BadZipFile, zlib.error, SyntaxError, ValueError, TypeError, RuntimeError, AttributeError, EOFError),
    *(LookupError, ArithmeticError, MemoryError, struct.error, Image.DecompressionBombError),
)
"""What Pillow and zipfile raise for files that are damaged or of a kind that they do not know."""


@dataclass(frozen=True)
class Record:
    """What made an image.

    Attributes:
        verb: that wrote it.
        made_by: everything that the image depends on but its seed; the images of one sampler share it.
        seeds: the first seed of the run that wrote it, and the one after the last.
        provenance: of that run.
    """

    verb: str
    made_by: dict[str, Any]
    seeds: Sequence[int]
    provenance: dict[str, Any]


def is_picture(shape: tuple[int, ...]) -> bool:
    """Whether an image of (channels, height, width) is grey or RGB, and not the latent of a model without a decoder."""
    return shape[0] in (1, 3)


def require_picture(shape: tuple[int, ...]) -> None:
    """Refuse what would be written with transparency, or not at all, and what no detector knows.

    Raises:
        InputError: neither grey nor RGB.
    """
    if not is_picture(shape):
        raise InputError(f"images of shape {shape} are neither grey nor RGB: a model of latents needs its decoder")


def write_image(path: Path, image: Pixels, record: Record | None = None) -> None:
    """Write one image of one (grey) or three channels as PNG, whole or not at all.

    Args:
        path: of the file.
        image: to write.
        record: what made it.
    """
    pixels = image.permute(1, 2, 0).cpu().numpy()
    notes = PngInfo()
    if record is not None:
        notes.add_text(_KEYWORD, canonical_json(asdict(record)), zip=True)
    content = BytesIO()  # Pillow does not say why a file cannot be written
    Image.fromarray(pixels[:, :, 0] if len(image) == 1 else pixels).save(content, "PNG", pnginfo=notes)
    with unfinished(path) as temporary:
        temporary.write_bytes(content.getbuffer())
        temporary.replace(path)


def read_image(content: bytes, name: str) -> tuple[Pixels, Record | None]:
    """Decode a file and, if it says so, tell what made it.

    Args:
        content: of the file.
        name: that messages call it by.

    Raises:
        InputError: it is no image, is damaged, or is of a kind that cannot be read as it is.
    """
    try:
        picture = Image.open(BytesIO(content))
        if not (reason := _changed_by_reading(picture)):
            picture.load()
    except UNREADABLE as error:
        raise InputError(f"{name}: not a readable image") from error
    if reason:
        raise InputError(f"{name}: {reason}")
    return to_pixels(picture, name), _record(picture, name)


def record_in(path: Path) -> Record | None:
    """Tell what made an image; nothing does where a file is no image."""
    try:
        with Image.open(path) as picture:
            return _record(picture, str(path))
    except UNREADABLE:
        return None


def _record(picture: Image.Image, name: str) -> Record | None:
    said = picture.info.get(_KEYWORD)
    try:
        return None if said is None else _checked(Record(**parse_json(said)))
    except (ValueError, TypeError) as error:
        raise InputError(f"{name}: says in a way that this version cannot read what made it") from error


def _checked(record: Record) -> Record:
    """Refuse entries of other types, in less time than a parser takes for each of many images.

    Raises:
        TypeError: there is one.
    """
    first, stop = record.seeds
    types = isinstance(record.verb, str), *(isinstance(told, dict) for told in (record.made_by, record.provenance))
    if not all(types) or not all(type(seed) is int for seed in (first, stop)):
        raise TypeError("an entry of another type")
    return record


def _changed_by_reading(picture: Image.Image) -> str | None:
    """Say what Pillow would change without a word, or run; to be asked before the pixels are decoded.

    Of other formats nothing is decoded at all: Pillow hands PostScript to an interpreter.
    """
    if picture.format not in FORMATS:
        return f"an image of format {picture.format}; turn it into PNG ({', '.join(FORMATS)} are read)"
    if picture.width * picture.height > MOST_PIXELS:
        return f"{picture.width} x {picture.height} pixels; at most {MOST_PIXELS} are read"
    tiles, tags = getattr(picture, "tile", []), getattr(picture, "tag_v2", {})
    if any(_is_cut(codec, args) for codec, _, _, args in tiles) or (picture.mode in _CHANNELS and _is_deep(tags)):
        return "samples of another depth than 8 bits; turn it into 8-bit grey or RGB"
    if getattr(picture, "is_animated", False):  # to count them is to look at each
        return "several images in one file; give each a file of its own"
    if (turned := picture.getexif().get(ORIENTATION, UPRIGHT)) != UPRIGHT:
        return f"an EXIF orientation of {turned}: turn the pixels themselves, and take the entry out"
    return None


def _is_cut(codec: str, args: Any) -> bool:
    """Whether a decoder is asked to bring samples to 8 bits: from 16, or from a PPM's own greatest value."""
    stored, *rest = (args,) if isinstance(args, str) else args
    return ";16" in str(stored) or (codec.startswith("ppm") and rest != [_MAX_BYTE])


def _is_deep(tags: Mapping[int, Any]) -> bool:
    """Whether a TIFF's samples or colours are no bytes; a decoder of planes that lie apart is not told."""
    bits, kinds = tags.get(_BITS, (1,)), tags.get(_SAMPLE_FORMAT, (_UNSIGNED,))
    colours = any(colour % 256 and colour % 257 for colour in tags.get(_COLOURS, ()))
    return max(bits) > 8 or {*kinds} != {_UNSIGNED} or colours


def to_pixels(picture: Image.Image, name: str) -> Pixels:
    """Turn a decoded picture into a tensor.

    Raises:
        InputError: it is neither grey nor RGB, has more than eight bits, or is transparent somewhere.
    """
    if picture.mode not in _CHANNELS:
        raise InputError(f"{name}: an image of mode {picture.mode}; use 8-bit grey or RGB")
    if picture.has_transparency_data and picture.convert("RGBA").getchannel("A").getextrema() != (255, 255):
        raise InputError(f"{name}: transparent in places; lay it on a background, in 8-bit grey or RGB")
    pixels = np.array(picture.convert(_CHANNELS[picture.mode]))
    if picture.mode == "P" and _has_grey_palette(picture):
        pixels = pixels[:, :, 0]
    return torch.from_numpy(pixels).reshape(*pixels.shape[:2], -1).permute(2, 0, 1)


def _has_grey_palette(picture: Image.Image) -> bool:
    colours = np.array(picture.getpalette("RGB")).reshape(-1, 3)
    return bool((colours == colours[:, :1]).all())
