"""Teacher trajectories as training data: computed when they are missing, read when they are there.

Which trajectories form a batch is a function of (seed, epoch, position) alone: a resumed run sees what an uninterrupted
one would have seen, and each of several processes takes its slice of the same batches.
"""

import warnings
from collections.abc import Iterator
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
from amed_lightning.training.reading import loader_for
from amed_lightning.training.resuming import FromHere, Resumable


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
        trajectories: how many to train on; a multiple of ``batch_size``.
        validation_trajectories: how many, of other seeds, to validate on; likewise.
        batch_size: trajectories per optimiser step, over all processes.
        seed: of the order.
        memory_share: of the free memory, the device's and then the machine's, that trajectories may take to be read
            once; what does not fit is read during training, and with 0 everything is.
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
    ) -> None:
        super().__init__()
        for name, number in (("trajectories", trajectories), ("validation_trajectories", validation_trajectories)):
            if number < 1 or number % batch_size:
                raise InputError(f"data.{name} is {number}; it must be a multiple of data.batch_size, {batch_size}")
        if not 0 <= memory_share <= 1:
            raise InputError(f"data.memory_share is {memory_share}; it must lie between 0 and 1")
        self.teacher, self.root, self.batch_size, self.seed = teacher, root, batch_size, seed
        self.memory_share = memory_share
        self.train_seeds = Seeds(Stream.training, 0, trajectories)
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
        """Complete the store, with all processes, and open it.

        Raises:
            InputError: the batch does not divide by the number of processes, or the store is damaged.
        """
        trainer = cast(pl.Trainer, self.trainer)
        if self.batch_size % trainer.world_size:
            raise InputError(f"data.batch_size is {self.batch_size}; {trainer.world_size} processes do not divide it")
        student = cast(AMEDDistillation, trainer.lightning_module)
        store = self.precompute(student.parts, self._processes(), trainer.strategy.root_device)
        self.train_reader = TrajectoryReader(store, self.train_seeds, student.parts.sigmas)
        self.val_reader = TrajectoryReader(store, self.val_seeds, student.parts.sigmas)

    def train_dataloader(self) -> Resumable[Trajectories]:
        """Return the training batches."""
        return Resumable(self._batches(self.train_reader, self.seed))

    def val_dataloader(self) -> DataLoader[Trajectories]:
        """Return the validation batches, in the order of their seeds."""
        return self._batches(self.val_reader, None)

    def transfer_batch_to_device(self, batch: Trajectories, device: torch.device, dataloader_idx: int) -> Trajectories:
        """Copy a batch to the device."""
        return batch.to(device)

    def teardown(self, stage: str) -> None:
        """Close the store."""
        self.train_reader.close()
        self.val_reader.close()

    def _batches(self, reader: TrajectoryReader, seed: int | None) -> DataLoader[Trajectories]:
        trainer = cast(pl.Trainer, self.trainer)
        warnings.filterwarnings("ignore", ".*does not have many workers")  # neither memory nor a thread needs any
        order = FromHere(Batches(len(reader), self.batch_size, self._processes(), seed))
        return loader_for(reader, order, trainer.strategy.root_device, self.memory_share, trainer.num_devices)

    def _processes(self) -> Processes:
        return cast(Processes, cast(pl.Trainer, self.trainer).strategy)
