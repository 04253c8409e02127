"""The route without the network: losses from tables of inner products.

A one-step student starts every interval from the teacher, so all its intervals can be tabulated before it has trained
anything, and every student that asks the network what AMED-Solver asks shares one table: AMED-Solver, DPM-Solver-2 and
Heun with a placer, AMED-Plugin on Euler, any bound of the direction scale, any predictor. A student that asks something
else has a table of its own; a multistep student's are made in stages, see :mod:`amed_lightning.training.stages`.
"""

import math
from collections.abc import Iterator
from typing import Any

from torch.utils.data import DataLoader

from amed_lightning.sampling.parts import SamplerParts
from amed_lightning.seeds import Seeds
from amed_lightning.solvers.placement import FixedPlacement
from amed_lightning.teacher.step_table import StepTable
from amed_lightning.teacher.store import TrajectoryReader
from amed_lightning.teacher.tables import TableFile, TableRecipe
from amed_lightning.teacher.tabulate import Agreement
from amed_lightning.training.gradients import through_network
from amed_lightning.training.route import Batch, Order
from amed_lightning.training.source import Source
from amed_lightning.training.stages import Stages
from amed_lightning.training.student import Interval, Student, placed
from amed_lightning.training.table_batch import TableBatch, TableExamples
from amed_lightning.training.tabulator import TableOptions, Tabulator


class TableRoute:
    """Learn from tables.

    Args:
        agreement: of the mean loss with that from every second node, relative; the error is about its square.
        most_nodes: of an axis.
        ratio_range: of the predictor's ratios, all of which are tabulated; one that suits the student, if none.
        scale_time: the tabulated time scales lie within this bound of 1; the student's bound, if none.
        batch_size: trajectories per network run.
        warm_start: begin a one-step student's predictor at the constants of its table.
        stage_epochs: epochs of each stage of a multistep student; the last one lasts until the end.
        states_memory: GiB that a multistep student's states may take from one stage to the next, in each process and
            where it computes; those beyond are computed again.

    Raises:
        ValueError: a number out of range.
    """

    shares_graph = False

    def __init__(
        self,
        agreement: float = 0.05,
        most_nodes: int = 33,
        ratio_range: tuple[float, float] | None = None,
        scale_time: float | None = None,
        batch_size: int = 64,
        warm_start: bool = True,
        stage_epochs: int = 10,
        states_memory: float = 1.0,
    ) -> None:
        if ratio_range and not 0 <= ratio_range[0] < ratio_range[1] <= 1:
            raise ValueError(f"ratio_range {ratio_range[0]} to {ratio_range[1]} does not lie in order between 0 and 1")
        for name, value in (("batch_size", batch_size), ("stage_epochs", stage_epochs), ("most_nodes", most_nodes)):
            if value < 1:
                raise ValueError(f"{name} is {value}; it must be at least 1")
        if not 0 <= states_memory < math.inf:
            raise ValueError(f"states_memory is {states_memory}; it must be 0 GiB or more")
        self.options = TableOptions(Agreement(agreement, most_nodes), ratio_range, scale_time, batch_size)
        self.warm_start, self.stage_epochs = warm_start, stage_epochs
        self.states_bytes = int(states_memory * 2**30)
        self.tables: dict[Seeds, list[StepTable]] = {}
        self.stages: Stages | None = None

    def ratio_range(self, parts: SamplerParts) -> tuple[float, float]:
        """Return the tabulated ratios."""
        return self.options.ratios(placed(parts.solver(FixedPlacement(0.5)), parts.config.solver), parts.sigmas)

    def prepare(self, student: Student, source: Source) -> None:
        """Complete and read a one-step student's tables; for a multistep one, get ready for the first stage."""

        def tabulator(seeds: Seeds, recipe: TableRecipe) -> Tabulator:
            store = source.precompute(student.parts)
            return Tabulator(student, TrajectoryReader(store, seeds, student.parts.sigmas), recipe, source.device)

        folder, digest = source.root / "tables", source.store(student.parts).recipe.digest
        for seeds in (source.train_seeds, source.val_seeds):
            recipe = self.options.recipe(student, digest, seeds)
            if not student.is_multistep:
                file = TableFile(folder, recipe)
                if not file.path.is_file():
                    file.complete(seeds, tabulator(seeds, recipe).from_the_teacher, source.processes)
                self.tables[seeds] = [table.to(source.device) for table in file.read()]
            elif seeds == source.train_seeds:
                self.stages = Stages(tabulator(seeds, recipe), folder, seeds, source.processes, self.states_bytes)
                self.tables[seeds] = self.stages.tables

    def loader(self, student: Student, source: Source, seeds: Seeds, order: Order) -> DataLoader[Any]:
        """Return rows of a table; what a multistep student is judged by are the trajectories themselves."""
        if seeds not in self.tables:
            return source.loader(student.parts, seeds, order)
        return DataLoader(TableExamples(self.tables[seeds], seeds), batch_size=None, sampler=order)

    def begin_epoch(self, epoch: int) -> None:
        """Go on to a multistep student's next stage when it is due."""
        if self.stages is not None:
            self.stages.advance(epoch // self.stage_epochs)

    def intervals(self, student: Student, batch: Batch) -> Iterator[Interval]:
        """Yield the tabulated intervals; along trajectories, run the student."""
        if not isinstance(batch, TableBatch):
            yield from student.intervals(batch, through_network)
            return
        for number, table in enumerate(batch.intervals, start=1):
            place = student.placer(table.start, table.sigmas[0], table.sigmas[1])
            yield Interval(number, place, table.losses(student.solver, place))

    def state(self) -> dict[str, Any]:
        """Return what the stages that are over have trained."""
        return {} if self.stages is None else {"trained": self.stages.trained}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint's stages."""
        if self.stages is not None:
            self.stages.trained = state["trained" if "trained" in state else "learnt"]
