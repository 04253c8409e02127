"""Where a distillation finds its teacher's trajectories."""

from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch.utils.data import DataLoader, Sampler

from amed_lightning.runtime.processes import Processes
from amed_lightning.sampling.parts import SamplerParts
from amed_lightning.seeds import Seeds
from amed_lightning.teacher.precompute import precompute
from amed_lightning.teacher.store import TrajectoryReader, TrajectoryStore
from amed_lightning.teacher.trajectories import TeacherConfig, Trajectories, recipe_for
from amed_lightning.training.loading import loader_for


@dataclass(frozen=True)
class Source:
    """The stores of one teacher, completed by the processes of a fit as they are needed.

    Attributes:
        teacher: how it runs.
        root: folder of the stores.
        train_seeds: to learn from.
        val_seeds: to be judged by.
        processes: share the work.
        device: where to compute.
        memory_share: of the free memory that trajectories may take.
        sharing: processes that divide the machine's memory.
    """

    teacher: TeacherConfig
    root: Path
    train_seeds: Seeds
    val_seeds: Seeds
    processes: Processes
    device: torch.device
    memory_share: float = 0.5
    sharing: int = 1
    _open: list[TrajectoryReader] = field(default_factory=list)

    def store(self, parts: SamplerParts) -> TrajectoryStore:
        """Return the store that serves a student, complete or not."""
        return TrajectoryStore(self.root, recipe_for(parts, self.teacher))

    def precompute(self, parts: SamplerParts, option: str = "teacher.batch_size") -> TrajectoryStore:
        """Compute the trajectories that are missing and return the complete store.

        Args:
            parts: of the student.
            option: that tells the teacher's micro-batch.
        """
        store, seeds = self.store(parts), [self.train_seeds, self.val_seeds]
        precompute(store, parts.model.to(self.device), seeds, self.processes, self.device, option)
        return store

    def loader(self, parts: SamplerParts, seeds: Seeds, order: Sampler[list[int]]) -> DataLoader[Trajectories]:
        """Return batches out of the complete store.

        Args:
            parts: of the student, whose levels are read.
            seeds: of the trajectories.
            order: positions of each batch.
        """
        reader = TrajectoryReader(self.store(parts), seeds, parts.sigmas)
        self._open.append(reader)
        return loader_for(reader, order, self.device, self.memory_share, self.sharing)

    def close(self) -> None:
        """Close what loaders have opened."""
        while self._open:
            self._open.pop().close()
