"""How a student's intervals are tabulated: its recipe, and the tables of a block of seeds."""

from dataclasses import dataclass

import torch

from amed_lightning.config import InputError, complete
from amed_lightning.denoisers.gaussian import gaussian
from amed_lightning.denoisers.remembering import Question, Remembering
from amed_lightning.flow.probability_flow import Evaluation, ProbabilityFlow
from amed_lightning.sampling.sampler import without_placer
from amed_lightning.seeds import Seeds
from amed_lightning.solvers.placed_step import PlacedStep
from amed_lightning.solvers.placement import Placement
from amed_lightning.solvers.registry import SOLVERS, amed
from amed_lightning.solvers.state import SolverState
from amed_lightning.teacher.nodes import Axis, Nodes, chebyshev
from amed_lightning.teacher.step_table import StepTable
from amed_lightning.teacher.store import TrajectoryReader
from amed_lightning.teacher.tables import TableRecipe
from amed_lightning.teacher.tabulate import Agreement, tabulate_until_agreed
from amed_lightning.teacher.trajectories import Trajectories
from amed_lightning.training.student import Student

FIRST_RATIOS, FIRST_SCALES = 5, 3
"""Nodes to begin with."""
WHOLE, INNER = (0.0, 1.0), (0.1, 0.9)
"""Tabulated ratios; rules with a history divide by the length of either part of an interval, and stay inside."""


@dataclass(frozen=True)
class TableOptions:
    """How fine a table is.

    Attributes:
        agreement: when there are enough nodes.
        ratio_range: of the tabulated ratios; one that suits the student, if none.
        scale_time: the tabulated time scales lie within this bound of 1; the student's bound, if none.
        batch_size: trajectories per network run.
    """

    agreement: Agreement
    ratio_range: tuple[float, float] | None
    scale_time: float | None
    batch_size: int

    def recipe(self, student: Student, trajectories: str, seeds: Seeds) -> TableRecipe:
        """Return the recipe of a student's table.

        Args:
            student: whose.
            trajectories: digest of the teacher's recipe.
            seeds: of the rows.

        Raises:
            InputError: the student's time scales would not be tabulated.
        """
        bound = student.scale_time if self.scale_time is None else self.scale_time
        if bound < student.scale_time:
            raise InputError(
                f"route.scale_time is {bound}, but the student's goes up to {student.scale_time}; "
                f"raise it, or leave it out"
            )
        config, shared = student.parts.config, is_shared(student)
        asks_again = len(_questions(student.step)) > 1
        return TableRecipe(
            trajectories=trajectories,
            sigmas=tuple(student.parts.sigmas.tolist()),
            afs=config.afs,
            stream=seeds.stream.name,
            start=seeds.start,
            stop=seeds.stop,
            batch_size=self.batch_size,
            nodes=Nodes(
                chebyshev(FIRST_RATIOS, *(self.ratio_range or (WHOLE if shared else INNER))),
                _around_one(bound),
                _around_one(student.scale_dir if asks_again else 0.0),
            ),
            agreement=self.agreement,
            solver=None if shared else complete("solver", SOLVERS, without_placer(config.solver), hidden=["placer"]),
        )


def is_shared(student: Student) -> bool:
    """Whether a student asks the network, from the teacher's states, what AMED-Solver asks."""
    own, others = _questions(student.step), _questions(PlacedStep(amed))
    return (
        not student.is_multistep
        and len(own) == len(others)
        and all(a.x.allclose(b.x) and a.sigma.allclose(b.sigma) for a, b in zip(own, others, strict=True))
    )


class Tabulator:
    """Makes tables of the intervals of a student.

    Args:
        student: runs from known starts.
        reader: of the teacher's trajectories.
        recipe: of the table.
        device: where to compute.
    """

    def __init__(self, student: Student, reader: TrajectoryReader, recipe: TableRecipe, device: torch.device) -> None:
        self.student, self.reader, self.recipe, self.device = student, reader, recipe, device
        self.step = student.step if recipe.solver else PlacedStep(amed)

    def read(self, block: Seeds) -> Trajectories:
        """Return the teacher's trajectories of some seeds."""
        first = block.start - self.reader.seeds.start
        teacher = self.reader.read(range(first, first + len(block))).to(self.device)
        self.reader.close()
        return teacher

    def from_the_teacher(self, block: Seeds) -> list[StepTable]:
        """Tabulate all intervals, each from the teacher's state."""
        teacher, tables = self.read(block), []
        for index in range(len(self.recipe.sigmas) - 1):
            start, memory = self.student.start(teacher, index), Remembering(self.student.parts.model.denoiser)
            if self._knows_the_answers:
                memory.remember(start.x, teacher.evaluation(index, start.sigma))
            tables.append(self.interval(teacher, start, index, memory))
        return tables

    def interval(self, teacher: Trajectories, start: SolverState, index: int, memory: Remembering) -> StepTable:
        """Tabulate one interval.

        Args:
            teacher: trajectories.
            start: of the interval, with the flow's answer there.
            index: of the interval, from 0.
            memory: the network, and what it was asked before.
        """
        with torch.no_grad():
            return tabulate_until_agreed(
                self.step,
                memory,
                teacher.condition,
                start,
                self.student.parts.sigmas[index:].to(self.device),
                teacher.states[:, index + 1],
                self.recipe.nodes,
                self.recipe.agreement,
            )

    @property
    def _knows_the_answers(self) -> bool:
        """Whether the stored answers are the network's, unrounded, at the stored states."""
        stored = self.reader.store.recipe
        return self.reader.view.is_exact and stored.dtype == "float32" and not stored.afs


def _around_one(bound: float) -> Axis:
    return chebyshev(FIRST_SCALES, 1 - bound, 1 + bound) if bound else (1.0,)


def _questions(step: PlacedStep) -> list[Question]:
    """Return what a step from a known start asks, watched on four pixels in an interval that is not the last."""
    x = torch.tensor([[[[1.0, -2.0], [0.5, 3.0]]]], dtype=torch.float64)
    sigmas = torch.tensor([4.0, 2.0, 1.0], dtype=torch.float64)
    known = Evaluation(sigmas[0], x - sigmas[0] * x.square(), x.square(), x.new_zeros(1, 1), 0)
    denoiser = Remembering(gaussian(torch.ones_like(x[0])))
    step(ProbabilityFlow(denoiser), step.solver.init(x, sigmas, known), sigmas[1], Placement(0.3, 0.9, 1.1))
    return denoiser.trail
