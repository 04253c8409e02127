"""What a route is: where the examples of a fit come from, and the losses that the predictor learns from."""

from collections.abc import Iterator
from typing import Any, Protocol, TypeAlias, runtime_checkable

from torch.utils.data import DataLoader, Sampler

from amed_lightning.sampling.parts import SamplerParts
from amed_lightning.seeds import Seeds
from amed_lightning.teacher.trajectories import Trajectories
from amed_lightning.training.source import Source
from amed_lightning.training.student import Interval, Student
from amed_lightning.training.table_batch import TableBatch

Batch: TypeAlias = Trajectories | TableBatch
Order: TypeAlias = Sampler[list[int]]
"""Positions of each batch among the seeds."""


@runtime_checkable
class Route(Protocol):
    """How a predictor learns.

    Attributes:
        shares_graph: whether the losses of all intervals have one graph, for one backward run.
    """

    @property
    def shares_graph(self) -> bool: ...

    def ratio_range(self, parts: SamplerParts) -> tuple[float, float]:
        """Return the ratios between which a predictor may place a student's second evaluation."""
        ...

    def prepare(self, student: Student, source: Source) -> None:
        """Compute what is missing on disk before a fit."""
        ...

    def loader(self, student: Student, source: Source, seeds: Seeds, order: Order) -> DataLoader[Any]:
        """Return batches of some seeds, in an order."""
        ...

    def begin_epoch(self, epoch: int) -> None:
        """Get ready for the batches of an epoch."""
        ...

    def intervals(self, student: Student, batch: Batch) -> Iterator[Interval]:
        """Yield the student's intervals; the next one starts after the caller has come back."""
        ...

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint must hold."""
        ...

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        ...
