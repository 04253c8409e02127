"""Trajectories as a data set: in memory where they fit, read during training where they do not.

Both are indexed with the positions of a whole batch and answer with the same numbers.
"""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch.utils.data import Dataset

from amed_lightning.runtime.memory import free_memory
from amed_lightning.teacher.store import SHARD_SIZE, TrajectoryReader
from amed_lightning.teacher.trajectories import Trajectories


class InMemory(Dataset[Trajectories]):
    """All rows of a reader, read once.

    Args:
        reader: of the store; it is closed when the rows are there.
        device: where they stay, and where batches are made.
    """

    num_workers: ClassVar[int] = 0

    def __init__(self, reader: TrajectoryReader, device: torch.device) -> None:
        self.reader = reader
        self.rows = torch.empty(len(reader), reader.view.row_bytes, dtype=torch.uint8, device=device)
        for start in range(0, len(reader), SHARD_SIZE):
            block = range(start, min(start + SHARD_SIZE, len(reader)))
            self.rows[block.start : block.stop] = reader.rows(block)
        reader.close()

    def __getitem__(self, indices: Sequence[int]) -> Trajectories:
        rows = self.rows.index_select(0, torch.tensor(indices, device=self.rows.device))
        return self.reader.trajectories(rows, indices)


class Streamed(Dataset[Trajectories]):
    """A reader that the loader's workers open, each for itself, and read ahead with.

    Args:
        reader: of the store; it is closed, because a forked worker cannot open what its parent holds.
    """

    num_workers: ClassVar[int] = 2

    def __init__(self, reader: TrajectoryReader) -> None:
        reader.close()
        self.reader = reader

    def __getitem__(self, indices: Sequence[int]) -> Trajectories:
        return self.reader.read(indices)


def dataset_for(reader: TrajectoryReader, device: torch.device, share: float, sharing: int) -> InMemory | Streamed:
    """Keep a reader's trajectories where they fit; read them as they are needed where they do not.

    Args:
        reader: of the store.
        device: where training happens.
        share: of the free memory that they may take.
        sharing: processes that divide the machine's memory.
    """
    place = place_for(len(reader) * reader.view.row_bytes, device, share, sharing)
    return Streamed(reader) if place is None else InMemory(reader, place)


def place_for(size: int, device: torch.device, share: float, sharing: int) -> torch.device | None:
    """Return where ``size`` bytes fit, the device before the machine; None if nowhere."""
    for place in (device, torch.device("cpu")):
        if size <= share * free_memory(place) / (sharing if place.type == "cpu" else 1):
            return place
    return None
