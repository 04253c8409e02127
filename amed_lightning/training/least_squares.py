r"""Fitting a sampler's table end to end by Levenberg and Marquardt's method: forward runs of the network alone.

An epoch is an iteration. It goes once over the trajectories, sums the normal equations at the present numbers, and then
decides: where the cost is lower than the best so far the numbers are taken and the damping falls; otherwise the next
step starts from the best ones again, shorter. The first epochs see the first trajectories alone, which is enough to
come near.

A block of trajectories is one batch of the network, whole on one process, and the blocks' sums are added in order: the
numbers are the same, bit for bit, on any number of processes.
"""

import math
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.data import DataLoader

from amed_lightning.amed.learned_table import GROUPS, LearnedTable
from amed_lightning.config import InputError
from amed_lightning.flow.model import Condition
from amed_lightning.sampling.config import SamplerConfig
from amed_lightning.sampling.finite import USUAL_CAUSE
from amed_lightning.sampling.sampler import SamplerParts, learned_path
from amed_lightning.seeds import Seeds
from amed_lightning.solvers.tabulated import Tabulated, table_of
from amed_lightning.teacher.trajectories import Trajectories
from amed_lightning.tensors import Images, is_finite
from amed_lightning.training.distilling import Distilling
from amed_lightning.training.normal_equations import Linear, NormalEquations, Replay, normal_equations
from amed_lightning.training.order import Blocks
from amed_lightning.training.resuming import FromHere
from amed_lightning.training.source import Source

EASIER, HARDER = 0.2, 8.0
"""Factors of the damping after a step that was taken, and after one that was not."""
LEAST_DAMPING = 1e-6


