"""The directory of a run: whose it is, its last checkpoint, and whether the run has finished.

A run goes on from its own last checkpoint and from no other. The checkpoint carries the configuration that it was made
by, apart from what only says where and how a run is computed; a start with another one is refused, key by key.
"""

import io
import pickle
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io import TorchCheckpointIO

from amed_lightning.config import InputError, write_atomically
from amed_lightning.runtime.foreign import UNREADABLE, read_torch, reason
from amed_lightning.runtime.lock import DirectoryLock

PLACE = re.compile(
    r"(config|checkpoint|trainer\.(accelerator|default_root_dir|devices|enable_checkpointing|enable_model_summary"
    r"|enable_progress_bar|log_every_n_steps|logger|num_nodes|plugins|profiler|strategy))(\..*)?"
)
"""What may change from one start of a run to the next."""
CHECKPOINT = "last.ckpt"
PARTS = {"state_dict", "loops", "epoch", "global_step", "pytorch-lightning_version"}
"""What Lightning writes into every one."""
STATE = "run"
"""Where a checkpoint keeps what this module needs."""


class WholeCheckpoints(TorchCheckpointIO):
    """Checkpoints that replace the one before only once they are on the disk and have been read back."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write a checkpoint, all or nothing."""
        content = io.BytesIO()
        torch.save(checkpoint, content)
        write_atomically(Path(path), content.getvalue())

    def load_checkpoint(
        self, path: str | Path, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a checkpoint, which may be anybody's: tensors and plain values, on the CPU.

        Raises:
            InputError: it is damaged, something else, or names a class.
        """
        try:
            content: dict[str, Any] = deepcopy(read_torch(Path(path)))  # no map of a file that will be replaced
        except InputError:
            raise
        except UNREADABLE as error:
            raise InputError(f"{path}: not a checkpoint of tensors and plain values alone: {reason(error)}") from error
        if not isinstance(content, dict) or not content.keys() >= PARTS:
            raise InputError(f"{path}: not a checkpoint of a run, which has {', '.join(sorted(PARTS))}")
        return content


class RunDirectory:
    """The directory of one run.

    Args:
        folder: the directory.
        config: all options of the run.
    """

    def __init__(self, folder: Path, config: Mapping[str, Any]) -> None:
        self.checkpoint = folder / CHECKPOINT
        self.marker = folder / "finished"
        self.lock = DirectoryLock(folder)
        self.config = {key: value for key, value in _flat(config) if not PLACE.fullmatch(key)}

    @contextmanager
    def claimed(self, leads: bool) -> Iterator[None]:
        """Keep other runs out of the directory in this block.

        Args:
            leads: whether this is the run's first process; the others only see that it is not another run's.

        Raises:
            InputError: it is.
        """
        if leads:
            with self.lock.held():
                yield
        else:
            self.lock.check()
            yield

    @property
    def is_finished(self) -> bool:
        """Whether the run has come to its end."""
        return self.checkpoint.is_file() and self.marker.is_file()

    def finish(self) -> None:
        """Remember that the run has come to its end."""
        write_atomically(self.marker, time.strftime("%Y-%m-%dT%H:%M:%S%z\n").encode())

    def last_checkpoint(self, cure: str | None = None) -> Path | None:
        """Return the checkpoint to go on from; None at the start of a run.

        Args:
            cure: what to do where it is not this run's; to start again, if none.

        Raises:
            InputError: it is damaged, or was made by another configuration, as far as this one goes; or stock Lightning
                has left one of its own here, which it would load unasked.
        """
        if foreign := sorted(self.checkpoint.parent.glob("hpc_ckpt_*.ckpt")):
            raise InputError(f"{foreign[0]}: left by another program, and no checkpoint of this run; move it away")
        if not self.checkpoint.is_file():
            self.marker.unlink(missing_ok=True)
            return None
        again = cure or f"name another --trainer.default_root_dir, or delete {self.checkpoint} to start again"
        try:
            checkpoint = torch.load(self.checkpoint, weights_only=True, mmap=True, map_location="cpu")
            made_by = checkpoint[STATE]["config"]
        except (OSError, RuntimeError, KeyError, TypeError, pickle.UnpicklingError) as error:
            raise InputError(f"{self.checkpoint}: not a checkpoint of a run ({error!r}); {again}") from error
        sections = {key.partition(".")[0] for key in self.config}
        made_by = {key: value for key, value in made_by.items() if key.partition(".")[0] in sections}
        if changed := _differences(made_by, self.config):
            raise InputError(f"{self.checkpoint}: this run was started with {'; '.join(changed)}: {again}")
        return self.checkpoint


def _flat(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield a nested configuration's values under dotted keys."""
    for name, value in config.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    keys = sorted(key for key in before.keys() | now.keys() if before.get(key) != now.get(key))
    return [f"{key} {before.get(key)}, not {now.get(key)}" for key in keys]
