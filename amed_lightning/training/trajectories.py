"""Teacher trajectories as training data: computed when they are missing, read when they are there."""

import warnings
from dataclasses import replace
from pathlib import Path
from typing import cast

import lightning.pytorch as pl
import torch
from torch.utils.data import DataLoader

from amed_lightning.config import InputError
from amed_lightning.runtime.processes import Processes
from amed_lightning.sampling.parts import SamplerParts
from amed_lightning.seeds import Seeds, Stream
from amed_lightning.teacher.estimate import Estimate, estimate
from amed_lightning.teacher.store import TrajectoryStore
from amed_lightning.teacher.trajectories import TeacherConfig, recipe_for
from amed_lightning.training.distilling import Distilling
from amed_lightning.training.precision import FROZEN, SINGLE, require_precision
from amed_lightning.training.resuming import Resumable
from amed_lightning.training.route import Batch
from amed_lightning.training.source import Source


class TeacherTrajectories(pl.LightningDataModule):
    """The teacher's trajectories for the student that is being fitted.

    Args:
        teacher: how the teacher runs.
        root: folder of the trajectory stores.
        trajectories: how many to train on; a multiple of ``batch_size``. Where there are fewer than the teacher's
            ``batch_size``, that is made smaller: a batch is never filled up.
        validation_trajectories: how many, of other seeds, to validate on; likewise.
        batch_size: trajectories per optimiser step, over all processes.
        seed: of the order.
        memory_share: of the free memory, the device's and then the machine's, that trajectories may take to be read
            once; what does not fit is read during training, and with 0 everything is.
        first_seed: the first of the training seeds.
    """

    def __init__(
        self,
        teacher: TeacherConfig,
        root: Path = Path("runs/trajectories"),
        trajectories: int = 2048,
        validation_trajectories: int = 256,
        batch_size: int = 64,
        seed: int = 0,
        memory_share: float = 0.5,
        first_seed: int = 0,
    ) -> None:
        super().__init__()
        for name, number in (("trajectories", trajectories), ("validation_trajectories", validation_trajectories)):
            if number < 1 or number % batch_size:
                raise InputError(f"data.{name} is {number}; it must be a multiple of data.batch_size, {batch_size}")
        if not 0 <= memory_share <= 1:
            raise InputError(f"data.memory_share is {memory_share}; it must lie between 0 and 1")
        fewest = min(trajectories, validation_trajectories)
        self.teacher = (
            teacher if teacher.batch_size <= fewest else replace(teacher, batch_size=_fitting(teacher, fewest))
        )
        self.root, self.batch_size, self.seed = root, batch_size, seed
        self.memory_share = memory_share
        self.train_seeds = Seeds(Stream.training, first_seed, first_seed + trajectories)
        self.val_seeds = Seeds(Stream.validation, 0, validation_trajectories)

    def store(self, parts: SamplerParts) -> TrajectoryStore:
        """Return the store that serves a student."""
        return TrajectoryStore(self.root, recipe_for(parts, self.teacher))

    def source(self, processes: Processes, device: torch.device, sharing: int = 1) -> Source:
        """Return the trajectories as some processes share them."""
        seeds = self.train_seeds, self.val_seeds
        return Source(self.teacher, self.root, *seeds, processes, device, self.memory_share, sharing)

    def estimate(self, parts: SamplerParts, world_size: int, device: torch.device) -> Estimate:
        """Say what the trajectories that are missing will take."""
        model = parts.model.to(device)
        return estimate(self.store(parts), model, [self.train_seeds, self.val_seeds], world_size, device)

    def setup(self, stage: str) -> None:
        """Complete what the module needs on disk, with all processes.

        Raises:
            InputError: the batch does not divide by the number of processes, the Trainer's precision is not the
                module's, or something on disk is damaged.
        """
        trainer = cast(pl.Trainer, self.trainer)
        if self.batch_size % trainer.world_size:
            raise InputError(f"data.batch_size is {self.batch_size}; {trainer.world_size} processes do not divide it")
        require_precision(trainer.precision, SINGLE, FROZEN)
        processes = cast(Processes, trainer.strategy)
        self._source = self.source(processes, trainer.strategy.root_device, trainer.num_devices)
        self._module.prepare(self._source)

    def train_dataloader(self) -> Resumable[Batch]:
        """Return the training batches."""
        return Resumable(self._batches(self.train_seeds, self.seed))

    def val_dataloader(self) -> DataLoader[Batch]:
        """Return the validation batches, in the order of their seeds."""
        return self._batches(self.val_seeds, None)

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Copy a batch to the device."""
        return batch.to(device)

    def teardown(self, stage: str) -> None:
        """Close the store."""
        self._source.close()

    def _batches(self, seeds: Seeds, seed: int | None) -> DataLoader[Batch]:
        warnings.filterwarnings("ignore", ".*does not have many workers")  # neither memory nor a thread needs any
        return self._module.batches(self._source, seeds, self.batch_size, seed)

    @property
    def _module(self) -> Distilling:
        return cast(Distilling, cast(pl.Trainer, self.trainer).lightning_module)


def _fitting(teacher: TeacherConfig, number: int) -> int:
    """Return the largest batch of at most ``number`` trajectories that divides a shard."""
    return max(size for size in range(1, number + 1) if teacher.shard_size % size == 0)
