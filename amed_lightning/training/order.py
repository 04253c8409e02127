"""Which trajectories form a batch: a function of (seed, epoch, position) alone.

So a resumed run sees what an uninterrupted one would have seen.
"""

from collections.abc import Iterator

import torch
from torch.utils.data import Sampler

from amed_lightning.runtime.processes import Processes


class Batches(Sampler[list[int]]):
    """The positions that this process takes of each batch, of which every process has a slice.

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


class Blocks(Sampler[list[int]]):
    """Whole batches that are this process's, in order: with n processes, every n-th.

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
