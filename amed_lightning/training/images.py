"""Labelled images for training denoisers and detectors."""

import lightning.pytorch as pl
import torch
from torch.utils.data import DataLoader, RandomSampler, TensorDataset

from amed_lightning.data.digits import digits

HELD_OUT_EVERY = 6


class DigitsImages(pl.LightningDataModule):
    """The digits as batches of bytes and labels, drawn with replacement.

    Args:
        batch_size: images per batch.
        steps_per_epoch: batches per epoch.
        hold_out: keep every sixth image for validation; otherwise all are trained on, and validated on.
    """

    def __init__(self, batch_size: int = 128, steps_per_epoch: int = 500, hold_out: bool = False) -> None:
        super().__init__()
        self.batch_size, self.steps_per_epoch, self.hold_out = batch_size, steps_per_epoch, hold_out

    def setup(self, stage: str) -> None:
        """Read the images and split them."""
        images, labels = digits()
        held_out = torch.arange(len(images)) % HELD_OUT_EVERY == 0
        kept = ~held_out if self.hold_out else torch.ones_like(held_out)
        self.train_set = TensorDataset(images[kept], labels[kept])
        self.val_set = TensorDataset(images[held_out], labels[held_out])

    def train_dataloader(self) -> DataLoader[tuple[torch.Tensor, ...]]:
        """Return the training batches."""
        draws = RandomSampler(self.train_set, replacement=True, num_samples=self.steps_per_epoch * self.batch_size)
        return DataLoader(self.train_set, self.batch_size, sampler=draws)

    def val_dataloader(self) -> DataLoader[tuple[torch.Tensor, ...]]:
        """Return the held-out images in order."""
        return DataLoader(self.val_set, len(self.val_set))
