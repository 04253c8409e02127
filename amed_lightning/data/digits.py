"""The digits that scikit-learn carries: 1,797 grey 8x8 images of handwritten digits (UCI, Alpaydin & Kaynak 1998)."""

import torch
from jaxtyping import Int
from sklearn.datasets import load_digits
from torch import Tensor

from amed_lightning.data.images import ImageSet
from amed_lightning.tensors import Bytes

NUM_CLASSES = 10
SHAPE = (1, 8, 8)
MAX_INK = 16


def digits() -> tuple[Bytes, Int[Tensor, "batch"]]:
    """Return all images as bytes (0 for paper, 255 for full ink) and their labels, in the file's order."""
    data = load_digits()
    ink = torch.from_numpy(data.images)[:, None]
    return (ink * 255 / MAX_INK).round().to(torch.uint8), torch.from_numpy(data.target).long()


def digits_set() -> ImageSet:
    """Return the digits as a set that is read one at a time."""
    images, labels = digits()
    return ImageSet(len(images), lambda number: (images[number], int(labels[number])), lambda number: f"digit {number}")
