r"""Fitting a sampler's table end to end by Levenberg and Marquardt's method: forward runs of the network alone.

An epoch goes once over the trajectories. One sums the normal equations at the present numbers; the next one compares
the costs of some steps from there, from bold to careful, which takes a few runs of each sample where the equations take
one per number and run. The best step is taken if it is better, and equations follow; else more careful ones are tried.
The first epochs see the first trajectories alone, which is enough to come near, and leave the sums of the rows, which
from far away lead into valleys (docs/learned.md).

A block of trajectories is one batch of the network, whole on one process, and the blocks' sums are added in order: the
numbers are the same, bit for bit, on any number of processes.
"""

import math
from copy import deepcopy
from pathlib import Path
from typing import Any, TypeAlias, cast

import torch
from jaxtyping import Float
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor
from torch.utils.data import DataLoader

from amed_lightning.amed.learned_table import GROUPS, LearnedTable
from amed_lightning.amed.table_picture import draw_table
from amed_lightning.config import InputError
from amed_lightning.sampling.config import SamplerConfig
from amed_lightning.sampling.finite import USUAL_CAUSE
from amed_lightning.sampling.parts import learned_path
from amed_lightning.seeds import Seeds
from amed_lightning.solvers.tabulated import Table, Tabulated, table_of
from amed_lightning.teacher.trajectories import Trajectories
from amed_lightning.tensors import Images, is_finite
from amed_lightning.training.distilling import SHOWN, Distilling
from amed_lightning.training.fine_samples import ends_of, noise_and_samples
from amed_lightning.training.normal_equations import (
    Linear,
    NormalEquations,
    Replay,
    costs_of,
    normal_equations,
)
from amed_lightning.training.order import Blocks
from amed_lightning.training.resuming import ResumableSampler
from amed_lightning.training.source import Source

_TRIED = (0.04, 0.2, 1.0, 8.0)
"""Factors of the damping, a step each."""
_LEAST_DAMPING = 1e-6
Trial: TypeAlias = tuple[float, Float[Tensor, "numbers"]]
"""A damping, and the numbers that its step leads to."""


