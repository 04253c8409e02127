"""Reading a fit's YAML: LightningCLI over typed modules and data modules."""

import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import yaml
from jsonargparse import Namespace
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback

from amed_lightning.cli.parsing import OneLineErrors
from amed_lightning.config import InputError
from amed_lightning.runtime.progress import progress_lines
from amed_lightning.runtime.provenance import provenance, write_run_record
from amed_lightning.training.distillation import AMEDDistillation
from amed_lightning.training.trajectories import TeacherTrajectories


class ProgressLines(Callback):
    """Plain lines in place of the Trainer's bar, where there is no terminal."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start counting batches, also those of the epochs before a resume."""
        batches = int(trainer.num_training_batches)
        self._advance = progress_lines("fit", batches * (trainer.max_epochs or 1), "batches")
        self._advance(trainer.current_epoch * batches)

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Count a batch."""
        if trainer.is_global_zero:
            self._advance(1)


class RunRecord(SaveConfigCallback):
    """Write the configuration, and ``run.json`` beside it."""

    def save_config(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Write ``run.json``; the base class writes the configuration."""
        config = yaml.safe_load(self.parser.dump(self.config, skip_none=False))
        digests = {}
        data = getattr(trainer, "datamodule", None)
        if isinstance(pl_module, AMEDDistillation) and isinstance(data, TeacherTrajectories):
            parts = pl_module.parts
            digests = {"model": parts.model.digest, "recipe": data.store(parts).recipe.digest}
        source = provenance(trainer.strategy.root_device, trainer.world_size)
        # Not trainer.log_dir, which is a collective: rank 0 alone comes here.
        folder = getattr(trainer.logger, "log_dir", None) or trainer.default_root_dir
        write_run_record(Path(folder), config, digests, source)


class TrainingParser(OneLineErrors, LightningArgumentParser):
    """LightningCLI's parser, with errors of one line."""


class TrainingCLI(LightningCLI):
    """LightningCLI whose model and data are named by class in the YAML."""

    def __init__(self, arguments: Sequence[str], run: bool) -> None:
        # The arguments are those of the command line, which processes that the Trainer starts will read again.
        warnings.filterwarnings("ignore", "LightningCLI's args parameter")
        terminal = sys.stderr.isatty()
        callbacks: list[Callback] = [] if terminal else [ProgressLines()]
        super().__init__(
            pl.LightningModule,
            pl.LightningDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            args=list(arguments),
            parser_class=TrainingParser,
            run=run,
            save_config_callback=RunRecord,
            save_config_kwargs={"overwrite": True},
            trainer_defaults={
                "use_distributed_sampler": False,
                "callbacks": callbacks,
                "enable_progress_bar": terminal,
            },
        )


def distillation(
    arguments: Sequence[str], parser: type[TrainingCLI] = TrainingCLI
) -> tuple[AMEDDistillation, TeacherTrajectories, Namespace]:
    """Build the module and the data of a distillation, without running it.

    Args:
        arguments: as ``fit`` takes them.
        parser: may take more options.

    Returns:
        Module, data, and all options.

    Raises:
        InputError: the YAML describes another kind of training.
    """
    cli = parser(arguments, run=False)
    if not isinstance(cli.model, AMEDDistillation) or not isinstance(cli.datamodule, TeacherTrajectories):
        raise InputError(
            f"{type(cli.model).__name__} with {type(cli.datamodule).__name__} has no teacher: "
            f"name a YAML of AMEDDistillation with TeacherTrajectories"
        )
    return cli.model, cli.datamodule, cli.config
