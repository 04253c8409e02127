"""Tables of a multistep student, stage by stage.

Its interval starts where its own earlier steps have brought it. The first interval is tabulated and trained; then every
sample is advanced through it with what was trained, the second is tabulated and trained beside the first, whose losses
hold its placements where they are; and so on. What each stage ended with is in the recipe of the next table and in the
checkpoint, so that a resumed run finds the same tables.

The state that a block of samples was in is kept for the next stage as long as all states together fit into the memory
that they may take; the others are computed again, which costs network runs and changes nothing.
"""

import hashlib
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeAlias

import safetensors.torch
import torch
from torch import Tensor, nn
from torch.func import functional_call

from amed_lightning.denoisers.cached import CachedDenoiser
from amed_lightning.flow.probability_flow import ProbabilityFlow
from amed_lightning.runtime.processes import Processes
from amed_lightning.seeds import Seeds
from amed_lightning.solvers.placement import Placement
from amed_lightning.solvers.state import SolverState
from amed_lightning.teacher.step_table import StepTable
from amed_lightning.teacher.tables import TableFile
from amed_lightning.teacher.trajectories import Trajectories
from amed_lightning.training.tabulator import Tabulator

Weights: TypeAlias = dict[str, Tensor]


class Stages:
    """The tables of the intervals that are being trained.

    Args:
        tabulator: makes them.
        folder: of tables.
        seeds: of their rows.
        processes: share the work.
        memory: bytes that the states between two stages may take, in each process.

    Attributes:
        tables: so far; the list grows.
        trained: the predictor's weights at the end of each stage that is over.
    """

    def __init__(
        self, tabulator: Tabulator, folder: Path, seeds: Seeds, processes: Processes, memory: int = 2**30
    ) -> None:
        self.tabulator, self.folder, self.seeds, self.processes = tabulator, folder, seeds, processes
        self.memory = memory
        self.tables: list[StepTable] = []
        self.trained: list[Weights] = []
        self._reached: dict[Seeds, tuple[int, SolverState]] = {}

    def advance(self, stage: int) -> None:
        """Tabulate the intervals up to that of a stage; the last stage stays."""
        intervals = len(self.tabulator.recipe.sigmas) - 1
        for index in range(len(self.tables), min(stage + 1, intervals)):
            if index > len(self.trained):
                weights = {name: value.detach().cpu().clone() for name, value in self._placer.state_dict().items()}
                self.trained.append(self.processes.broadcast(weights))
            advanced_by = tuple(_digest(weights) for weights in self.trained[:index])
            recipe = replace(self.tabulator.recipe, interval=index, advanced_by=advanced_by)
            file = TableFile(self.folder, recipe)
            file.complete(self.seeds, partial(self._interval, index), self.processes)
            self.tables.extend(table.to(self.tabulator.device) for table in file.read())
        if len(self.tables) == intervals:
            self._reached.clear()

    @property
    def kept_bytes(self) -> int:
        """What the states that are kept for the next stage take."""
        return sum(_bytes(state) for _, state in self._reached.values())

    @property
    def _placer(self) -> nn.Module:
        placer = self.tabulator.student.placer
        assert isinstance(placer, nn.Module)
        return placer

    def _interval(self, index: int, block: Seeds) -> list[StepTable]:
        """Tabulate one interval of a block of seeds."""
        teacher = self.tabulator.read(block)
        with torch.no_grad():
            start = self._advanced(block, teacher, index)
        self._reached.pop(block, None)
        if self.kept_bytes + _bytes(start) <= self.memory:
            self._reached[block] = index, start
        memory = CachedDenoiser(self.tabulator.denoiser)
        return [self.tabulator.interval(teacher, start, index, memory)]

    def _advanced(self, block: Seeds, teacher: Trajectories, index: int) -> SolverState:
        """Return the student's state at an interval's start, with the flow's answer there."""
        student = self.tabulator.student
        flow = ProbabilityFlow(self.tabulator.denoiser, teacher.condition)
        sigmas = student.parts.sigmas.to(self.tabulator.device)
        reached, state = self._reached.get(block) or (0, student.start(teacher))
        for passed in range(reached, index):
            weights = {name: value.to(self.tabulator.device) for name, value in self.trained[passed].items()}
            sigma_next = sigmas[passed + 1]
            place: Placement = functional_call(self._placer, weights, (state.known, state.sigma, sigma_next))
            end = student.solver.step_at(flow, state, sigma_next, place)
            state = replace(end, known=end.evaluated(flow)[0])
        return state


def _bytes(state: SolverState) -> int:
    """Return what a state's tensors take."""
    answers = [answer for answer in (state.known, *state.history) if answer is not None]
    parts = [part for answer in answers for part in (answer.denoised, answer.derivative, answer.features)]
    return sum(part.nbytes for part in (state.x, *parts))


def _digest(weights: Weights) -> str:
    return hashlib.sha256(safetensors.torch.save(weights)).hexdigest()
