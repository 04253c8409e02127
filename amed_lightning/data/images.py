"""A set of real images that is read one image at a time, so that it may be larger than the memory.

Every image of a set counts once, in the set's own order: the balance of the classes is the set's, nothing is drawn.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeAlias

import torch
from jaxtyping import UInt8
from torch import Tensor

from amed_lightning.config import InputError
from amed_lightning.tensors import Bytes

Pixels: TypeAlias = UInt8[Tensor, "channels height width"]
Label: TypeAlias = int | None


@dataclass(frozen=True)
class ImageSet:
    """Images of one shape in a fixed order, each read when it is asked for.

    Attributes:
        count: number of images, at least one.
        read: returns the image of a number, and its label if it has one.
        name: returns what a message calls the image of a number.
        notes: what a reader of their score should know: files left out, losses.
    """

    count: int
    read: Callable[[int], tuple[Pixels, Label]]
    name: Callable[[int], str]
    notes: Sequence[str] = ()

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """Channels, height and width."""
        return tuple(self.read(0)[0].shape)

    def batches(self, size: int) -> Iterator[tuple[Bytes, Sequence[Label]]]:
        """Yield the images and their labels in order, ``size`` at a time; files are decoded on several threads.

        Raises:
            InputError: an image that cannot be read, or is of another shape than the first.
        """
        with ThreadPoolExecutor() as threads:
            for start in range(0, self.count, size):
                batch = threads.map(self._checked, range(start, min(start + size, self.count)))
                images, labels = zip(*batch, strict=True)
                yield torch.stack(images), labels

    def _checked(self, number: int) -> tuple[Pixels, Label]:
        image, label = self.read(number)
        if tuple(image.shape) != self.shape:
            raise InputError(
                f"{self.name(number)}: shape {tuple(image.shape)} where {self.name(0)} has {self.shape}; "
                "make channels and size of all images one"
            )
        return image, label


@dataclass
class Inventory:
    """What a pass over a set has seen: how many images of which class, and a digest of their pixels.

    The digest is the SHA-256 of all pixels in order; a folder, a zip and an array of the same images share it.
    """

    count: int = 0
    class_counts: Counter[int] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._pixels = hashlib.sha256()

    def add(self, images: Bytes, labels: Sequence[Label]) -> None:
        """Take note of a batch."""
        if not self.count:
            self._pixels.update(repr(tuple(images.shape[1:])).encode())
        self.count += len(images)
        self.class_counts.update(label for label in labels if label is not None)
        self._pixels.update(images.numpy().tobytes())

    @property
    def digest(self) -> str:
        """SHA-256 of the pixels so far, as 64 hexadecimal digits."""
        return self._pixels.hexdigest()
