"""Examples out of a table."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Int
from torch import Tensor
from torch.utils.data import Dataset

from amed_lightning.seeds import Seeds
from amed_lightning.teacher.step_table import StepTable
from amed_lightning.tensors import sent


@dataclass(frozen=True)
class TableBatch:
    """Some samples' part of a table.

    Attributes:
        intervals: the tabulated ones, in order from the first.
        seeds: of the samples.
    """

    intervals: Sequence[StepTable]
    seeds: Int[Tensor, "batch"]

    def to(self, device: torch.device) -> "TableBatch":
        """Copy to a device."""
        return replace(self, intervals=[table.to(device) for table in self.intervals])


class TableExamples(Dataset[TableBatch]):
    """A table as a data set.

    Args:
        intervals: tabulated; more may be added while it is in use.
        seeds: of the rows.
    """

    def __init__(self, intervals: Sequence[StepTable], seeds: Seeds) -> None:
        self.intervals, self.seeds = intervals, seeds

    def __getitem__(self, indices: Sequence[int]) -> TableBatch:
        rows = torch.tensor(indices)
        there = sent(rows, self.intervals[0].gram.device)
        return TableBatch([table.select(there) for table in self.intervals], self.seeds.start + rows)
