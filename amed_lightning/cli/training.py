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
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from amed_lightning.cli.parsing import OneLineErrors
from amed_lightning.config import InputError, at_home, write_atomically
from amed_lightning.runtime.processes import accelerator_for, compute_alike
from amed_lightning.runtime.progress import progress_lines
from amed_lightning.runtime.provenance import provenance, write_run_record
from amed_lightning.runtime.slurm import slurm_environment
from amed_lightning.training.checkpointing import Checkpointing
from amed_lightning.training.distillation import AMEDDistillation
from amed_lightning.training.noise import NoiseByBatch
from amed_lightning.training.precision import FROZEN, SINGLE, require_precision
from amed_lightning.training.run_directory import CHECKPOINT, RunDirectory, WholeCheckpoints
from amed_lightning.training.trajectories import TeacherTrajectories


class ProgressLines(Callback):
    """Plain lines in place of the Trainer's bar, where there is no terminal."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start counting batches, also those from before a restart."""
        epochs = trainer.max_epochs or -1  # without end, where max_steps or max_time is to end it
        total = int(trainer.num_training_batches) * epochs if epochs > 0 else None
        self._advance = progress_lines("fit", total, "batches")
        self._advance(trainer.fit_loop.total_batch_idx + 1)

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Count a batch."""
        if trainer.is_global_zero:
            self._advance(1)


class TrainingParser(OneLineErrors, LightningArgumentParser):
    """LightningCLI's parser, with errors of one line."""


