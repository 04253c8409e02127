"""Labelled images for training denoisers and detectors."""

import math
from collections.abc import Iterator, Sequence

import lightning.pytorch as pl
import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, Dataset, SequentialSampler

from amed_lightning.config import InputError, Spec, build
from amed_lightning.data.images import ImageSet
from amed_lightning.data.registry import DATASETS
from amed_lightning.runtime.memory import free_memory
from amed_lightning.runtime.progress import progress
from amed_lightning.tensors import Bytes
from amed_lightning.training.resuming import Resumable, ResumableSampler

_HELD_OUT_EVERY = 6
READ_AT_ONCE, VALIDATED_AT_ONCE = 1024, 500
OPEN = -1
"""The label of an image that has none."""


class RandomSampler:
    """Positions drawn with replacement, a function of the seeds and the epoch.

    Args:
        size: number of samples to draw from.
        batch_size: draws per batch.
        batches: per epoch.
        seeds: of the run and of this process.
    """

    def __init__(self, size: int, batch_size: int, batches: int, *seeds: int) -> None:
        self.size, self.batch_size, self.batches, self.seeds = size, batch_size, batches, seeds
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Tell the epoch; the Trainer calls this."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Iterator[list[int]]:
        generator = np.random.default_rng([*self.seeds, self.epoch])
        for _ in range(self.batches):
            yield generator.integers(self.size, size=self.batch_size).tolist()


class LabelledBytes(Dataset[tuple[Bytes, Int[Tensor, "batch"]]]):
    """Images as bytes in memory, a batch at a time.

    Args:
        images: 0 to 255.
        labels: classes, -1 where there is none.
        mirror: have each image a second time, its left where its right was, after all others.
    """

    def __init__(self, images: Bytes, labels: Int[Tensor, "batch"], mirror: bool = False) -> None:
        self.images, self.labels, self.mirror = images, labels, mirror

    def __len__(self) -> int:
        return len(self.images) * (1 + self.mirror)

    def __getitem__(self, places: Sequence[int]) -> tuple[Bytes, Int[Tensor, "batch"]]:
        """Return the images at some places, and their labels."""
        numbers = torch.tensor(places)
        images, labels = (each[numbers % len(self.images)] for each in (self.images, self.labels))
        mirrored = (numbers >= len(self.images))[:, None, None, None]
        return (torch.where(mirrored, images.flip(3), images) if self.mirror else images), labels


def in_memory(images: ImageSet) -> tuple[Bytes, Int[Tensor, "batch"]]:
    """Read a whole set.

    Args:
        images: the set; one byte per pixel and channel is kept.

    Returns:
        The images and their labels, -1 where an image has none.

    Raises:
        InputError: an image cannot be read, or they need more memory than is free.
    """
    size, free = images.count * math.prod(images.shape), free_memory(torch.device("cpu"))
    if size > free:
        raise InputError(f"{images.name(0)}: {images.count} such images take {size} bytes, and {free} are free")
    read = torch.empty(images.count, *images.shape, dtype=torch.uint8)
    labels: list[int] = []
    with progress("images", images.count, "images") as advance:
        for batch, told in images.batches(READ_AT_ONCE):
            read[len(labels) : len(labels) + len(batch)] = batch
            labels += [OPEN if label is None else label for label in told]
            advance(len(batch))
    return read, torch.tensor(labels)


def require_images(batch: Sequence[Tensor], shape: tuple[int, ...] | None, classes: int) -> None:
    """Refuse images that a network was not made for.

    Args:
        batch: images and labels.
        shape: channels, height and width that it takes; None for any.
        classes: that it knows; 0 where it looks at no labels.

    Raises:
        InputError: another shape, or a label beyond its classes.
    """
    images, labels = batch
    if (found := tuple(images.shape[1:])) != shape and shape is not None:
        raise InputError(f"data: images of shape {found}, and the network takes {shape}; change the one or the other")
    if classes and (largest := int(labels.max())) >= classes:
        raise InputError(f"data: an image has label {largest}, and the network knows 0 to {classes - 1}")


class Images(pl.LightningDataModule):
    """A set of images as batches of bytes and labels, drawn with replacement; the whole set is kept in memory.

    Args:
        dataset: name and options of the set.
        validation: name and options of another one to validate on; None to validate on every sixth image.
        batch_size: images per batch, in each process.
        steps_per_epoch: batches per epoch.
        hold_out: keep every sixth image for validation; otherwise all are trained on.
        mirror: train on each image's mirror image, too.
        seed: of the draws.

    Raises:
        InputError: a validation set is named and images are held out for validation.
    """

    def __init__(
        self,
        dataset: Spec,
        validation: Spec | None = None,
        batch_size: int = 128,
        steps_per_epoch: int = 500,
        hold_out: bool = False,
        mirror: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if validation is not None and hold_out:
            raise InputError("data: hold_out is for a set that is also validated on, and validation names another")
        self.dataset, self.validation = dataset, validation
        self.batch_size, self.steps_per_epoch, self.hold_out = batch_size, steps_per_epoch, hold_out
        self.mirror, self.seed = mirror, seed

    def setup(self, stage: str) -> None:
        """Read the images and split them.

        Raises:
            InputError: no such set, or one that cannot be read.
        """
        images, labels = in_memory(build("dataset", DATASETS, self.dataset))
        held_out = torch.arange(len(images)) % _HELD_OUT_EVERY == 0
        if self.hold_out:
            self.train_set = LabelledBytes(images[~held_out], labels[~held_out], self.mirror)
        else:
            self.train_set = LabelledBytes(images, labels, self.mirror)
        if self.validation is None:
            self.val_set = LabelledBytes(images[held_out], labels[held_out])
        else:
            self.val_set = LabelledBytes(*in_memory(build("dataset", DATASETS, self.validation)))

    def train_dataloader(self) -> Resumable[tuple[Tensor, ...]]:
        """Return the training batches."""
        rank = self.trainer.global_rank if self.trainer else 0
        draws = RandomSampler(len(self.train_set), self.batch_size, self.steps_per_epoch, self.seed, rank)
        return Resumable(DataLoader(self.train_set, batch_size=None, sampler=ResumableSampler(draws)))

    def val_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        """Return the images to validate on, in order."""
        order = SequentialSampler(range(len(self.val_set)))
        batches = BatchSampler(order, VALIDATED_AT_ONCE, drop_last=False)
        return DataLoader(self.val_set, batch_size=None, sampler=batches)
