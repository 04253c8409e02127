"""One run per directory: a file that names the job, the host and the process that work there.

Creating a file that must not exist yet is atomic on every network file system, so that decides. What a killed process
has left is recognised by its job (an earlier start of the same one, or one that SLURM no longer knows) or, on its own
host, by a lock of the kernel that ended with it. In doubt the directory stays taken.
"""

import fcntl
import json
import os
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from amed_lightning.config import InputError
from amed_lightning.runtime.slurm import has_ended, job_name

SECONDS_TO_WRITE = 2.0
"""How long a new lock may be without its content."""


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
    restart: int = field(default_factory=lambda: int(os.environ.get("SLURM_RESTART_COUNT", "0")))
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
            InputError: it is taken.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        while True:
            try:
                file = self.path.open("x")
                break
            except FileExistsError:
                self._remove_if_left()
        with file:
            with suppress(OSError):  # a file system without locks
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            file.write(json.dumps(asdict(self.me)))
            file.flush()
            os.fsync(file.fileno())
            try:
                yield
            finally:
                if _read(self.path) == self.me:
                    self.path.unlink()

    def check(self) -> None:
        """Check that the directory is not another job's, in a process that leaves the lock to one of its fellows.

        Raises:
            InputError: it is taken.
        """
        holder = _read(self.path) if self.me.job else None
        if holder is not None and not holder.is_with(self.me) and not self._is_left_by(holder):
            raise self._refusal(holder)

    def require(self) -> None:
        """Check that the directory is still this process'.

        Raises:
            InputError: another process has taken it over.
        """
        if (holder := _read(self.path)) != self.me:
            raise InputError(f"{self.path}: this run's directory was taken over by {holder or 'nobody'}")

    def _remove_if_left(self) -> None:
        """Remove the lock of a process that is gone.

        Raises:
            InputError: that process is, or may be, still there.
        """
        if (holder := _read(self.path)) is None:
            return
        if not self._is_left_by(holder):
            raise self._refusal(holder)
        aside = self.path.with_name(f".{self.path.name}.{uuid.uuid4().hex}")
        with suppress(FileNotFoundError):  # somebody else was faster
            self.path.rename(aside)
            if _read(aside) != holder:  # what was moved is the new lock of somebody faster: give it back
                os.link(aside, self.path)
            aside.unlink()

    def _is_left_by(self, holder: Holder) -> bool:
        if holder.job is not None and holder.job == self.me.job and holder.restart < self.me.restart:
            return True
        if holder.host == self.me.host and not _is_locked(self.path):
            return True
        return holder.job is not None and has_ended(holder.job)

    def _refusal(self, holder: Holder) -> InputError:
        return InputError(
            f"{self.path.parent} belongs to another run ({holder}): name another --trainer.default_root_dir, "
            f"or delete {self.path} if that one is gone"
        )


def _read(path: Path) -> Holder | None:
    """Return who a lock names; None if there is none."""
    end = time.monotonic() + SECONDS_TO_WRITE
    while True:
        try:
            return Holder(**json.loads(path.read_text()))
        except FileNotFoundError:
            return None
        except (ValueError, TypeError) as error:
            if time.monotonic() > end:
                raise InputError(f"{path}: not readable ({error}); delete it if nobody works here") from None
            time.sleep(0.1)


def _is_locked(path: Path) -> bool:
    """Whether a process of this host holds the kernel's lock; True where a file system knows no locks."""
    try:
        with path.open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False
