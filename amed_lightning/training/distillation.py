"""Distilling AMED's predictor: sampling with a loss between the steps (Zhou et al. 2024, algorithm 1).

After each interval the student's state is compared with the teacher's, ``|x' - x_teacher|^2`` summed over pixels and
averaged over the batch. The route says where the intervals and their gradients come from, the objective how the
intervals weigh. Each interval has an optimiser step of its own, or all of a batch have one together.

The predictor of the lowest loss on validation seeds is exported as soon as it is there, and kept in the checkpoints; or
that whose samples are nearest to those of a fine teacher, if there is one to judge by.

The published form is the route ``network`` with ``loss: published`` and a step per interval. The route ``whole`` lets
every loss see all of the student's runs before it: along the trajectory, or with ``loss: end_to_end`` at its end alone.
"""

from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any, cast

import lightning.pytorch as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from amed_lightning.amed.placed_table import PredictedTable
from amed_lightning.amed.predictor import AMEDPredictor, LearnedPlacer
from amed_lightning.config import InputError, Spec, build
from amed_lightning.sampling.config import SamplerConfig
from amed_lightning.sampling.finite import USUAL_CAUSE
from amed_lightning.sampling.parts import learned_path
from amed_lightning.sampling.sampler import Sampler
from amed_lightning.seeds import Seeds
from amed_lightning.solvers.learned import Learned
from amed_lightning.solvers.tabulated import PlacedTable
from amed_lightning.teacher.trajectories import TeacherConfig
from amed_lightning.tensors import Images, is_finite
from amed_lightning.training.baselines import Baselines
from amed_lightning.training.distilling import SHOWN, Distilling
from amed_lightning.training.fine_samples import FineSamples
from amed_lightning.training.objective import OBJECTIVES, LossForm
from amed_lightning.training.order import Batches
from amed_lightning.training.resuming import ResumableSampler
from amed_lightning.training.route import Batch
from amed_lightning.training.routes import ROUTES
from amed_lightning.training.source import Source
from amed_lightning.training.student import Interval, Student
from amed_lightning.training.tables import TableRoute

_LOGGED = ("ratio", "direction_scale", "time_scale")


