"""One run per directory: a file that names the job, the host and the process that work there.

Creating a file that must not exist yet, and renaming, are atomic on every network file system, so they decide. What a
killed process has left is recognised by its job (an earlier start of the same one, or one that SLURM no longer knows)
or, on its own host, by a lock of the kernel that ended with it; in doubt the directory stays taken. Of several that
want to take over what was left, the one that creates a second file may, and it replaces the first in one step.
"""

import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TextIO

from amed_lightning.config import InputError, digest
from amed_lightning.runtime.flock import HAS_LOCKS, lock
from amed_lightning.runtime.places import require_place
from amed_lightning.runtime.slurm import has_ended, job_name, number

SECONDS_TO_WRITE = 5.0
"""How long a new lock may be without its content, and a change may take."""
SECONDS_BETWEEN_LOOKS = 0.05


@dataclass(frozen=True)
class Holder:
    """A process that works in a directory.

    Attributes:
        job: SLURM's name of its job; None outside SLURM.
        restart: how often the job was started before.
        step: of the job.
        host: where it runs.
        process: its number there.
        since: when it took the directory.
    """

    job: str | None = field(default_factory=job_name)
    restart: int = field(default_factory=lambda: number("SLURM_RESTART_COUNT", 0))
    step: str | None = field(default_factory=lambda: os.environ.get("SLURM_STEP_ID"))
    host: str = field(default_factory=socket.gethostname)
    process: int = field(default_factory=os.getpid)
    since: str = field(default_factory=lambda: time.strftime("%Y-%m-%dT%H:%M:%S%z"))

    def __str__(self) -> str:
        job = f"job {self.job}, " if self.job else ""
        return f"{job}process {self.process} on {self.host}, since {self.since}"

    def is_with(self, other: "Holder") -> bool:
        """Whether both belong to one start of one step of a job."""
        return (self.job, self.restart, self.step) == (other.job, other.restart, other.step)


_BEGINNING = '{"job": '
"""Of every lock."""
NOBODY = Holder(job=None, restart=0, step=None, host="an unknown host", process=0, since="an unknown time")
"""Whom a lock without its content names."""


class DirectoryLock:
    """The file that says whose a directory is.

    Args:
        folder: the directory.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "run.lock"
        self.me = Holder()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Have the directory in this block.

        Raises:
            InputError: it is taken, or cannot be written.
        """
        require_place(self.path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        end = time.monotonic() + 4 * SECONDS_TO_WRITE  # a look at what is not whole takes as long as writing may
        while (file := self._taken()) is None:
            if time.monotonic() > end:
                raise InputError(
                    f"{self.path}: somebody else has begun to take it over; delete it if nobody works here"
                )
            time.sleep(SECONDS_BETWEEN_LOOKS)
        with file:
            try:
                yield
            finally:
                if not HAS_LOCKS:  # Windows removes no open file
                    file.close()
                if _holder(self.path) == self.me:
                    self.path.unlink()

    def check(self) -> None:
        """Check that the directory is not another job's, in a process that leaves the lock to one of its fellows.

        Raises:
            InputError: it is taken.
        """
        found = _look(self.path) if self.me.job else None
        if found and not found[0].is_with(self.me) and not self._is_left_by(*found):
            raise self._refusal(found[0])

    def require(self) -> None:
        """Check that the directory is still this process'.

        Raises:
            InputError: another process has taken it over.
        """
        if (holder := _holder(self.path)) != self.me:
            raise InputError(f"{self.path}: this run's directory was taken over by {holder or 'nobody'}")

    def _taken(self) -> TextIO | None:
        """Create the file, or take over one that was left; None if there is a change under way.

        Raises:
            InputError: its process is, or may be, still there.
        """
        try:
            return self._written(self.path)
        except FileExistsError:
            found = _look(self.path)
        if found is None:
            return None
        holder, is_locked = found
        if not self._is_left_by(holder, is_locked):
            raise self._refusal(holder)
        change = self.path.with_name(f"{self.path.name}.{digest(asdict(holder))[:16]}")
        try:
            file = self._written(change)
        except FileExistsError:
            other = _look(change)
            if other is not None and self._is_left_by(*other):
                change.unlink(missing_ok=True)
            return None
        if _holder(self.path) == holder:
            change.replace(self.path)
            return file
        file.close()
        change.unlink()
        return None

    def _written(self, path: Path) -> TextIO:
        """Create a file that names this process and is locked; one that cannot be written is removed."""
        file = path.open("x")
        try:
            with suppress(OSError):  # a file system without locks
                lock(file)
            file.write(json.dumps(asdict(self.me)))
            file.flush()
            os.fsync(file.fileno())
        except OSError as error:
            path.unlink(missing_ok=True)
            with suppress(OSError):
                file.close()
            raise OSError(error.errno, os.strerror(error.errno or 0), str(path)) from error
        return file

    def _is_left_by(self, holder: Holder, is_locked: bool) -> bool:
        if holder.job is not None and holder.job == self.me.job and holder.restart < self.me.restart:
            return True
        if holder.host in (self.me.host, NOBODY.host) and not is_locked:
            return True
        return holder.job is not None and has_ended(holder.job)

    def _refusal(self, holder: Holder) -> InputError:
        return InputError(
            f"{self.path.parent} belongs to another run ({holder}): name another --trainer.default_root_dir, "
            f"or delete {self.path} if that one is gone"
        )


def _look(path: Path) -> tuple[Holder, bool] | None:
    """Return who a lock names, and whether a process of this host holds the kernel's lock; None if there is no file.

    Where a file system knows no locks, it may be held. A file that stays without its whole content for as long as
    writing may take was left by a process that was killed, or whose disk was full, and names nobody.

    Raises:
        InputError: it is no lock of ours.
    """
    end = time.monotonic() + SECONDS_TO_WRITE
    while True:
        try:
            with path.open(encoding="utf-8", errors="replace") as file:
                holder = _named(path, file.read())
                if holder is not None or time.monotonic() > end:
                    return holder or NOBODY, _is_locked(file)
        except FileNotFoundError:
            return None
        time.sleep(SECONDS_BETWEEN_LOOKS)


def _named(path: Path, written: str) -> Holder | None:
    """Return whom a lock's content names; None if it is not whole."""
    try:
        if written.startswith(_BEGINNING):
            return Holder(**json.loads(written))
    except ValueError:
        return None
    except TypeError:
        pass  # of another version
    if _BEGINNING.startswith(written):
        return None
    raise InputError(f"{path}: not a lock of this program; name another folder, or delete it if nobody works here")


def _is_locked(file: TextIO) -> bool:
    try:
        lock(file, shared=True)
    except OSError:
        return True
    return False


def _holder(path: Path) -> Holder | None:
    found = _look(path)
    return None if found is None else found[0]
