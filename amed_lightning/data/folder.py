"""Images as PNG files."""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from amed_lightning.config import InputError
from amed_lightning.tensors import Bytes


def write_image(path: Path, image: UInt8[Tensor, "channels height width"]) -> None:
    """Write one image of one (grey) or three channels."""
    pixels = image.permute(1, 2, 0).cpu().numpy()
    Image.fromarray(pixels[:, :, 0] if len(image) == 1 else pixels).save(path)


def read_image(path: Path) -> UInt8[Tensor, "channels height width"]:
    """Read one image of one or three channels.

    Raises:
        InputError: it is no image, or of another kind.
    """
    try:
        with Image.open(path) as image:
            mode, pixels = image.mode, np.asarray(image)
    except OSError as error:
        raise InputError(f"{path}: not a readable image") from error
    if mode not in ("L", "RGB"):
        raise InputError(f"{path}: an image of mode {mode}; use 8-bit grey or RGB")
    return torch.from_numpy(pixels.copy()).reshape(*pixels.shape[:2], -1).permute(2, 0, 1)


def image_folder(folder: Path) -> Bytes:
    """Read the PNG files of a folder, in the order of their names.

    Raises:
        InputError: there are none, or they differ in size or channels.
    """
    paths = sorted(folder.glob("*.png"))
    if not paths:
        raise InputError(f"{folder}: no PNG files there")
    images = [read_image(path) for path in paths]
    for path, image in zip(paths, images, strict=True):
        if image.shape != images[0].shape:
            raise InputError(f"{path}: shape {tuple(image.shape)} where {paths[0].name} has {tuple(images[0].shape)}")
    return torch.stack(images)
