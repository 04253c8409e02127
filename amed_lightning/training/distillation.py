"""Distilling AMED's predictor: sampling with a loss between the steps (Zhou et al. 2024, algorithm 1).

The student runs exactly as it samples. After each interval its state is compared with the teacher's,
``|x' - x_teacher|^2`` summed over pixels and averaged over the batch, and the predictor takes one step of Adam. A
one-step student starts the next interval from the teacher's state, where the stored trajectory knows the flow's first
answer already; a multistep student goes on from its own. Only an interval's second evaluation carries a gradient,
through the frozen network into the placement.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import cast

import lightning.pytorch as pl
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor
from torchvision.utils import make_grid

from amed_lightning.amed.files import save_predictor
from amed_lightning.amed.predictor import AMEDPredictor
from amed_lightning.flow.probability_flow import Evaluation, ProbabilityFlow
from amed_lightning.sampling.sampler import SamplerConfig, SamplerParts
from amed_lightning.solvers.placement import Placement, Placer
from amed_lightning.solvers.state import SolverState
from amed_lightning.teacher.trajectories import Trajectories
from amed_lightning.tensors import Images, Level, quantise, squared_distance

GRID_IMAGES = 64


class Observed:
    """A placer that remembers its last answer, for the log.

    Args:
        placer: answers.
    """

    def __init__(self, placer: Placer) -> None:
        self.placer = placer
        self.last: Placement | None = None

    def __call__(self, here: Evaluation, sigma: Level, sigma_next: Level) -> Placement:
        """Place, and remember."""
        self.last = self.placer(here, sigma, sigma_next)
        return self.last

    def means(self) -> dict[str, float]:
        """Return the batch means of the last answer's entries."""
        names = ("ratio", "direction_scale", "time_scale")
        return {name: float(torch.as_tensor(getattr(self.last, name)).detach().mean()) for name in names}


class AMEDDistillation(pl.LightningModule):
    """Fit a predictor and export the best one.

    Args:
        student: the sampler that the predictor will serve; its solver has no placer of its own.
        export: where the predictor's ``.json`` goes; the weights go beside it.
        scale_dir: bound of the direction scale's distance from 1.
        scale_time: bound of the time scale's distance from 1.
        learning_rate: of Adam.
    """

    best_loss: Tensor

    def __init__(
        self,
        student: SamplerConfig,
        export: Path,
        scale_dir: float = 0.01,
        scale_time: float = 0.0,
        learning_rate: float = 5e-3,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.parts = SamplerParts(student)
        self.export, self.learning_rate = export, learning_rate
        self.predictor = AMEDPredictor(self.parts.model.feature_size, scale_dir, scale_time)
        self.observed = Observed(self.predictor)
        self.student = self.parts.sampler(self.observed)
        self.register_buffer("best_loss", torch.tensor(torch.inf))

    def setup(self, stage: str) -> None:
        """Move the frozen denoiser, which is no part of this module, to the device."""
        self.parts.model.to(self.device)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam with a constant rate."""
        return torch.optim.Adam(self.predictor.parameters(), self.learning_rate)

    def intervals(self, teacher: Trajectories) -> Iterator[tuple[SolverState, Tensor]]:
        """Run the student along the teacher's trajectories.

        Args:
            teacher: stored trajectories.

        Yields:
            The student's state at each interval's end, and each sample's squared distance there. The next interval
            starts after the caller has come back.
        """
        sampler = self.student
        flow = ProbabilityFlow(sampler.model.denoiser, teacher.condition)
        sigmas = sampler.sigmas.to(self.device)
        start = teacher.states[:, 0]
        known = sampler.known_at_start(start) or teacher.evaluation(0, sigmas[0])
        state = sampler.solver.init(start, sigmas, known)
        for number, sigma_next in enumerate(sigmas[1:], start=1):
            state = sampler.solver.step(flow, state, sigma_next)
            yield state, squared_distance(state.x, teacher.states[:, number])
            state = state.detach()
            if not sampler.solver.is_multistep and number < len(sigmas) - 1:
                known = teacher.evaluation(number, sigma_next)
                state = SolverState(teacher.states[:, number], sigma_next, known, (), state.updates_left, state.nfe)

    def training_step(self, batch: Trajectories, batch_idx: int) -> None:
        """Take one optimiser step per interval."""
        optimizer = cast(torch.optim.Optimizer, self.optimizers())
        for number, (_, distances) in enumerate(self.intervals(batch), start=1):
            optimizer.zero_grad()
            self.manual_backward(distances.mean())
            self._require_finite_gradient(number, batch, distances)
            optimizer.step()
            self.log(f"train/loss_{number}", distances.mean().detach())
            self.log_dict({f"train/{name}_{number}": value for name, value in self.observed.means().items()})

    def validation_step(self, batch: Trajectories, batch_idx: int) -> None:
        """Log the loss of each interval on held-out seeds, and their sum."""
        total = torch.zeros((), device=self.device)
        for number, (_, distances) in enumerate(self.intervals(batch), start=1):
            self.log(f"val/loss_{number}", distances.mean(), sync_dist=True, batch_size=len(distances))
            total = total + distances.mean()
        self.log("val/loss", total, prog_bar=True, sync_dist=True, batch_size=len(batch.seeds))
        if batch_idx == 0:
            self._draw("teacher", batch.states[:GRID_IMAGES, -1])
            self._draw("student", self._samples(batch, GRID_IMAGES))

    def on_validation_epoch_end(self) -> None:
        """Export the predictor if this is a fit and its loss is the lowest so far."""
        loss = self.trainer.callback_metrics["val/loss"]
        fitting = self.trainer.state.fn == TrainerFn.FITTING and not self.trainer.sanity_checking
        if not fitting or not loss < self.best_loss:
            return
        self.best_loss.copy_(loss)
        if self.trainer.is_global_zero:
            training = {"val_loss": float(loss), "epoch": self.current_epoch, "learning_rate": self.learning_rate}
            save_predictor(self.export, self.predictor, self.parts.purpose, training)

    def _samples(self, batch: Trajectories, count: int) -> Images:
        noise = batch.states[:count, 0] / self.student.sigmas[0].to(batch.states)
        return self.student.sample(noise, None if batch.condition is None else batch.condition[:count]).x

    def _draw(self, name: str, latents: Images) -> None:
        if isinstance(self.logger, TensorBoardLogger):
            grid = make_grid(quantise(self.parts.model.decode(latents)), nrow=8, padding=1)
            self.logger.experiment.add_image(f"val/{name}", grid, self.global_step)

    def _require_finite_gradient(self, number: int, batch: Trajectories, distances: Tensor) -> None:
        gradients = torch.cat(
            [weights.grad.flatten() for weights in self.predictor.parameters() if weights.grad is not None]
        )
        if not bool(gradients.isfinite().all()):
            worst = int(batch.seeds[distances.nan_to_num(torch.inf).argmax()])
            raise FloatingPointError(
                f"the gradient of interval {number} is not finite; the largest loss is that of training seed {worst}"
            )
