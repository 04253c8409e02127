"""Going on in the middle of an epoch.

Which samples form a batch is a function of (seed, epoch, position). So a checkpoint needs to say how many batches of
which epoch were taken, and no more; the number of processes does not enter.
"""

from collections.abc import Iterator
from itertools import islice
from typing import Generic, Protocol, TypeVar, runtime_checkable

from torch.utils.data import DataLoader, Sampler

Batch = TypeVar("Batch", covariant=True)


@runtime_checkable
class Epochs(Protocol):
    """A sampler whose order is a function of the epoch."""

    epoch: int

    def set_epoch(self, epoch: int) -> None: ...
    def __iter__(self) -> Iterator[list[int]]: ...
    def __len__(self) -> int: ...


class ResumableSampler(Sampler[list[int]]):
    """What another sampler yields, but for the batches of one epoch that were taken before.

    Args:
        order: the other sampler.
    """

    def __init__(self, order: Epochs) -> None:
        self.order = order
        self.place = (0, 0)

    def set_epoch(self, epoch: int) -> None:
        """Tell the epoch; the Trainer calls this."""
        self.order.set_epoch(epoch)

    @property
    def first(self) -> int:
        """Where the present epoch begins."""
        epoch, taken = self.place
        return taken if epoch == self.order.epoch else 0

    def __len__(self) -> int:
        return len(self.order)

    def __iter__(self) -> Iterator[list[int]]:
        return islice(self.order, self.first, None)


class Resumable(Generic[Batch]):
    """A loader whose place is part of every checkpoint; the Trainer saves and loads it.

    Args:
        loader: of batches, in the order of a :class:`ResumableSampler`.
    """

    def __init__(self, loader: DataLoader[Batch]) -> None:
        assert isinstance(loader.sampler, ResumableSampler)
        self.loader, self.sampler = loader, loader.sampler
        self.taken = 0

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Batch]:
        self.taken = self.sampler.first
        for batch in self.loader:
            self.taken += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        """Return the epoch and how many of its batches were taken."""
        return {"epoch": self.sampler.order.epoch, "taken": self.taken}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on from there."""
        self.sampler.place = (state["epoch"], state["taken"])
