"""What a training exports: one file of its run's directory, by a name that every run's has.

A run replaces its own file and no other's: the run's directory says at the start whose it is, and what somebody else
has written since is not written over.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import lightning.pytorch as pl
from torch import Tensor

from amed_lightning.config import InputError, file_digest
from amed_lightning.runtime.provenance import provenance
from amed_lightning.training.precision import EXPORTED, SINGLE_WEIGHTS, require_precision
from amed_lightning.training.record import TrainingRecord

RECORD, FOUND = "training_record", "val/"
"""Where a checkpoint keeps the record, and how the names begin that go into it."""


def is_trial(trainer: pl.Trainer) -> bool:
    """Whether a fit only tries the code on a batch or two."""
    return bool(trainer.fast_dev_run)  # type: ignore[attr-defined]  # set by name


class Exporting(pl.LightningModule):
    """A training with a result.

    Args:
        export: where the result goes; None: into the run's directory.

    Attributes:
        result_name: of the file there.
    """

    result_name: ClassVar[str]

    def __init__(self, export: Path | None) -> None:
        super().__init__()
        self.export = export
        self._known: str | None = None

    @property
    def outcome(self) -> str:
        """What a fit has found on held-out data, in a few words."""
        found = {name: float(value) for name, value in self.trainer.callback_metrics.items() if name.startswith(FOUND)}
        return ", ".join(f"{name} {value:.4g}" for name, value in found.items())

    def command(self, result: Path) -> str:
        """Return what to type next, to see what a result is worth; nothing by itself."""
        return ""

    def result_in(self, folder: Path) -> Path:
        """Return where the result of a run in ``folder`` goes."""
        return self.export or folder / self.result_name

    def on_fit_start(self) -> None:
        """Remember the file that is there, which is this run's."""
        path = self._result
        self._known = file_digest(path) if path.is_file() else None

    @contextmanager
    def exported(self) -> Iterator[Path]:
        """Give this block the path to write the result to.

        Raises:
            InputError: another run has written there since this one has.
        """
        path = self._result
        if path.is_file() and file_digest(path) != self._known:
            raise InputError(f"{path}: another run has written it meanwhile; give each a directory of its own")
        yield path
        self._known = file_digest(path)

    @property
    def may_export(self) -> bool:
        """Whether this process writes the result: the first one does, of a fit that is no trial of the code."""
        return self.trainer.is_global_zero and not is_trial(self.trainer)

    @property
    def _result(self) -> Path:
        return self.result_in(Path(self.trainer.default_root_dir))


class ExportingAtTheEnd(Exporting, ABC):
    """A training whose result is the weights that it ends with; its record is written beside them."""

    _ended_with: dict[str, Tensor] | None = None

    def __init__(self, export: Path | None) -> None:
        super().__init__(export)
        self.record = TrainingRecord()

    @abstractmethod
    def write(self, path: Path) -> None:
        """Write the result."""

    def setup(self, stage: str) -> None:
        """Refuse a precision in which the weights would not be those that are exported."""
        require_precision(self.trainer.precision, SINGLE_WEIGHTS, EXPORTED)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the record."""
        checkpoint[RECORD] = self.record.state()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what the checkpoint would export: of a run that averages its weights, that is the average."""
        self._ended_with = checkpoint["state_dict"]
        if RECORD in checkpoint:
            self.record.go_on(checkpoint[RECORD])

    def on_train_start(self) -> None:
        """Go on from the checkpoint."""
        self._ended_with = None
        self.record.begin(self._batches, provenance(self.device, self.trainer.world_size))

    def on_validation_end(self) -> None:
        """Add what validation has found to the record."""
        found = {name: float(value) for name, value in self.trainer.callback_metrics.items() if name.startswith(FOUND)}
        if not self.trainer.sanity_checking:
            self.record.note(self._batches, found)

    def on_fit_end(self) -> None:
        """Export; a checkpoint with nothing left to train is exported as it is."""
        if self._ended_with is not None:
            self.load_state_dict(self._ended_with)
        if self.may_export:
            with self.exported() as path:
                self.write(path)
                self.record.write(path, self._batches)

    @property
    def _batches(self) -> int:
        return self.trainer.fit_loop.total_batch_idx + 1
