"""Teacher trajectories as training data: computed when they are missing, read when they are there.

Which trajectories form a batch is a function of (seed, epoch, position) alone: a resumed run sees what an uninterrupted
one would have seen, and each of several processes takes its slice of the same batches.
"""

import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import cast

import lightning.pytorch as pl
import torch
from torch.utils.data import DataLoader, Sampler

from amed_lightning.config import InputError
from amed_lightning.runtime.processes import Processes
from amed_lightning.sampling.sampler import SamplerParts
from amed_lightning.seeds import Seeds, Stream
from amed_lightning.teacher.estimate import Estimate, estimate
from amed_lightning.teacher.precompute import precompute
from amed_lightning.teacher.store import TrajectoryReader, TrajectoryStore
from amed_lightning.teacher.trajectories import TeacherConfig, Trajectories, recipe_for
from amed_lightning.training.distillation import AMEDDistillation
from amed_lightning.training.precision import FROZEN, SINGLE, require_precision
from amed_lightning.training.reading import loader_for
from amed_lightning.training.resuming import FromHere, Resumable
from amed_lightning.training.route import Batch


class Batches(Sampler[list[int]]):
    """The positions that this process takes of each batch.

    Args:
        size: number of trajectories.
        batch_size: trajectories per batch, over all processes.
        processes: this one among all.
        seed: of the order, which changes every epoch; None keeps the order of the seeds.
    """

    def __init__(self, size: int, batch_size: int, processes: Processes, seed: int | None) -> None:
        self.size, self.batch_size, self.seed = size, batch_size, seed
        self.processes, self.epoch = processes, 0

    def set_epoch(self, epoch: int) -> None:
        """Tell the epoch; the Trainer calls this."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.size // self.batch_size

    def __iter__(self) -> Iterator[list[int]]:
        order = torch.arange(self.size)
        if self.seed is not None:
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
            order = torch.randperm(self.size, generator=generator)
        for batch in order.reshape(-1, self.batch_size):
            yield batch[self.processes.global_rank :: self.processes.world_size].tolist()


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
        self._readers: list[TrajectoryReader] = []
        self.train_seeds = Seeds(Stream.training, first_seed, first_seed + trajectories)
        self.val_seeds = Seeds(Stream.validation, 0, validation_trajectories)

    def store(self, parts: SamplerParts) -> TrajectoryStore:
        """Return the store that serves a student."""
        return TrajectoryStore(self.root, recipe_for(parts, self.teacher))

    def precompute(self, parts: SamplerParts, processes: Processes, device: torch.device) -> TrajectoryStore:
        """Compute the trajectories that are missing and return the complete store."""
        store = self.store(parts)
        precompute(store, parts.model.to(device), [self.train_seeds, self.val_seeds], processes, device)
        return store

    def estimate(self, parts: SamplerParts, world_size: int, device: torch.device) -> Estimate:
        """Say what the trajectories that are missing will take."""
        model = parts.model.to(device)
        return estimate(self.store(parts), model, [self.train_seeds, self.val_seeds], world_size, device)

    def setup(self, stage: str) -> None:
        """Complete what the module's route needs on disk, with all processes.

        Raises:
            InputError: the batch does not divide by the number of processes, the Trainer's precision is not the
                module's, or something on disk is damaged.
        """
        trainer = cast(pl.Trainer, self.trainer)
        if self.batch_size % trainer.world_size:
            raise InputError(f"data.batch_size is {self.batch_size}; {trainer.world_size} processes do not divide it")
        module = cast(AMEDDistillation, trainer.lightning_module)
        require_precision(trainer.precision, SINGLE, FROZEN)
        module.route.prepare(module.student, self, self._processes(), trainer.strategy.root_device)

    def train_dataloader(self) -> Resumable[Batch]:
        """Return the training batches."""
        return Resumable(self._batches(self.train_seeds, self.seed))

    def val_dataloader(self) -> DataLoader[Batch]:
        """Return the validation batches, in the order of their seeds."""
        return self._batches(self.val_seeds, None)

    def loader(self, parts: SamplerParts, seeds: Seeds, order: Sampler[list[int]]) -> DataLoader[Trajectories]:
        """Return batches out of the complete store.

        Args:
            parts: of the student, whose levels are read.
            seeds: of the trajectories.
            order: positions of each batch.
        """
        trainer = cast(pl.Trainer, self.trainer)
        reader = TrajectoryReader(self.store(parts), seeds, parts.sigmas)
        self._readers.append(reader)
        return loader_for(reader, order, trainer.strategy.root_device, self.memory_share, trainer.num_devices)

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Copy a batch to the device."""
        return batch.to(device)

    def teardown(self, stage: str) -> None:
        """Close the store."""
        while self._readers:
            self._readers.pop().close()

    def _batches(self, seeds: Seeds, seed: int | None) -> DataLoader[Batch]:
        warnings.filterwarnings("ignore", ".*does not have many workers")  # neither memory nor a thread needs any
        module = cast(AMEDDistillation, cast(pl.Trainer, self.trainer).lightning_module)
        order = FromHere(Batches(len(seeds), self.batch_size, self._processes(), seed))
        return module.route.loader(module.student, self, seeds, order)

    def _processes(self) -> Processes:
        return cast(Processes, cast(pl.Trainer, self.trainer).strategy)


def _fitting(teacher: TeacherConfig, number: int) -> int:
    """Return the largest batch of at most ``number`` trajectories that divides a shard."""
    return max(size for size in range(1, number + 1) if teacher.shard_size % size == 0)
