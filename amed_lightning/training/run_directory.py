"""The directory of a run: whose it is, its last checkpoint, what it exports, and whether the run has finished.

A run goes on from its own last checkpoint and from no other. The checkpoint carries the configuration that it was made
by; a start with another one is refused, key by key, apart from what only says where and how a run is computed, and for
how long. It carries a checksum, too: where it is damaged, the one before is taken.
"""

import hashlib
import io
import json
import mmap
import os
import pickle
import re
import shutil
import sys
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
from amed_lightning.runtime.unfinished import ENDING

_VOLATILE_KEYS = re.compile(
    r"(config|checkpoint|data\.init_args\.(memory_share|((dataset|validation)\.)?root)|model\.init_args\.(export|route\.states_memory)"
    r"|trainer\.(accelerator|default_root_dir|devices|enable_checkpointing|enable_model_summary|enable_progress_bar"
    r"|log_every_n_steps|logger|num_nodes|plugins|profiler|strategy))(\..*)?"
)
"""What may change from one start of a run to the next."""
LENGTH = re.compile(r"trainer\.(max|min)_(epochs|steps|time)")
"""What may change, too, where no learning rate follows it."""
_AVERAGING = "WeightAveraging"
"""How callbacks end that change what is learned; others may come and go."""
CHECKPOINT, PREVIOUS = "last.ckpt", "previous.ckpt"
RECORD = "run.json"
PARTS = {"state_dict", "loops", "epoch", "global_step", "pytorch-lightning_version"}
"""What Lightning writes into every one."""
STATE = "run"
"""Where a checkpoint keeps what this module needs."""
SEAL, SEAL_LENGTH = b"sha256 ", len("sha256 ") + 64


