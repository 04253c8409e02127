"""The routes that configurations call by name; what each costs stands where it is made."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from torch.utils.data import DataLoader

from amed_lightning.amed.predictor import WHOLE
from amed_lightning.sampling.parts import SamplerParts
from amed_lightning.seeds import Seeds
from amed_lightning.teacher.trajectories import Trajectories
from amed_lightning.training.gradients import DifferenceGradient, through_network
from amed_lightning.training.route import Batch, Order, Route
from amed_lightning.training.source import Source
from amed_lightning.training.student import Interval, Student
from amed_lightning.training.tables import TableRoute


class Rollout:
    """Run the student beside the teacher's trajectories.

    Args:
        run: yields its intervals.
        shares_graph: whether their losses have one graph.
    """

    def __init__(self, run: Callable[[Student, Trajectories], Iterator[Interval]], shares_graph: bool = False) -> None:
        self.run, self.shares_graph = run, shares_graph

    def ratio_range(self, parts: SamplerParts) -> tuple[float, float]:
        """All of an interval."""
        return WHOLE

    def prepare(self, student: Student, source: Source) -> None:
        """Complete the trajectories."""
        source.precompute(student.taught)

    def loader(self, student: Student, source: Source, seeds: Seeds, order: Order) -> DataLoader[Trajectories]:
        """Return the trajectories themselves."""
        return source.loader(student.taught, seeds, order)

    def begin_epoch(self, epoch: int) -> None:
        """Nothing to do."""

    def intervals(self, student: Student, batch: Batch) -> Iterator[Interval]:
        """Yield the student's intervals."""
        assert isinstance(batch, Trajectories)
        return self.run(student, batch)

    def state(self) -> dict[str, Any]:
        """Nothing beside the predictor."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Nothing to do."""


def network() -> Route:
    """Reverse mode through the frozen network, interval by interval."""
    return Rollout(partial(Student.intervals, gradient=through_network))


def differences(size: float = 3e-3) -> Route:
    """Central differences; ``size`` is their step in ratio and time scale."""
    return Rollout(partial(Student.intervals, gradient=DifferenceGradient(size)))


def whole() -> Route:
    """Reverse mode through all of the student's runs, from noise to samples."""
    return Rollout(Student.whole, shares_graph=True)


ROUTES: dict[str, Callable[..., Route]] = {
    "network": network,
    "differences": differences,
    "table": TableRoute,
    "whole": whole,
}
