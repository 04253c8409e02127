"""Labelled images for training denoisers and detectors."""

from collections.abc import Iterator

import lightning.pytorch as pl
import numpy as np
import torch
from torch.utils.data import DataLoader, TensorDataset

from amed_lightning.data.digits import digits
from amed_lightning.training.resuming import FromHere, Resumable

HELD_OUT_EVERY = 6


class Draws:
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


class DigitsImages(pl.LightningDataModule):
    """The digits as batches of bytes and labels, drawn with replacement.

    Args:
        batch_size: images per batch, in each process.
        steps_per_epoch: batches per epoch.
        hold_out: keep every sixth image for validation; otherwise all are trained on, and validated on.
        seed: of the draws.
    """

    def __init__(
        self, batch_size: int = 128, steps_per_epoch: int = 500, hold_out: bool = False, seed: int = 0
    ) -> None:
        super().__init__()
        self.batch_size, self.steps_per_epoch, self.hold_out = batch_size, steps_per_epoch, hold_out
        self.seed = seed

    def setup(self, stage: str) -> None:
        """Read the images and split them."""
        images, labels = digits()
        held_out = torch.arange(len(images)) % HELD_OUT_EVERY == 0
        kept = ~held_out if self.hold_out else torch.ones_like(held_out)
        self.train_set = TensorDataset(images[kept], labels[kept])
        self.val_set = TensorDataset(images[held_out], labels[held_out])

    def train_dataloader(self) -> Resumable[tuple[torch.Tensor, ...]]:
        """Return the training batches."""
        rank = self.trainer.global_rank if self.trainer else 0
        draws = Draws(len(self.train_set), self.batch_size, self.steps_per_epoch, self.seed, rank)
        return Resumable(DataLoader(self.train_set, batch_size=None, sampler=FromHere(draws)))

    def val_dataloader(self) -> DataLoader[tuple[torch.Tensor, ...]]:
        """Return the held-out images in order."""
        return DataLoader(self.val_set, len(self.val_set))
