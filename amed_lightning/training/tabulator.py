"""How a student's intervals are tabulated: its recipe, and the tables of a block of seeds."""

from dataclasses import dataclass
from itertools import product

import torch

from amed_lightning.amed.predictor import WHOLE
from amed_lightning.config import InputError
from amed_lightning.denoisers.cached import CachedDenoiser, Noted, Query
from amed_lightning.denoisers.gaussian import gaussian
from amed_lightning.denoisers.interruptible import Interruptible
from amed_lightning.flow.probability_flow import Evaluation, ProbabilityFlow
from amed_lightning.noise.schedules import Grid
from amed_lightning.sampling.parts import rule_of
from amed_lightning.seeds import Seeds
from amed_lightning.solvers.placed import PlacedSolver
from amed_lightning.solvers.placement import Placement
from amed_lightning.solvers.state import SolverState
from amed_lightning.solvers.two_stage import AMED
from amed_lightning.teacher.nodes import Axis, Nodes, chebyshev
from amed_lightning.teacher.step_table import StepTable
from amed_lightning.teacher.store import TrajectoryReader
from amed_lightning.teacher.tables import TableRecipe
from amed_lightning.teacher.tabulate import Agreement, tabulate_until_agreed
from amed_lightning.teacher.trajectories import Trajectories
from amed_lightning.training.student import Student

FIRST_RATIOS, FIRST_SCALES = 5, 3
"""Nodes to begin with."""
INNER = (0.1, 0.9)
"""Ratios of rules with a history, which divide by the length of either part of an interval."""
WATCHED = (Placement(0.3, 0.9, 1.1), Placement(0.8, 1.1, 0.9))
"""Where a student is watched asking."""


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

    def ratios(self, solver: PlacedSolver, sigmas: Grid) -> tuple[float, float]:
        """Return the range of a solver's ratios: of the tabulated ones, and so of its predictor's.

        Args:
            solver: of the student.
            sigmas: its levels.
        """
        return self.ratio_range or (WHOLE if is_shared(solver, sigmas) else INNER)

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
        config, solver, sigmas = student.parts.config, student.solver, student.parts.sigmas
        asks_again = any(len(asked) > 1 for asked in _queries(solver, sigmas))
        own = rule_of(config.solver)
        return TableRecipe(
            trajectories=trajectories,
            sigmas=tuple(sigmas.tolist()),
            afs=config.afs,
            stream=seeds.stream.name,
            start=seeds.start,
            stop=seeds.stop,
            batch_size=self.batch_size,
            nodes=Nodes(
                chebyshev(FIRST_RATIOS, *self.ratios(solver, sigmas)),
                _around_one(bound),
                _around_one(student.scale_dir if asks_again else 0.0),
            ),
            agreement=self.agreement,
            solver=None if is_shared(solver, sigmas) else own,
        )


def is_shared(solver: PlacedSolver, sigmas: Grid) -> bool:
    """Whether a solver asks the network, from the teacher's states, what AMED-Solver asks, in every interval."""
    if solver.is_multistep:
        return False
    runs = zip(_queries(solver, sigmas), _queries(AMED().solver(None), sigmas), strict=True)
    return all(len(own) == len(others) and all(map(_is_same, own, others)) for own, others in runs)


def _is_same(own: Query, other: Query) -> bool:
    pairs = (own.x, other.x), (own.sigma, other.sigma)
    return all(torch.allclose(a, b, rtol=1e-12, atol=0) for a, b in pairs)


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
        self.solver = student.solver if recipe.solver else AMED().solver(None)
        self.denoiser = Interruptible(student.parts.model.denoiser)

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
            start, memory = self.student.start(teacher, index), CachedDenoiser(self.denoiser)
            if self._knows_the_answers:
                memory.remember(start.x, teacher.evaluation(index, start.sigma))
            tables.append(self.interval(teacher, start, index, memory))
        return tables

    def interval(self, teacher: Trajectories, start: SolverState, index: int, memory: CachedDenoiser) -> StepTable:
        """Tabulate one interval.

        Args:
            teacher: trajectories.
            start: of the interval, with the flow's answer there.
            index: of the interval, from 0.
            memory: the network, and what it was asked before.
        """
        with torch.no_grad():
            return tabulate_until_agreed(
                self.solver,
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


def _queries(solver: PlacedSolver, sigmas: Grid) -> list[list[Query]]:
    """Return what a solver's steps from known starts ask, interval by interval, watched on four pixels."""
    x = torch.tensor([[[[1.0, -2.0], [0.5, 3.0]]]], dtype=torch.float64)
    asked = []
    for index, place in product(range(len(sigmas) - 1), WATCHED):
        ahead, noted = sigmas[index:], Noted(gaussian(torch.ones_like(x[0])))
        known = Evaluation(ahead[0], x - ahead[0] * x.square(), x.square(), x.new_zeros(1, 1), 0)
        solver.step_at(ProbabilityFlow(noted), solver.init(x, ahead, known), ahead[1], place)
        asked.append(noted.queries)
    return asked
