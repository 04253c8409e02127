"""What a predictor must beat, and may begin at: constants and coefficients, where a table makes them free."""

from collections.abc import Callable, Sequence
from pathlib import Path

import lightning.pytorch as pl
from torch import nn

from amed_lightning.amed.constants import constants_table
from amed_lightning.amed.files import save_learned
from amed_lightning.solvers.tabulated import Tabulated
from amed_lightning.solvers.two_stage import TwoStage
from amed_lightning.training.constants import approach, fit_coefficients, fit_constants, losses_of
from amed_lightning.training.exporting import is_trial
from amed_lightning.training.student import Student
from amed_lightning.training.tables import TableRoute


class Baselines(pl.Callback):
    """Fit the students of a few numbers that belong to a predictor's, and log how they do.

    Args:
        student: that is being distilled; they serve it too.
        route: has the tables.
        judge: turns the losses of all intervals into the one by which predictors are told apart.
    """

    def __init__(self, student: Student, route: TableRoute, judge: Callable[[Sequence[float]], float]) -> None:
        self.student, self.route, self.judge = student, route, judge
        self.losses: dict[str, float] = {}

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Fit them on the training rows of a one-step student's table, and write them into the run's directory."""
        if self.student.is_multistep:
            return
        train, val = self.route.tables.values()
        solver, parts = self.student.solver, self.student.parts
        fits = {"constants": fit_constants} | (
            {"coefficients": fit_coefficients} if isinstance(solver, TwoStage) else {}
        )
        for form, fit in fits.items():
            numbers = fit(solver, train)
            losses = [float(losses_of(solver, table, row).mean()) for table, row in zip(val, numbers, strict=True)]
            self.losses[f"val/{form}"] = self.judge(losses)
            if trainer.is_global_zero and not is_trial(trainer):
                table = constants_table(solver, parts.sigmas, parts.config.afs, numbers.cpu())
                path = Path(trainer.default_root_dir) / f"{form}.json"
                made = {"val_losses": losses}
                save_learned(path, Tabulated(table, form), parts.purpose, made, parts.description)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Let a fit that is not resumed begin at the constants."""
        if self.route.warm_start and not self.student.is_multistep and not trainer.global_step:
            train, _ = self.route.tables.values()
            assert isinstance(self.student.placer, nn.Module)
            approach(self.student.placer, fit_constants(self.student.solver, train), train, self.student.scale_dir)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log their losses beside the predictor's."""
        pl_module.log_dict(self.losses)