class LeastSquares(Distilling):
    """Fit the numbers of a table and export those of the lowest cost.

    A table's few numbers do not overfit some hundred trajectories: what validation trajectories prefer among its steps
    is noise of those few (docs/learned.md). They say how far it is from its teacher.

    Args:
        student: the classical sampler to begin at; its solver has no placer.
        groups: what learns, see :mod:`amed_lightning.amed.learned_table`; all if none.
        at_once: number of network runs in the place of each of the student's, which do not see one another; one if
            none.
        radius: of the pseudo-Huber loss, in root mean square distance from the teacher's sample.
        first_trajectories: that the first epochs see.
        first_epochs: how many those are.
        first_groups: what learns in them; all of ``groups`` but the sums if none.
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
        first_groups: list[str] | None = None,
        damping: float = 1e-2,
        export: Path | None = None,
    ) -> None:
        super().__init__(student, export)
        for name, value in (("radius", radius), ("damping", damping), ("first_trajectories", first_trajectories)):
            if not value > 0:
                raise InputError(f"model.{name} is {value}; it must be above 0")
        if learned_path(student.solver):
            raise InputError("model.student.solver.learned: a table begins at a solver; leave it out")
        self.taught = ends_of(self.parts)
        self.radius, self.first_trajectories, self.first_epochs = radius, first_trajectories, first_epochs
        self.groups = tuple(groups or GROUPS)
        without_sums = tuple(group for group in self.groups if group != "sums")
        self.first_groups = tuple(first_groups or without_sums or self.groups)
        start = table_of(self.parts.solver(None), self.parts.sigmas, student.afs)
        try:
            end, largest = float(self.parts.sigmas[-1]), self.parts.model.noise_range.sigma_max
            self.table = LearnedTable.beginning_at(start, end, {*self.first_groups, *self.groups}, at_once, largest)
        except ValueError as error:
            raise InputError(f"model: {error}") from error
        parallel = " parallel" if max(self.table.at_once) > 1 else ""
        self.form = ("union" if {*self.groups} == {*GROUPS} else "+".join(self.groups)) + parallel
        self.damping, self.runs = damping, 0
        self.begins = 0
        self.linear: Linear | None = None
        self.equations = torch.empty(0)
        self.trials: list[Trial] = []
        self.sums: list[Tensor] = []
        self.squares: list[Tensor] = []
        self.compared: tuple[Images, Images] | None = None

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
        order = ResumableSampler(Blocks(len(seeds), batch_size, source.processes))
        return source.loader(self.taught, seeds, order)

    @property
    def nfe(self) -> int:
        """Network runs per sample of the student."""
        return self._network_runs(len(self.table.told))

    def learned(self, weights: dict[str, Tensor]) -> Tabulated:
        """Return a table as a solver."""
        return Tabulated(Table(**weights), self.form)

    def shown(self) -> dict[str, Images]:
        """Return samples of the table that was validated last."""
        return {} if self.compared is None else self.decoded(*self.compared)

    def last(self) -> dict[str, Any]:
        """Return the table of the lowest cost, and what it took."""
        depth = self._network_runs(len(self.table.at_once))  # some of its runs may be at once
        numbers = sum(getattr(self.table, group).numel() for group in self.groups)
        costs = {"nfe": self.nfe, "depth": depth, "numbers": numbers}
        return {"weights": vars(self._tabled()), "runs": self.runs, "radius": self.radius} | costs

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """Use none: the numbers are solved for."""
        return []

    def on_train_epoch_start(self) -> None:
        """Let learn what this epoch is for."""
        self.table.learn(self.first_groups if self.current_epoch < self.first_epochs else self.groups)

    def training_step(self, batch: Trajectories, batch_idx: int) -> None:
        """Sum over a block what the epoch asks for, if it sees the block.

        Raises:
            FloatingPointError: a number is not finite.
        """
        if self.current_epoch < self.first_epochs and int(batch.seeds[0]) >= self.begins + self.first_trajectories:
            return
        block = (self.parts.model.denoiser, *noise_and_samples(batch, self.parts), self.radius)
        if self.trials:
            self.sums.append(costs_of([self._tabled(numbers) for _, numbers in self.trials], *block))
            return
        self.linear = self.linear or Linear.at(self.table)
        sums = normal_equations(self.linear, *block).sums
        if not is_finite(sums):
            seeds = f"{int(batch.seeds[0])} to {int(batch.seeds[-1])}"
            raise FloatingPointError(f"the cost of training seeds {seeds} is not finite; {USUAL_CAUSE}")
        self.sums.append(sums)

    def on_train_epoch_end(self) -> None:
        """Propose steps from the present numbers, or take the best of those proposed."""
        sums = self._in_order(self.sums).sum(0)
        self.sums, self.linear = [], None
        self.runs += int(sums[-1])
        cost = self._choose(sums[:-2] / sums[-2]) if self.trials else self._propose(sums)
        if self.current_epoch + 1 == self.first_epochs:
            self.trials = []
        self.log_dict({"train/cost": cost, "train/damping": self.damping, "train/runs": float(self.runs)})

    def _propose(self, sums: Tensor) -> float:
        """Keep the equations, plan steps from them, and return the cost of the present numbers."""
        self.equations, equations = sums, NormalEquations(sums)
        dampings = [max(_LEAST_DAMPING, factor * self.damping) for factor in _TRIED]
        self.trials = [(damping, self.table.numbers + equations.step(damping)) for damping in dampings]
        return equations.cost

    def _choose(self, costs: Float[Tensor, "trials"]) -> float:
        """Take the best step if it is one, else plan more careful ones; return the cost of the present numbers."""
        cost, best = costs.nan_to_num(math.inf).min(0)
        if cost < NormalEquations(self.equations).cost:
            self.damping, numbers = self.trials[best]
            self.table.set(numbers)
            self.trials = []
            self._draw()
            return float(cost)
        self.damping *= _TRIED[-1] / _TRIED[0]
        return self._propose(self.equations)

    def _draw(self) -> None:
        """Show TensorBoard the present table."""
        for logger in self.trainer.loggers:
            if isinstance(logger, TensorBoardLogger) and self.trainer.is_global_zero:
                figure = draw_table(self._tabled(), self.table.start)
                logger.experiment.add_figure("table", figure, self.trainer.fit_loop.total_batch_idx)

    def validation_step(self, batch: Trajectories, batch_idx: int) -> None:
        """Run the present table."""
        noise, condition, target = noise_and_samples(batch, self.parts)
        end, _ = Replay(self.parts.model.denoiser, noise, condition).end(self.table(), [])
        if batch_idx == 0:
            self.compared = end[:SHOWN], target[:SHOWN]
        self.squares.append((end - target).double().square().flatten(1).mean(1))

    def on_validation_epoch_end(self) -> None:
        """Log the distance from the teacher, and export the present table, which is that of the lowest cost.

        Raises:
            FloatingPointError: the distance is not finite.
        """
        squares, self.squares = self._in_order(self.squares), []
        distance = float(squares.mean().sqrt())
        if not math.isfinite(distance):
            raise FloatingPointError(f"the distance of the validation samples is not finite; {USUAL_CAUSE}")
        self.log("val/rmse", distance, prog_bar=True)
        self.keep({"val_rmse": distance} | self.last())

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep where the fit stands, with the sums of all processes since the epoch began."""
        super().on_save_checkpoint(checkpoint)
        sums = self._in_order(self.sums) if self.sums else None
        state = {name: getattr(self, name) for name in ("damping", "runs", "equations", "trials")}
        checkpoint["least_squares"] = state | {"sums": sums, "processes": self.trainer.world_size}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on with it.

        Raises:
            InputError: version 0.1 began the fit, or an epoch has begun on another number of processes.
        """
        state = checkpoint["least_squares"]
        if "trials" not in state:
            raise InputError("version 0.1 began this fit, whose steps were others; begin it again in another directory")
        super().on_load_checkpoint(checkpoint)
        sums, processes = state.pop("sums"), state.pop("processes")
        if sums is not None and processes != self.trainer.world_size:
            raise InputError(f"this fit has stopped in an epoch of {processes} processes; go on with as many")
        for name, value in state.items():
            setattr(self, name, value)
        self.sums = [] if sums is None else list(sums[self.trainer.global_rank :: processes])

    def _in_order(self, of_blocks: list[Tensor]) -> Float[Tensor, "blocks *_"]:
        """Collect what each process has of its blocks, in the order of the blocks."""
        own = torch.stack(of_blocks)
        gathered = cast(Tensor, self.all_gather(own)).reshape(self.trainer.world_size, *own.shape)
        return gathered.transpose(0, 1).flatten(0, 1)

    def _network_runs(self, evaluations: int) -> int:
        """Return the network runs of a table's evaluations, and of denoise-to-zero's behind them."""
        return (evaluations + self.parts.config.denoise_to_zero) * self.parts.model.denoiser.cost

    def _tabled(self, numbers: Tensor | None = None) -> Table:
        """Return the present table, or that of other numbers."""
        table = deepcopy(self.table)
        if numbers is not None:
            table.set(numbers)
        with torch.no_grad():
            return table()
