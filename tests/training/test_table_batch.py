"""Examples out of a table: rows, and the seeds that they belong to."""

import torch

from amed_lightning.seeds import Seeds, Stream
from amed_lightning.teacher.nodes import Nodes
from amed_lightning.teacher.step_table import StepTable
from amed_lightning.training.table_batch import TableExamples

from ..teacher.stores import CPU

ROWS = torch.arange(8, dtype=torch.float64)


def table(offset):
    """A table whose numbers say their row."""
    sigmas = torch.tensor([2.0, 1.0], dtype=torch.float64)
    gram, features = (ROWS + offset).reshape(-1, 1, 1).expand(-1, 5, 5), (ROWS + offset)[:, None]
    return StepTable(sigmas, Nodes((0.5,)), gram, features, gram[:, :1, 0])


def test_a_batch_has_the_rows_at_its_positions_and_says_their_seeds():
    examples = TableExamples([table(0), table(100)], Seeds(Stream.training, 40, 48))
    batch = examples[[5, 0, 3]].to(CPU)
    assert batch.seeds.tolist() == [45, 40, 43]
    for part, rows in zip(batch.intervals, ([5, 0, 3], [105, 100, 103]), strict=True):
        assert part.gram[:, 4, 4].tolist() == part.features[:, 0].tolist() == part.past[:, 0].tolist() == rows


def test_intervals_that_are_added_while_it_is_in_use_are_in_the_next_batch():
    tables = [table(0)]
    examples = TableExamples(tables, Seeds(Stream.training, 0, 8))
    assert len(examples[[1]].intervals) == 1
    tables.append(table(100))
    assert [float(part.gram[0, 0, 0]) for part in examples[[1]].intervals] == [1, 101]