class LeastSquares(Distilling):
    """Fit the numbers of a table and export those that are best on the validation trajectories.

    Args:
        student: the classical sampler to begin at; its solver has no placer.
        groups: what learns, see :mod:`amed_lightning.amed.learned_table`; all if none.
        at_once: number of network runs in the place of each of the student's, which do not see one another; one if
            none.
        radius: of the pseudo-Huber loss, in root mean square distance from the teacher's sample.
        first_trajectories: that the first epochs see.
        first_epochs: how many those are.
        damping: of the first step.
        export: where the table's ``.json`` goes, if not into the run's directory; the numbers go beside it.

    Raises:
        InputError: something that does not exist or fit together, or a number out of range.
    """

    result_name = "table.json"

    def __init__(
        self,
        student: SamplerConfig,
        groups: list[str] | None = None,
        at_once: list[int] | None = None,
        radius: float = 0.3,
        first_trajectories: int = 64,
        first_epochs: int = 12,
        damping: float = 1e-2,
        export: Path | None = None,
    ) -> None:
        super().__init__(student, export)
        for name, value in (("radius", radius), ("damping", damping), ("first_trajectories", first_trajectories)):
            if not value > 0:
                raise InputError(f"model.{name} is {value}; it must be above 0")
        if learned_path(student.solver):
            raise InputError("model.student.solver.learned: a table begins at a solver; leave it out")
        levels = self.parts.sigmas[[0, -1]].tolist()
        ends = replace(student, schedule={"name": "explicit", "levels": levels}, num_intervals=1, nfe=None, afs=False)
        self.taught = SamplerParts(ends, self.parts.model)
        self.radius, self.first_trajectories, self.first_epochs = radius, first_trajectories, first_epochs
        start = table_of(self.parts.solver(None), self.parts.sigmas, student.afs)
        try:
            largest = self.parts.model.noise_range.sigma_max
            self.table = LearnedTable.beginning_at(start, levels[-1], groups or GROUPS, at_once, largest)
        except ValueError as error:
            raise InputError(f"model: {error}") from error
        parallel = " parallel" if max(self.table.at_once) > 1 else ""
        self.form = ("union" if self.table.groups == GROUPS else "+".join(self.table.groups)) + parallel
        self.damping, self.runs = damping, 0
        self.begins = 0
        self.linear: Linear | None = None
        self.lowest: dict[str, Tensor] = {}
        self.sums: list[Tensor] = []
        self.squares: list[Tensor] = []

    def prepare(self, source: Source) -> None:
        """Complete the trajectories."""
        self.begins = source.train_seeds.start
        source.precompute(self.taught)

    def batches(self, source: Source, seeds: Seeds, batch_size: int, seed: int | None) -> DataLoader[Any]:
        """Return whole blocks, in the order of their seeds.

        Raises:
            InputError: the blocks do not divide by the number of processes.
        """
        together = batch_size * source.processes.world_size
        numbers = {
            "data.trajectories": len(source.train_seeds),
            "data.validation_trajectories": len(source.val_seeds),
            "model.first_trajectories": self.first_trajectories,
        }
        for name, number in numbers.items():
            if number % together:
                raise InputError(
                    f"{name} is {number}; it must be a multiple of {source.processes.world_size} processes times "
                    f"data.batch_size, {together}"
                )
        order = FromHere(Blocks(len(seeds), batch_size, source.processes))
        return source.loader(self.taught, seeds, order)

    @property
    def nfe(self) -> int:
        """Network runs per sample of the student."""
        return len(self.table.told) * self.parts.model.denoiser.cost

    def learned(self, weights: Tensor) -> Tabulated:
        """Return the table that some numbers come to."""
        table = deepcopy(self.table)
        table.set(weights)
        return Tabulated(table(), self.form)

    def last(self) -> dict[str, Any]:
        """Return the numbers of the lowest cost."""
        return self._made(self.lowest["numbers"])

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """Use none: the numbers are solved for."""
        return []

    def training_step(self, batch: Trajectories, batch_idx: int) -> None:
        """Sum the normal equations of a block, if the epoch sees it.

        Raises:
            FloatingPointError: a number is not finite.
        """
        if self.current_epoch < self.first_epochs and int(batch.seeds[0]) >= self.begins + self.first_trajectories:
            return
        self.linear = self.linear or Linear.at(self.table)
        equations = normal_equations(self.linear, self.parts.model.denoiser, *self._ends(batch), self.radius)
        if not is_finite(equations.sums):
            seeds = f"{int(batch.seeds[0])} to {int(batch.seeds[-1])}"
            raise FloatingPointError(f"the cost of training seeds {seeds} is not finite; {USUAL_CAUSE}")
        self.sums.append(equations.sums)

    def on_train_epoch_end(self) -> None:
        """Take the step or take it back, and try the next one."""
        equations = NormalEquations.added(self._in_order(self.sums))
        self.sums, self.linear, begins = [], None, self.current_epoch in (0, self.first_epochs)
        self.runs += equations.runs
        if begins or equations.cost < NormalEquations(self.lowest["sums"]).cost:
            self.lowest = {"sums": equations.sums, "numbers": self.table.numbers}
            self.damping = max(LEAST_DAMPING, EASIER * self.damping)
        else:
            self.damping *= HARDER
        self.log_dict({"train/cost": equations.cost, "train/damping": self.damping, "train/runs": float(self.runs)})
        self.table.set(self.lowest["numbers"] + NormalEquations(self.lowest["sums"]).step(self.damping))

    def validation_step(self, batch: Trajectories, batch_idx: int) -> None:
        """Run the present table."""
        noise, condition, target = self._ends(batch)
        end, _ = Replay(self.parts.model.denoiser, noise, condition).end(self.table(), [])
        self.squares.append((end - target).double().square().flatten(1).mean(1))

    def on_validation_epoch_end(self) -> None:
        """Log the distance from the teacher, by which the table is judged.

        Raises:
            FloatingPointError: the distance is not finite.
        """
        squares, self.squares = self._in_order(self.squares), []
        distance = float(squares.mean().sqrt())
        if not math.isfinite(distance):
            raise FloatingPointError(f"the distance of the validation samples is not finite; {USUAL_CAUSE}")
        self.judge("rmse", distance, self._made(self.table.numbers))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep where the fit stands, with the sums of all processes since the epoch began."""
        super().on_save_checkpoint(checkpoint)
        sums = self._in_order(self.sums) if self.sums else None
        state = {name: getattr(self, name) for name in ("damping", "runs", "lowest")}
        checkpoint["least_squares"] = state | {"sums": sums, "processes": self.trainer.world_size}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on with it.

        Raises:
            InputError: an epoch has begun on another number of processes.
        """
        super().on_load_checkpoint(checkpoint)
        state = checkpoint["least_squares"]
        sums, processes = state.pop("sums"), state.pop("processes")
        if sums is not None and processes != self.trainer.world_size:
            raise InputError(f"this fit has stopped in an epoch of {processes} processes; go on with as many")
        for name, value in state.items():
            setattr(self, name, value)
        self.sums = [] if sums is None else list(sums[self.trainer.global_rank :: processes])

    def _ends(self, batch: Trajectories) -> tuple[Images, Condition | None, Images]:
        """Return noise, condition and the teacher's samples."""
        return batch.states[:, 0] / self.parts.sigmas[0].to(batch.states), batch.condition, batch.states[:, -1]

    def _in_order(self, of_blocks: list[Tensor]) -> Float[Tensor, "blocks *_"]:
        """Collect what each process has of its blocks, in the order of the blocks."""
        own = torch.stack(of_blocks)
        gathered = cast(Tensor, self.all_gather(own)).reshape(self.trainer.world_size, *own.shape)
        return gathered.transpose(0, 1).flatten(0, 1)

    def _made(self, numbers: Tensor) -> dict[str, Any]:
        """Return numbers, what they cost, and the network runs of a sample, of which some may be at once."""
        depth = len(self.table.at_once) * self.parts.model.denoiser.cost
        costs = {"nfe": self.nfe, "depth": depth, "numbers": len(numbers)}
        return {"weights": numbers, "runs": self.runs, "radius": self.radius} | costs
