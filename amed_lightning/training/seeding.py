"""Noise that a training step draws, as a function of (seed, epoch, position)."""

import os
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback


class NoiseByBatch(Callback):
    """Seed the global generators before every batch, so that a run that was interrupted draws what it would have drawn.

    Each process draws noise of its own.
    """

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Seed them."""
        seed = int(os.environ.get("PL_GLOBAL_SEED", "0"))
        place = np.random.SeedSequence([seed, trainer.current_epoch, batch_idx, trainer.global_rank])
        torch.manual_seed(int(place.generate_state(1)[0]))
