"""Where the teacher's trajectories begin and end, for what is fitted end to end."""

from collections.abc import Iterator
from dataclasses import replace
from typing import cast

import lightning.pytorch as pl
from torch.utils.data import DataLoader, Sampler

from amed_lightning.config import InputError
from amed_lightning.runtime.processes import Processes
from amed_lightning.sampling.sampler import SamplerParts
from amed_lightning.seeds import Seeds
from amed_lightning.teacher.store import TrajectoryStore
from amed_lightning.teacher.trajectories import Trajectories
from amed_lightning.training.least_squares import LeastSquares
from amed_lightning.training.precision import FROZEN, SINGLE, require_precision
from amed_lightning.training.resuming import FromHere
from amed_lightning.training.trajectories import TeacherTrajectories


class Blocks(Sampler[list[int]]):
    """The blocks of trajectories that are this process's, in order: with n processes, every n-th.

    Args:
        size: number of trajectories.
        block_size: trajectories of a block.
        processes: this one among all.
    """

    epoch = 0

    def __init__(self, size: int, block_size: int, processes: Processes) -> None:
        self.starts = range(processes.global_rank * block_size, size, processes.world_size * block_size)
        self.block_size = block_size

    def set_epoch(self, epoch: int) -> None:
        """Tell the epoch; only where a run that goes on begins depends on it."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.starts)

    def __iter__(self) -> Iterator[list[int]]:
        return (list(range(start, start + self.block_size)) for start in self.starts)


class TeacherEnds(TeacherTrajectories):
    """The teacher's trajectories of which the first and the last state are kept; ``batch_size`` is that of a block."""

    def store(self, parts: SamplerParts) -> TrajectoryStore:
        """Return the store that serves a student: of its two ends."""
        return super().store(self._ends(parts))

    def setup(self, stage: str) -> None:
        """Complete the trajectories, with all processes.

        Raises:
            InputError: the blocks do not divide by the number of processes, or the Trainer's precision is not the
                module's.
        """
        trainer = cast(pl.Trainer, self.trainer)
        module = cast(LeastSquares, trainer.lightning_module)
        require_precision(trainer.precision, SINGLE, FROZEN)
        together = self.batch_size * trainer.world_size
        numbers = {
            "data.trajectories": len(self.train_seeds),
            "data.validation_trajectories": len(self.val_seeds),
            "model.first_trajectories": module.first_trajectories,
        }
        for name, number in numbers.items():
            if number % together:
                raise InputError(
                    f"{name} is {number}; it must be a multiple of {trainer.world_size} processes times "
                    f"data.batch_size, {together}"
                )
        self.precompute(module.parts, self._processes(), trainer.strategy.root_device)

    def _batches(self, seeds: Seeds, seed: int | None) -> DataLoader[Trajectories]:
        module = cast(LeastSquares, cast(pl.Trainer, self.trainer).lightning_module)
        order = FromHere(Blocks(len(seeds), self.batch_size, self._processes()))
        return self.loader(self._ends(module.parts), seeds, order)

    def _ends(self, parts: SamplerParts) -> SamplerParts:
        """Return a student that has the two levels alone, where the teacher has a grid of its own."""
        levels = [float(parts.sigmas[0]), float(parts.sigmas[-1])]
        config = replace(parts.config, schedule={"name": "explicit", "levels": levels}, num_intervals=1, afs=False)
        return SamplerParts(config, parts.model)
