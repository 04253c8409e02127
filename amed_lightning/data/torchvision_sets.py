"""Datasets that torchvision reads, by the names that it gives them."""

from pathlib import Path
from typing import Any

import numpy as np
import torchvision.datasets

from amed_lightning.config import InputError
from amed_lightning.data.folder import to_pixels
from amed_lightning.data.images import ImageSet, Label, Pixels


def torchvision_set(dataset: str, root: Path, options: dict[str, Any] | None = None) -> ImageSet:
    """Return the images of one of torchvision's datasets, in its order.

    Args:
        dataset: its class's name, such as ``CIFAR10``.
        root: folder that holds it; nothing is downloaded unless the options say ``download: true``.
        options: the class's other arguments, such as ``train: true`` or ``split: train``.

    Raises:
        InputError: there is no such dataset, or it is not in the folder.
    """
    if dataset not in torchvision.datasets.__all__:
        raise InputError(f"torchvision has no dataset '{dataset}'; name a class of torchvision.datasets, like CIFAR10")
    try:
        items = getattr(torchvision.datasets, dataset)(root=str(root), **(options or {}))
    except (OSError, RuntimeError, TypeError, ValueError) as error:
        raise InputError(f"{dataset} in {root}: {' '.join(str(error).split())}") from error

    def name(number: int) -> str:
        return f"{root}: {dataset} image {number}"

    def read(number: int) -> tuple[Pixels, Label]:
        picture, label = items[number]
        return to_pixels(picture, name(number)), int(label) if isinstance(label, int | np.integer) else None

    return ImageSet(len(items), read, name)
