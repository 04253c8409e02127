"""How weights are learned: their order in memory, and learning rates."""

import lightning.pytorch as pl
import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR

MEMORY_FORMATS = {False: torch.contiguous_format, True: torch.channels_last}
"""By whether a pixel's channels lie side by side."""


def with_cosine_decay(optimizer: Optimizer, trainer: pl.Trainer) -> OptimizerLRSchedulerConfig:
    """Let the learning rate fall to zero along a cosine over all steps of the run."""
    schedule = CosineAnnealingLR(optimizer, int(trainer.estimated_stepping_batches))
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