class AtomicCheckpointIO(TorchCheckpointIO):
    """Checkpoints that replace the one before only once they are on the disk and have been read back."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write a checkpoint, all or nothing, with its checksum."""
        content = io.BytesIO()
        torch.save(checkpoint, content)
        write_atomically(Path(path), _sealed(content.getvalue()))

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
        self.folder = folder
        self.checkpoint, self.previous = folder / CHECKPOINT, folder / PREVIOUS
        self.marker = folder / "finished"
        self.lock = DirectoryLock(folder)
        self.config = dict(_flat(config))

    @contextmanager
    def claimed(self, is_rank_zero: bool) -> Iterator[None]:
        """Keep other runs out of the directory in this block.

        Args:
            is_rank_zero: whether this is the run's first process; the others only see that it is not another run's.

        Raises:
            InputError: it is.
        """
        if is_rank_zero:
            with self.lock.held():
                yield
        else:
            self.lock.check()
            yield

    def is_finished(self, max_epochs: int, result: Path | None) -> bool:
        """Whether the run has come to its end, is to be no longer than it was, and its result is there.

        Args:
            max_epochs: of this start; -1 for no limit.
            result: what it exports.
        """
        try:
            ended_at = json.loads(self.marker.read_bytes())["max_epochs"]
        except (OSError, ValueError, KeyError, TypeError):
            return False
        is_longer = ended_at != -1 and (max_epochs == -1 or max_epochs > ended_at)
        return self.checkpoint.is_file() and not is_longer and (result is None or result.is_file())

    def finish(self, max_epochs: int) -> None:
        """Remember that the run has come to its end, and how long it was to be."""
        ended = {"time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "max_epochs": max_epochs}
        write_atomically(self.marker, json.dumps(ended).encode() + b"\n")

    def begin(self, last: Path | None) -> None:
        """Make the directory ready for a start, in the process that has claimed it.

        An earlier run whose last checkpoint somebody has deleted is forgotten, a damaged one replaced, and what a
        killed process was writing removed.

        Args:
            last: the checkpoint to go on from.
        """
        for left in self.folder.glob(f".{CHECKPOINT}.*{ENDING}"):  # also on a host that is not this run's any more
            left.unlink(missing_ok=True)
        if last is None:
            self.previous.unlink(missing_ok=True)
        elif last == self.previous:
            print(f"{self.checkpoint}: damaged; the run goes on from the checkpoint before", file=sys.stderr)
            _link(self.previous, self.checkpoint)

    def keep_previous(self) -> None:
        """Keep the last checkpoint under another name, before it is replaced."""
        if self.checkpoint.is_file():
            _link(self.checkpoint, self.previous)

    def last_checkpoint(self, cure: str | None = None) -> Path | None:
        """Return the checkpoint to go on from, the one before the last where that is damaged; None at a run's start.

        Args:
            cure: what to do where it is not this run's; to start again, if none.

        Raises:
            InputError: both are damaged, or made by another configuration, as far as this one goes; or stock Lightning
                has left one of its own here, which it would load unasked.
        """
        if foreign := sorted(self.folder.glob("hpc_ckpt_*.ckpt")):
            raise InputError(f"{foreign[0]}: left by another program, and no checkpoint of this run; move it away")
        if not self.checkpoint.is_file():
            return None
        again = cure or f"name another --trainer.default_root_dir, or delete {self.checkpoint} to start again"
        found = next((path for path in (self.checkpoint, self.previous) if path.is_file() and is_whole(path)), None)
        if found is None:
            raise InputError(f"{self.checkpoint}: damaged, or not a checkpoint of a run; {again}")
        try:
            checkpoint = torch.load(found, weights_only=True, mmap=True, map_location="cpu")
            made_by, follows_length = checkpoint[STATE]["config"], bool(checkpoint.get("lr_schedulers"))
        except (OSError, RuntimeError, KeyError, TypeError, pickle.UnpicklingError) as error:
            raise InputError(f"{found}: not a checkpoint of a run ({error!r}); {again}") from error
        if changed := _differences(made_by, self.config, follows_length):
            raise InputError(f"{found}: this run was started with {'; '.join(changed)}: {again}")
        return found

    def require_own(self, result: Path) -> None:
        """Refuse to replace what another run has exported.

        A result is this run's if a record of its directory names it: one that was killed before its first checkpoint
        has left no other trace.

        Raises:
            InputError: it is another run's.
        """
        if not result.is_file():
            return
        reason = "this directory has no record of it"
        for path in [self.folder / RECORD, *sorted(self.folder.glob("restart-*.json"))]:
            try:
                record = json.loads(path.read_bytes())
                made_by, named = dict(_flat(record["config"] | {"digests": record["digests"]})), record["result"]
            except (OSError, ValueError, KeyError, TypeError):
                continue
            if named == self.name_of(result) and not (changed := _differences(made_by, self.config, False)):
                return
            reason = f"it was made with {'; '.join(changed)}" if named == self.name_of(result) else reason
        raise InputError(
            f"{result}: of another run, {reason}; name another --trainer.default_root_dir, or delete it to start again"
        )

    def name_of(self, result: Path) -> str:
        """Return how a record names a result: as seen from here, so that the whole directory may move."""
        return os.path.relpath(result, self.folder)


def _sealed(content: bytes) -> bytes:
    """Write an archive's checksum into the comment at its end, which readers of archives skip."""
    body = content[:-2] + SEAL_LENGTH.to_bytes(2, "little")
    return body + SEAL + hashlib.sha256(body).hexdigest().encode()


def is_whole(path: Path) -> bool:
    """Whether a checkpoint is as it was written, to the last bit."""
    if path.stat().st_size <= SEAL_LENGTH:
        return False
    with (
        path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
        memoryview(content) as view,
        view[:-SEAL_LENGTH] as body,
    ):
        return content[-SEAL_LENGTH:] == SEAL + hashlib.sha256(body).hexdigest().encode()


def _link(path: Path, other: Path) -> None:
    """Give a file a second name, in one step; copy it where a file system knows no links."""
    temporary = other.with_name(f".{other.name}.tmp")
    temporary.unlink(missing_ok=True)
    try:
        os.link(path, temporary)
    except OSError:
        shutil.copyfile(path, temporary)
    temporary.replace(other)


def _flat(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield a nested configuration's values under dotted keys."""
    for name, value in config.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _differences(before: Mapping[str, Any], now: Mapping[str, Any], follows_length: bool) -> list[str]:
    """Say in what a run was another one, in the sections of a configuration that this start has."""
    sections = {key.partition(".")[0] for key in now}
    before = {key: value for key, value in before.items() if key.partition(".")[0] in sections}
    one, other = _compared(before, follows_length), _compared(now, follows_length)
    keys = sorted(key for key in one.keys() | other.keys() if one.get(key) != other.get(key))
    return [f"{key} {one.get(key)}, not {other.get(key)}" for key in keys]


def _compared(config: Mapping[str, Any], follows_length: bool) -> dict[str, Any]:
    """Return what may not change."""
    kept = {
        key: value
        for key, value in config.items()
        if not _VOLATILE_KEYS.fullmatch(key) and (follows_length or not LENGTH.fullmatch(key))
    }
    callbacks = kept.pop("trainer.callbacks", None) or []
    averaging = [each for each in callbacks if str(each.get("class_path")).endswith(_AVERAGING)]
    return kept | ({"trainer.callbacks": averaging} if averaging else {})
