"""Trajectories as a data set: in memory where they fit, read during training where they do not.

Both data sets are indexed with the positions of a whole batch and answer with the same numbers. What is streamed is
read by a thread, one batch ahead: a read is one large copy, during which Python's lock is free, while a worker process
would copy every batch once more to hand it over.
"""

from collections.abc import Iterator, Sequence

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from amed_lightning.runtime.beside import ahead
from amed_lightning.runtime.memory import free_memory
from amed_lightning.teacher.store import TrajectoryReader
from amed_lightning.teacher.trajectories import Trajectories
from amed_lightning.tensors import sent


class InMemory(Dataset[Trajectories]):
    """All rows of a reader, read once.

    Args:
        reader: of the store; it is closed when the rows are there.
        device: where they stay, and where batches are made.
    """

    def __init__(self, reader: TrajectoryReader, device: torch.device) -> None:
        self.reader = reader
        self.rows = torch.empty(len(reader), reader.view.row_bytes, dtype=torch.uint8, device=device)
        size = reader.store.recipe.shard_size
        for start in range(0, len(reader), size):
            block = range(start, min(start + size, len(reader)))
            self.rows[block.start : block.stop] = reader.rows(block)
        reader.close()

    def __getitem__(self, indices: Sequence[int]) -> Trajectories:
        rows = self.rows.index_select(0, sent(torch.tensor(indices), self.rows.device))
        return self.reader.trajectories(rows, indices)


class Streamed(Dataset[Trajectories]):
    """A reader, asked anew for every batch.

    Args:
        reader: of the store.
    """

    def __init__(self, reader: TrajectoryReader) -> None:
        self.reader = reader

    def __getitem__(self, indices: Sequence[int]) -> Trajectories:
        return self.reader.read(indices)


class ReadAhead(DataLoader[Trajectories]):
    """A loader whose next batch is read by a thread while the last one is used."""

    def __iter__(self) -> Iterator[Trajectories]:  # type: ignore[override]
        """Go through an epoch."""
        return ahead(super().__iter__())


def loader_for(
    reader: TrajectoryReader, order: Sampler[list[int]], device: torch.device, share: float, sharing: int
) -> DataLoader[Trajectories]:
    """Load a reader's trajectories, from where they fit if they fit somewhere.

    Args:
        reader: of the store.
        order: positions of each batch.
        device: where training happens.
        share: of the free memory that they may take.
        sharing: processes that divide the machine's memory.
    """
    place = place_for(len(reader) * reader.view.row_bytes, device, share, sharing)
    if place is None:
        return ReadAhead(Streamed(reader), batch_size=None, sampler=order)
    return DataLoader(InMemory(reader, place), batch_size=None, sampler=order)


def place_for(size: int, device: torch.device, share: float, sharing: int) -> torch.device | None:
    """Return where ``size`` bytes fit, the device before the machine; None if nowhere."""
    for place in (device, torch.device("cpu")):
        if size <= share * free_memory(place) / (sharing if place.type == "cpu" else 1):
            return place
    return None
