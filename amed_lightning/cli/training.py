"""Reading a fit's YAML: LightningCLI over typed modules and data modules."""

import json
import sys
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from jsonargparse import Namespace, dict_to_namespace
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Callback, ProgressBar, RichProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import TensorBoardLogger

from amed_lightning.amed.files import learned_digest
from amed_lightning.cli.parsing import OneLineErrors
from amed_lightning.cli.quiet import quieten_lightning
from amed_lightning.config import InputError, at_home, input_error_of, write_atomically
from amed_lightning.runtime.processes import accelerator_for, compute_alike
from amed_lightning.runtime.progress import progress_lines
from amed_lightning.runtime.provenance import provenance, write_run_record
from amed_lightning.runtime.slurm import slurm_environment
from amed_lightning.runtime.yaml_text import read_yaml
from amed_lightning.sampling.parts import learned_path
from amed_lightning.training.charts import Charts
from amed_lightning.training.checkpointing import Checkpointing
from amed_lightning.training.distilling import Distilling
from amed_lightning.training.exporting import Exporting, is_trial
from amed_lightning.training.precision import FROZEN, SINGLE, require_precision
from amed_lightning.training.run_directory import CHECKPOINT, RECORD, AtomicCheckpointIO, RunDirectory
from amed_lightning.training.seeding import NoiseByBatch
from amed_lightning.training.trajectories import TeacherTrajectories

TENSORBOARD = "lightning.pytorch.loggers.TensorBoardLogger"


class ProgressLines(Callback):
    """Plain lines in place of the Trainer's bar, where there is no terminal."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start counting batches, also those from before a restart."""
        epochs = trainer.max_epochs or -1  # without end, where max_steps or max_time is to end it
        total = int(trainer.num_training_batches) * epochs if epochs > 0 else None
        self._advance = progress_lines("fit", total, "batches", trainer.fit_loop.total_batch_idx + 1)

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Count a batch."""
        if trainer.is_global_zero:
            self._advance(1)


class Bar(RichProgressBar):
    """The Trainer's bar without the number of its folder of charts."""

    def get_metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Any]:
        """Return what stands behind the bar."""
        return {name: value for name, value in super().get_metrics(trainer, pl_module).items() if name != "v_num"}


