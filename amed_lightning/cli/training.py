"""Reading a fit's YAML: LightningCLI over typed modules and data modules."""

import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import yaml
from jsonargparse import Namespace
from lightning.pytorch.callbacks import Callback, ProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback

from amed_lightning.cli.parsing import OneLineErrors
from amed_lightning.config import InputError
from amed_lightning.runtime.progress import Advance, progress
from amed_lightning.runtime.provenance import provenance, write_run_record
from amed_lightning.training.distillation import AMEDDistillation
from amed_lightning.training.trajectories import TeacherTrajectories


class ProgressLines(ProgressBar):
    """Plain lines in place of a bar, where there is no terminal."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start counting batches."""
        super().on_train_start(trainer, pl_module)
        self._bar = progress("fit", int(trainer.num_training_batches) * (trainer.max_epochs or 1), "batches")
        self._advance: Advance = self._bar.__enter__()
        self._advance(trainer.current_epoch * int(trainer.num_training_batches))

    def on_train_batch_end(self, *arguments: Any) -> None:
        """Count a batch."""
        super().on_train_batch_end(*arguments)
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
        write_run_record(Path(trainer.log_dir or trainer.default_root_dir), config, digests, source)


class TrainingParser(OneLineErrors, LightningArgumentParser):
    """LightningCLI's parser, with errors of one line."""


class TrainingCLI(LightningCLI):
    """LightningCLI whose model and data are named by class in the YAML."""

    def __init__(self, arguments: Sequence[str], run: bool) -> None:
        # The arguments are those of the command line, which processes that the Trainer starts will read again.
        warnings.filterwarnings("ignore", "LightningCLI's args parameter")
        off_terminal: list[Callback] = [] if sys.stderr.isatty() else [ProgressLines()]
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
            trainer_defaults={"use_distributed_sampler": False, "callbacks": off_terminal},
        )


def distillation(arguments: Sequence[str]) -> tuple[AMEDDistillation, TeacherTrajectories, Namespace]:
    """Build the module and the data of a distillation, without running it.

    Args:
        arguments: as ``fit`` takes them.

    Returns:
        Module, data, and the Trainer's options.

    Raises:
        InputError: the YAML describes another kind of training.
    """
    cli = TrainingCLI(arguments, run=False)
    if not isinstance(cli.model, AMEDDistillation) or not isinstance(cli.datamodule, TeacherTrajectories):
        raise InputError(
            f"{type(cli.model).__name__} with {type(cli.datamodule).__name__} has no teacher: "
            f"name a YAML of AMEDDistillation with TeacherTrajectories"
        )
    return cli.model, cli.datamodule, cli.config.trainer
