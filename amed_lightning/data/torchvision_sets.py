"""Datasets that torchvision reads, by the names that it gives them.

Which part of a dataset is meant (``train``, ``split``, ...) has to be said: torchvision takes the training part in
silence. Folders of one's own are not read here: torchvision leaves files out by their endings and turns all to RGB.
"""

from inspect import Parameter, signature
from pathlib import Path
from typing import Any

import numpy as np
import torchvision.datasets

from amed_lightning.config import InputError
from amed_lightning.data.images import ImageSet, Label, Pixels
from amed_lightning.data.picture import to_pixels
from amed_lightning.runtime.network import FORBIDDEN, is_offline

PARTS = ("background", "classes", "fold", "image_set", "partition", "split", "train", "version", "year")
"""What the arguments are called that choose images."""
FOLDERS = ("DatasetFolder", "ImageFolder")
_UNPICKLING = ("LSUN", "LSUNClass")
"""Those whose pickles anybody may have put there; CIFAR's are compared with known digests before."""
EXPORT = "write its images to a folder or zip and read them as {{name: images, path: {root}}}"


def torchvision_set(dataset: str, root: Path, options: dict[str, Any] | None = None) -> ImageSet:
    """Return the images of one of torchvision's datasets, in its order.

    Args:
        dataset: its class's name, such as ``CIFAR10``.
        root: folder that holds it; nothing is downloaded unless the options say ``download: true``.
        options: the class's other arguments, such as ``train: true`` or ``split: train``.

    Raises:
        InputError: there is no such dataset, it is not in the folder, or which part of it is not said.
    """
    if dataset in FOLDERS:
        raise InputError(f"{dataset}: read a folder of your own as {{name: images, path: {root}}}")
    if dataset in _UNPICKLING:
        raise InputError(f"{dataset}: torchvision runs a pickle that it finds there; {EXPORT.format(root=root)}")
    if dataset not in torchvision.datasets.__all__:
        raise InputError(f"torchvision has no dataset '{dataset}'; name a class of torchvision.datasets, like CIFAR10")
    kind, options = getattr(torchvision.datasets, dataset), options or {}
    for part, argument in signature(kind).parameters.items():
        if part in PARTS and part not in options and argument.default is not Parameter.empty:
            raise InputError(
                f"{dataset}: options must say {part}; torchvision's choice is {{{part}: {argument.default}}}"
            )
    if options.get("download") and is_offline():
        raise InputError(f"{dataset}: options say download, and {FORBIDDEN} forbids the network; leave it out")
    try:
        items = kind(root=str(root), **options)
    except (OSError, RuntimeError, TypeError, ValueError) as error:
        raise InputError(f"{dataset} in {root}: {' '.join(str(error).split())}") from error

    def name(number: int) -> str:
        return f"{root}: {dataset} image {number}"

    def read(number: int) -> tuple[Pixels, Label]:
        picture, label = items[number]
        return to_pixels(picture, name(number)), int(label) if isinstance(label, int | np.integer) else None

    return ImageSet(len(items), read, name)