class _TrainingParser(OneLineErrors, LightningArgumentParser):
    """LightningCLI's parser, with errors of one line.

    Args:
        options: of jsonargparse's.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, allow_abbrev=False, **options)


class TrainingCLI(LightningCLI):
    """LightningCLI whose model and data are named by class in the YAML."""

    def __init__(self, arguments: Sequence[str], run: bool) -> None:
        # The arguments are those of the command line, which processes that the Trainer starts will read again.
        warnings.filterwarnings("ignore", "LightningCLI's args parameter")
        quieten_lightning()
        self._verbs = arguments[:1] if run else []
        terminal = sys.stderr.isatty()
        callbacks: list[Callback] = [NoiseByBatch()] if terminal else [NoiseByBatch(), ProgressLines()]
        with _lightning_refusals():
            super().__init__(
                pl.LightningModule,
                pl.LightningDataModule,
                subclass_mode_model=True,
                subclass_mode_data=True,
                args=list(arguments),
                parser_class=_TrainingParser,
                run=run,
                save_config_callback=None,
                trainer_defaults={
                    "use_distributed_sampler": False,
                    "callbacks": callbacks,
                    "enable_progress_bar": terminal,
                },
            )

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]  # LightningCLI asks its instance
        """Make the verb's parser alone: each of the four takes a tenth of a second."""
        return {verb: arguments for verb, arguments in super().subcommands().items() if verb in self._verbs}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add when to save."""
        parser.add_lightning_class_args(Checkpointing, "checkpoint")

    def _parse_ckpt_path(self) -> None:
        """Take no options from a checkpoint, as LightningCLI would: they name classes, and it may be anybody's."""

    def _dump_config(self) -> None:
        """Give modules that save their hyperparameters the options as they are written already."""
        if self.subcommand is None:
            super()._dump_config()
        else:
            self.config_dump = deepcopy(self.options)

    def before_instantiate_classes(self) -> None:
        """Keep the options as they were given, and let a fit write its charts into its directory, where they began."""
        at_home(self.config)
        if self.subcommand is None:
            return
        given = self.config[self.subcommand].get("ckpt_path")
        if given is not None and not Path(given).is_file():
            raise InputError(f"--ckpt_path {given}: no such file; name one that is here, an address is not read")
        chosen = self.config[self.subcommand]
        trainer = chosen.trainer
        trainer.default_root_dir = _with_nfe(trainer.default_root_dir, chosen.model)
        self.given = self._parser(self.subcommand).dump(self.config[self.subcommand], skip_none=False)
        self.options: dict[str, Any] = read_yaml(self.given)
        folder = Path(trainer.default_root_dir or ".")
        if trainer.logger is None or trainer.logger is True:
            trainer.logger = _charts_in(folder) if self.subcommand == "fit" else False
        for logger, began in zip(_charts(trainer.logger), _began(folder), strict=False):
            if logger.version is None:
                logger.version = Path(began).name

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
        given = chosen.callbacks if isinstance(chosen.callbacks, list) else [chosen.callbacks]
        if chosen.enable_progress_bar and not any(isinstance(each, ProgressBar) for each in given):
            self.trainer_defaults["callbacks"].append(Bar())
        if self.subcommand == "fit":
            self.trainer_defaults["callbacks"].append(Charts(self.given))
        plugins = chosen.plugins if isinstance(chosen.plugins, list) else [chosen.plugins] if chosen.plugins else []
        job = slurm_environment()
        # Where Checkpointing may not save, it is still there to stop.
        options |= {"plugins": [*plugins, AtomicCheckpointIO(), *job], "enable_checkpointing": True}
        try:
            trainer = super().instantiate_trainer(**options)
            for environment in job:
                environment.validate_settings(trainer.num_devices, trainer.num_nodes)
            return trainer
        except (ValueError, RuntimeError, MisconfigurationException) as error:
            raise _one_line(error) from error

    def fit(self, model: pl.LightningModule, ckpt_path: str | None = None, **options: Any) -> None:
        """Fit, in a directory of the run's own, from its last checkpoint if it has one.

        Raises:
            InputError: the directory is another run's.
        """
        if is_trial(self.trainer):
            self.trainer.fit(model, ckpt_path=ckpt_path, **options)
            return
        folder, is_rank_zero = Path(self.trainer.default_root_dir), self.trainer.is_global_zero
        max_epochs = -1 if self.trainer.max_epochs is None else self.trainer.max_epochs
        digests = self._digests()
        run = RunDirectory(folder, self.options | {"digests": digests})
        result = model.result_in(folder) if isinstance(model, Exporting) else None
        with run.claimed(is_rank_zero):
            last = self._last(run)
            if run.is_finished(max_epochs, result):
                if is_rank_zero:
                    print(f"{folder}: this run has finished; raise trainer.max_epochs and it goes on")
                    _say_next(model, result)
                return
            if result is not None:
                run.require_own(result)
            if is_rank_zero:
                run.marker.unlink(missing_ok=True)
                self._record(run, result, digests, restart=last is not None)
            checkpoint: Checkpointing = self._get(self.config_init, "checkpoint")
            checkpoint.run = run if self.saves else None
            self.trainer.fit(model, ckpt_path=last or ckpt_path, **options)
            if is_rank_zero and (limit := checkpoint.cut_short(self.trainer)):
                print(f"{folder}: ended by {limit} after {checkpoint.batches} batches; raise it and the run goes on")
            elif is_rank_zero and self.saves and (result is None or result.is_file()):
                run.finish(max_epochs)
                if isinstance(model, Exporting) and result is not None:
                    print(f"fit: {model.outcome or 'finished'}; {result}")
                _say_next(model, result)

    def _last(self, run: RunDirectory) -> Path | None:
        """Return the checkpoint from which all processes of a fit go on."""
        last = run.last_checkpoint()
        if self.trainer.is_global_zero:
            run.begin(last)
        return last and run.checkpoint

    def validate(self, model: pl.LightningModule, ckpt_path: str | None = None, **options: Any) -> None:
        """Validate a checkpoint; if none is named, the last one of the run's own directory.

        Raises:
            InputError: there is none, or it was made by another configuration.
        """
        folder = Path(self.trainer.default_root_dir)
        if ckpt_path is None:
            compared = {name: self.options[name] for name in ("model", "data")} | {"digests": self._digests()}
            last = RunDirectory(folder, compared).last_checkpoint("name the checkpoint as --ckpt_path")
            if last is None:
                raise InputError(f"validate: {folder} has no checkpoint of this run: name one as --ckpt_path")
            if self.trainer.is_global_zero:
                print(f"validate: {last}")
            ckpt_path = str(last)
        self.trainer.validate(model, ckpt_path=ckpt_path, **options)

    def _digests(self) -> dict[str, str]:
        """Return what a distillation depends on besides its options."""
        if not isinstance(self.model, Distilling) or not isinstance(self.datamodule, TeacherTrajectories):
            return {}
        taught, path = self.model.taught, learned_path(self.model.parts.config.solver)
        digests = {"model": taught.model.digest, "recipe": self.datamodule.store(taught).recipe.digest}
        return digests if path is None else digests | {"learned": learned_digest(path)}

    def _record(self, run: RunDirectory, result: Path | None, digests: dict[str, str], restart: bool) -> None:
        """Write the configuration, and ``run.json`` beside it; of a restart, only what is different."""
        if not restart:
            write_atomically(run.folder / "config.yaml", self.given.encode())
        source = provenance(self.trainer.strategy.root_device, self.trainer.world_size)
        source["charts"] = [each.log_dir for each in self.trainer.loggers if isinstance(each, TensorBoardLogger)]
        source["result"] = result and run.name_of(result)
        write_run_record(run.folder, self.options, digests, source, restart)