class AMEDDistillation(Distilling):
    """Fit a predictor and export the best one.

    Args:
        student: the sampler that the predictor will serve; its solver has no placer of its own.
        route: name and options of where the gradient comes from; ``network`` if none.
        loss: how the intervals weigh against one another, and by what the best predictor is told.
        jointly: take one optimiser step per batch, on the sum of its intervals' losses, and not one per interval; the
            route ``whole`` always does.
        scale_dir: bound of the direction scale's distance from 1.
        scale_time: bound of the time scale's distance from 1.
        learning_rate: of Adam.
        fine_teacher: by the distance from whose samples the best predictor is told, instead of by its loss.
        export: where the predictor's ``.json`` goes, if not into the run's directory; the weights go beside it.
        predictor: import path and options of a :class:`LearnedPlacer` of one's own; AMED's if none.

    Raises:
        InputError: something that does not exist or fit together, or a denoiser whose weights would learn.
    """

    result_name = "predictor.json"

    def __init__(
        self,
        student: SamplerConfig,
        route: Spec | None = None,
        loss: LossForm = "normalised",
        jointly: bool = False,
        scale_dir: float = 0.01,
        scale_time: float = 0.0,
        learning_rate: float = 5e-3,
        fine_teacher: TeacherConfig | None = None,
        export: Path | None = None,
        predictor: Spec | None = None,
    ) -> None:
        super().__init__(student, export, placed=True)
        self.jointly, self.learning_rate = jointly, learning_rate
        self.route = build("route", ROUTES, route or {"name": "network"})
        if learned_path(student.solver) and not self.route.shares_graph:
            raise InputError("model.student.solver.learned: a predictor on top of a table learns by the route 'whole'")
        if OBJECTIVES[loss].of_the_end and not self.route.shares_graph:
            raise InputError(f"model.loss is {loss}, which only the route 'whole' has a gradient for; name that one")
        self.predictor = self._predictor(predictor, scale_dir, scale_time)
        if learned_path(student.solver):
            self.predictor.scale_nothing()
        self.student = Student(self.parts, self.predictor, scale_dir, scale_time)
        self.taught = self.student.taught
        self.num_intervals = self.taught.num_intervals
        self.loss, self.objective = loss, OBJECTIVES[loss](self.num_intervals)
        self.validated: dict[str, Tensor] = {}
        self.fine_teacher = fine_teacher
        self.fine: FineSamples | None = None

    def _predictor(self, told: Spec | None, scale_dir: float, scale_time: float) -> LearnedPlacer:
        ratios, size = self.route.ratio_range(self.parts), self.parts.model.feature_size
        if told is None:
            return AMEDPredictor(size, scale_dir, scale_time, ratios)
        given = {"feature_size": size, "scale_dir": scale_dir, "scale_time": scale_time, "ratio_range": ratios}
        placer: object = build("predictor", {AMEDPredictor.kind: AMEDPredictor}, told, **given)
        if not isinstance(placer, LearnedPlacer):
            raise InputError(f"predictor '{told['name']}': it is no {LearnedPlacer.__module__}.LearnedPlacer")
        return placer

    def prepare(self, source: Source) -> None:
        """Compute what the route and the judge need."""
        self.route.prepare(self.student, source)
        if self.fine_teacher is not None:
            self.fine = FineSamples.of(source, self.fine_teacher, self.parts)

    def batches(self, source: Source, seeds: Seeds, batch_size: int, seed: int | None) -> DataLoader[Any]:
        """Return the route's batches, of each of which every process has a slice."""
        order = ResumableSampler(Batches(len(seeds), batch_size, source.processes, seed))
        return self.route.loader(self.student, source, seeds, order)

    @property
    def nfe(self) -> int:
        """Network runs per sample of the student."""
        return self.student.sampler.nfe

    def learned(self, weights: dict[str, Tensor]) -> Learned:
        """Return the predictor of some weights, with the table that it is on top of."""
        predictor = deepcopy(self.predictor)
        predictor.load_state_dict(weights)
        solver = self.student.solver
        return PredictedTable(solver.base, predictor) if isinstance(solver, PlacedTable) else predictor

    def shown(self) -> dict[str, Images]:
        """Return the samples of the best predictor, if there is a fine teacher to compare with."""
        if self.fine is None or not self.best:
            return {}
        return self.decoded(*self.fine.beside(self._sampler(self.best["weights"]), SHOWN))

    def last(self) -> dict[str, Any]:
        """Return the present weights."""
        return {"weights": self.predictor.state_dict()} | self._recipe

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam with a constant rate."""
        return torch.optim.Adam(self.predictor.parameters(), self.learning_rate)

    def configure_callbacks(self) -> list[pl.Callback]:
        """Fit what a predictor must beat, where that costs nothing."""
        if not isinstance(self.route, TableRoute):
            return []
        return [Baselines(self.student, self.route, self.objective.judge)]

    def on_train_epoch_start(self) -> None:
        """Let the route get ready."""
        self.route.begin_epoch(self.current_epoch)

    def intervals(self, batch: Batch) -> Iterator[Interval]:
        """Yield the student's intervals; the next one starts after the caller has come back."""
        return self.route.intervals(self.student, batch)

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """Take one optimiser step per interval, or one in all."""
        optimizer = cast(torch.optim.Optimizer, self.optimizers())
        optimizer.zero_grad()
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        for interval in self.intervals(batch):
            loss = interval.losses.mean()
            over_all = self.trainer.strategy.reduce(loss.detach().clone(), reduce_op="mean")
            total = total + loss * self.objective.scale(interval.number, cast(Tensor, over_all))
            self.log_dict({f"train/{name}_{interval.number}": value for name, value in _summary(interval).items()})
            if self.route.shares_graph and interval.number < self.num_intervals:
                continue
            self.manual_backward(total)
            self._require_finite_gradient(interval, batch)
            total = torch.zeros_like(total)
            if not self.jointly:
                optimizer.step()
                optimizer.zero_grad()
        if self.jointly:
            optimizer.step()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Log the loss of each interval on held-out seeds."""
        for interval in self.intervals(batch):
            if not is_finite(interval.losses):
                raise _not_finite("loss", interval, batch, "validation")
            name = f"val/loss_{interval.number}"
            self.log(name, interval.losses.mean(), sync_dist=True, batch_size=len(interval.losses))

    def on_validation_epoch_start(self) -> None:
        """Keep the weights that will be judged: where a callback averages them it has put the average in, for now."""
        self.validated = {name: value.detach().cpu().clone() for name, value in self.predictor.state_dict().items()}

    def on_validation_epoch_end(self) -> None:
        """Log the objective, and the distance of the samples if there is a fine teacher: by that the best is told."""
        metrics = self.trainer.callback_metrics
        losses = [float(metrics[f"val/loss_{number + 1}"]) for number in range(self.num_intervals)]
        made = {"val_losses": losses, "weights": self.validated} | self._recipe
        loss = self.objective.judge(losses)
        if self.fine is None:
            self.judge("loss", loss, made)
        else:
            self.log("val/loss", loss)
            self.judge("rmse", self.fine.distance(self._sampler(self.validated)), made | {"val_loss": loss})

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what the route has learned."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["route"] = self.route.state()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on with it."""
        super().on_load_checkpoint(checkpoint)
        self.route.restore(checkpoint["route"])

    @property
    def _recipe(self) -> dict[str, Any]:
        return {"loss": self.loss, "learning_rate": self.learning_rate}

    def _sampler(self, weights: dict[str, Tensor]) -> Sampler:
        return self.parts.with_learned(self.learned(weights).to(self.device))

    def _require_finite_gradient(self, interval: Interval, batch: Batch) -> None:
        gradients = torch.cat(
            [weights.grad.flatten() for weights in self.predictor.parameters() if weights.grad is not None]
        )
        if not is_finite(gradients):
            raise _not_finite("gradient", interval, batch, "training")


def _not_finite(what: str, interval: Interval, batch: Batch, stream: str) -> FloatingPointError:
    worst = int(batch.seeds[interval.losses.nan_to_num(torch.inf).argmax()])
    return FloatingPointError(
        f"the {what} of interval {interval.number} is not finite; "
        f"the largest loss is that of {stream} seed {worst}; {USUAL_CAUSE}"
    )


def _summary(interval: Interval) -> dict[str, Tensor]:
    """Return the means of an interval's losses and of its placement's entries."""
    entries = {name: getattr(interval.place, name) for name in _LOGGED}
    return {"loss": interval.losses.detach().mean()} | {
        name: torch.as_tensor(entry, dtype=torch.float32).detach().mean() for name, entry in entries.items()
    }
