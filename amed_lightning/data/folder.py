"""Images in a folder."""

from pathlib import Path

import torch
from torchvision.io import ImageReadMode, decode_image

from amed_lightning.config import InputError
from amed_lightning.tensors import Bytes


def image_folder(folder: Path) -> Bytes:
    """Read the PNG files of a folder, in the order of their names.

    Raises:
        InputError: there are none, or they differ in size or channels.
    """
    paths = sorted(folder.glob("*.png"))
    if not paths:
        raise InputError(f"{folder}: no PNG files there")
    images = [decode_image(str(path), ImageReadMode.UNCHANGED) for path in paths]
    for path, image in zip(paths, images, strict=True):
        if image.shape != images[0].shape:
            raise InputError(f"{path}: shape {tuple(image.shape)} where {paths[0].name} has {tuple(images[0].shape)}")
    return torch.stack(images)