def _say_next(model: pl.LightningModule, result: Path | None) -> None:
    if isinstance(model, Exporting) and result is not None and (command := model.command(result)):
        print(f"next: {command}")


def _with_nfe(folder: Any, model: Namespace) -> Any:
    """Put the student's network runs in the place of ``{nfe}``.

    Raises:
        InputError: they are not told.
    """
    if "{nfe}" not in str(folder):
        return folder
    nfe = model.init_args.get("student.nfe")
    if nfe is None:
        raise InputError(f"trainer.default_root_dir: {folder} has {{nfe}}; tell the network runs as model.student.nfe")
    return str(folder).replace("{nfe}", str(nfe))


def _charts_in(folder: Path) -> Namespace:
    """Describe the logger of a run that names none."""
    options = {"save_dir": str(folder), "name": "charts", "version": None, "default_hp_metric": False}
    return dict_to_namespace({"class_path": TENSORBOARD, "init_args": options})


def _charts(logger: object) -> Iterator[Namespace]:
    """Yield the options of the loggers that write for TensorBoard."""
    for each in logger if isinstance(logger, list) else [logger]:
        if isinstance(each, Namespace) and each.class_path.endswith(".TensorBoardLogger"):
            yield each.init_args


def _began(folder: Path) -> list[str]:
    """Return the folders that a run began its charts in; none, where it has no checkpoint to go on from."""
    try:
        return list(json.loads((folder / RECORD).read_bytes())["charts"]) if (folder / CHECKPOINT).is_file() else []
    except (OSError, ValueError, KeyError, TypeError):
        return []


@contextmanager
def _lightning_refusals() -> Iterator[None]:
    """Say in one line what Lightning refuses, or what it was that jsonargparse has wrapped.

    Raises:
        InputError: what a part has refused; or an option of the Trainer, be it that Lightning says so by this or by its
            place.
    """
    try:
        yield
    except (MisconfigurationException, ValueError) as error:
        if (bad_input := input_error_of(error)) is not None:
            raise bad_input from bad_input.__cause__
        if refusal := _refusal(error):
            raise _one_line(refusal) from error
        raise


def _refusal(error: BaseException | None) -> BaseException | None:
    """Find the error of Lightning's own that another was raised from; jsonargparse wraps what a constructor raises."""
    while error is not None:
        *_, (frame, _) = traceback.walk_tb(error.__traceback__)
        if isinstance(error, MisconfigurationException) or frame.f_globals.get("__name__", "").startswith("lightning."):
            return error
        error = error.__cause__
    return None


def _one_line(error: BaseException) -> InputError:
    return InputError(" ".join(str(error).split()))


def distillation(
    arguments: Sequence[str], parser: type[TrainingCLI] = TrainingCLI
) -> tuple[Distilling, TeacherTrajectories, Namespace]:
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
    if not isinstance(cli.model, Distilling) or not isinstance(cli.datamodule, TeacherTrajectories):
        raise InputError(
            f"{type(cli.model).__name__} with {type(cli.datamodule).__name__} has no teacher: "
            f"name a YAML of AMEDDistillation or LeastSquares with TeacherTrajectories"
        )
    require_precision(cli.trainer.precision, SINGLE, FROZEN)
    return cli.model, cli.datamodule, cli.config