class TrainingCLI(LightningCLI):
    """LightningCLI whose model and data are named by class in the YAML."""

    def __init__(self, arguments: Sequence[str], run: bool) -> None:
        # The arguments are those of the command line, which processes that the Trainer starts will read again.
        warnings.filterwarnings("ignore", "LightningCLI's args parameter")
        terminal = sys.stderr.isatty()
        callbacks: list[Callback] = [NoiseByBatch()] if terminal else [NoiseByBatch(), ProgressLines()]
        super().__init__(
            pl.LightningModule,
            pl.LightningDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            args=list(arguments),
            parser_class=TrainingParser,
            run=run,
            save_config_callback=None,
            trainer_defaults={
                "use_distributed_sampler": False,
                "callbacks": callbacks,
                "enable_progress_bar": terminal,
            },
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add when to save."""
        parser.add_lightning_class_args(Checkpointing, "checkpoint")

    def _parse_ckpt_path(self) -> None:
        """Take no options from a checkpoint, as LightningCLI would: they name classes, and it may be anybody's."""

    def before_instantiate_classes(self) -> None:
        """Keep the options as they were given, and let a fit that goes on write its charts where it began them."""
        at_home(self.config)
        if self.subcommand is None:
            return
        given = self.config[self.subcommand].get("ckpt_path")
        if given is not None and not Path(given).is_file():
            raise InputError(f"--ckpt_path {given}: no such file; name one that is here, an address is not read")
        self.given = self._parser(self.subcommand).dump(self.config[self.subcommand], skip_none=False)
        if self.subcommand != "fit":
            return
        trainer = self.config["fit"].trainer
        began = (Path(trainer.default_root_dir or ".") / CHECKPOINT).is_file()
        if began and isinstance(trainer.logger, Namespace) and trainer.logger.class_path.endswith(".TensorBoardLogger"):
            charts = trainer.logger.init_args
            versions = Path(charts.save_dir, charts.name).glob("version_*")
            numbers = [int(path.name.removeprefix("version_")) for path in versions]
            charts.version = max(numbers) if charts.version is None and numbers else charts.version

    def instantiate_trainer(self, **options: Any) -> pl.Trainer:
        """Build the Trainer: checkpoints are whole, and SLURM's signals are left to us.

        Raises:
            InputError: the devices are not there, or are not those of the SLURM job.
        """
        compute_alike()
        chosen = self._get(self.config_init, "trainer")
        if isinstance(chosen.accelerator, str):
            options["accelerator"] = accelerator_for(chosen.accelerator)
        self.saves = chosen.enable_checkpointing is not False and not chosen.fast_dev_run
        plugins = chosen.plugins if isinstance(chosen.plugins, list) else [chosen.plugins] if chosen.plugins else []
        job = slurm_environment()
        # Where Checkpointing may not save, it is still there to stop.
        options |= {"plugins": [*plugins, WholeCheckpoints(), *job], "enable_checkpointing": True}
        try:
            trainer = super().instantiate_trainer(**options)
            for environment in job:
                environment.validate_settings(trainer.num_devices, trainer.num_nodes)
            return trainer
        except (ValueError, RuntimeError) as error:
            raise InputError(" ".join(str(error).split())) from error

    def fit(self, model: pl.LightningModule, ckpt_path: str | None = None, **options: Any) -> None:
        """Fit, in a directory of the run's own, from its last checkpoint if it has one.

        Raises:
            InputError: the directory is another run's.
        """
        folder, leads = Path(self.trainer.default_root_dir), self.trainer.is_global_zero
        digests = self._digests()
        if not self.saves:
            self._record(digests, restart=False)
            self.trainer.fit(model, ckpt_path=ckpt_path, **options)
            return
        run = RunDirectory(folder, yaml.safe_load(self.given) | {"digests": digests})
        with run.claimed(leads):
            last = run.last_checkpoint()
            if run.is_finished:
                if leads:
                    print(f"{last}: this run has finished; delete it to start again")
                return
            self._record(digests, restart=last is not None)
            self._get(self.config_init, "checkpoint").run = run
            self.trainer.fit(model, ckpt_path=last or ckpt_path, **options)
            if leads:
                run.finish()

    def validate(self, model: pl.LightningModule, ckpt_path: str | None = None, **options: Any) -> None:
        """Validate a checkpoint; if none is named, the last one of the run's own directory.

        Raises:
            InputError: there is none, or it was made by another configuration.
        """
        folder, given = Path(self.trainer.default_root_dir), yaml.safe_load(self.given)
        if ckpt_path is None:
            compared = {name: given[name] for name in ("model", "data")} | {"digests": self._digests()}
            last = RunDirectory(folder, compared).last_checkpoint("name the checkpoint as --ckpt_path")
            if last is None:
                raise InputError(f"validate: {folder} has no checkpoint of this run: name one as --ckpt_path")
            ckpt_path = str(last)
        self.trainer.validate(model, ckpt_path=ckpt_path, **options)

    def _digests(self) -> dict[str, str]:
        """Return what a distillation depends on besides its options."""
        if not isinstance(self.model, AMEDDistillation) or not isinstance(self.datamodule, TeacherTrajectories):
            return {}
        parts = self.model.parts
        return {"model": parts.model.digest, "recipe": self.datamodule.store(parts).recipe.digest}

    def _record(self, digests: dict[str, str], restart: bool) -> None:
        """Write the configuration, and ``run.json`` beside it; of a restart, only what is different."""
        if not self.trainer.is_global_zero:
            return
        folder = Path(self.trainer.default_root_dir)
        if not restart:
            write_atomically(folder / "config.yaml", self.given.encode())
        source = provenance(self.trainer.strategy.root_device, self.trainer.world_size)
        write_run_record(folder, yaml.safe_load(self.given), digests, source, restart)


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
        InputError: the YAML describes another kind of training, or a precision that it does not take.
    """
    cli = parser(arguments, run=False)
    if not isinstance(cli.model, AMEDDistillation) or not isinstance(cli.datamodule, TeacherTrajectories):
        raise InputError(
            f"{type(cli.model).__name__} with {type(cli.datamodule).__name__} has no teacher: "
            f"name a YAML of AMEDDistillation with TeacherTrajectories"
        )
    require_precision(cli.trainer.precision, SINGLE, FROZEN)
    return cli.model, cli.datamodule, cli.config
