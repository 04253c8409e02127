"""The digits: 1,797 grey 8x8 images of handwritten digits (Alpaydin & Kaynak 1998, UCI repository, CC BY 4.0).

They are the test part of the repository's set, in the order in which scikit-learn ships them, as amounts of ink.
"""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from amed_lightning.data.images import ImageSet
from amed_lightning.tensors import Bytes

NUM_CLASSES = 10
SHAPE = (1, 8, 8)
_MAX_INK = 16
_INK = Path(__file__).parents[1] / "assets" / "digits" / "images.npz"


def digits() -> tuple[Bytes, Int[Tensor, "batch"]]:
    """Return all images as bytes (0 for paper, 255 for full ink) and their labels, in the file's order."""
    with np.load(_INK, allow_pickle=False) as data:
        ink, labels = torch.from_numpy(data["ink"])[:, None], torch.from_numpy(data["labels"])
    return (ink.double() * 255 / _MAX_INK).round().to(torch.uint8), labels.long()


def digits_set() -> ImageSet:
    """Return the digits as a set that is read one at a time."""
    images, labels = digits()
    return ImageSet(len(images), lambda number: (images[number], int(labels[number])), lambda number: f"digit {number}")
