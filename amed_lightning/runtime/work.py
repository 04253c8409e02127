"""Work that processes share through files, whether one job has started them or several.

An item of work leaves a result: a file that is whole or not there, and the same from whoever makes it. A process takes
an item whose result is missing by creating the item's claim, a file that names the process. The process touches it
while it works, and removes it once the result is there. What nobody has touched for a while was left by a process that
is gone, and is taken over. A claim keeps two processes from making the same thing; no result depends on it, so one
that is taken over too early costs time and nothing else.

What is left to do of an item, as writing to a disk, a thread may do while the next one is made, one item behind and
under that item's claim; the rest is made where it was begun, because what a device computes belongs to a thread.

Nobody waits for a process: who finds nothing more to take waits for the results of the others, and makes them where
those are gone, or where a result has been deleted meanwhile.
"""

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, nullcontext, suppress
from dataclasses import asdict
from pathlib import Path

from amed_lightning.config import checked
from amed_lightning.runtime.beside import Finish, Later, behind
from amed_lightning.runtime.lock import Holder
from amed_lightning.runtime.processes import Processes
from amed_lightning.runtime.progress import nothing, progress
from amed_lightning.runtime.signals import Stopped, stop_if_asked

SECONDS_BETWEEN_TOUCHES = 5.0
SECONDS_OF_PATIENCE = 45.0
"""Several touches, and what a network file system may keep one from other nodes."""
SECONDS_TO_NOTICE = 10.0
"""Before it is said for whom a process waits."""
FIRST_WAIT, LONGEST_WAIT, GROWTH = 0.02, 2.0, 1.5


@contextmanager
def shared(
    description: str,
    names: Iterable[str],
    is_done: Callable[[str], bool],
    folder: Path,
    processes: Processes,
    unit: str = "blocks",
    tell: Callable[[str], object] | None = None,
) -> Iterator["Share"]:
    """Go through what is missing, in order and with whoever else does; whoever has gone through it finds all results.

    Args:
        description: of the work, for its progress.
        names: of the results, each that of a file.
        is_done: whether the result of a name is there.
        folder: of the claims, the same for all who share.
        processes: this process among those of its job.
        unit: what the results are, plural.
        tell: is given each name whose result is there now, or is being finished; a bar of its own is shown where
            nobody else tells.

    Yields:
        The names that fall to this process, one after another, each claimed until the next is asked for.

    Raises:
        Stopped: a signal asked this process to stop; it does so between two results, or where the block looks.
    """
    left = [name for name in names if not is_done(name)]
    with ExitStack() as stack:
        if tell is None:
            tell = stack.enter_context(_shown(description, len(left), unit, processes))
        stack.enter_context(_left(description, left, unit, processes))
        later = stack.enter_context(behind())
        yield stack.enter_context(closing(Share(left, is_done, folder, tell, later)))


class Share:
    """What falls to a process; see :func:`shared`.

    Args:
        left: names of what is missing; one goes when its result is there.
        is_done: whether the result of a name is there.
        folder: of the claims.
        tell: is given each name that goes.
        later: finishes things behind.
    """

    def __init__(
        self,
        left: list[str],
        is_done: Callable[[str], bool],
        folder: Path,
        tell: Callable[[str], object],
        later: Later,
    ) -> None:
        self._left, self._is_done, self._folder, self._tell, self._later = left, is_done, folder, tell, later
        self._held, self._names = ExitStack(), self._taken()

    def __iter__(self) -> Iterator[str]:
        return self._names

    def later(self, finish: Finish) -> None:
        """Let a thread do what is left of the result at hand, under its claim, while the next one is made."""
        self._later(finish, self._held)

    def close(self) -> None:
        """Let go of the result at hand."""
        self._names.close()

    def _taken(self) -> Generator[str, None, None]:
        while self._left:
            for name in list(self._left):
                stop_if_asked()
                if was_free := not self._is_done(name):
                    with claimed(self._folder, name) as held:
                        if held is None:
                            continue
                        self._held = held
                        if not self._is_done(name):
                            yield name
                self._left.remove(name)
                self._tell(name)
                if was_free:
                    break  # from the front again: what others have made meanwhile counts
            else:
                if self._left:
                    _wait(Claim(self._folder, self._left[0]), self._is_done)


@contextmanager
def claimed(folder: Path, name: str) -> Iterator[ExitStack | None]:
    """Claim a result for this block; what holds the claim is None where another process has it."""
    claim = Claim(folder, name)
    with ExitStack() as held:
        is_taken = claim.taken()
        if is_taken:
            held.enter_context(claim.kept())
        yield held if is_taken else None


def _wait(claim: "Claim", is_done: Callable[[str], bool]) -> None:
    """Wait for another process' result, or until its claim is gone or was left."""
    touched, since = claim.touched(), time.monotonic()
    began, pause, told = since, FIRST_WAIT, False
    while touched is not None and not is_done(claim.name):
        stop_if_asked()
        time.sleep(pause)
        pause = min(LONGEST_WAIT, GROWTH * pause)
        now = time.monotonic()
        if (again := claim.touched()) != touched:
            touched, since = again, now
        elif now - since > SECONDS_OF_PATIENCE:
            print(f"{claim.name}: taken over, {claim.holder()} is gone", file=sys.stderr, flush=True)
            claim.release()
            return
        if not told and now - began > SECONDS_TO_NOTICE:
            told = True
            print(f"waiting for {claim.name}: {claim.holder()} makes it", file=sys.stderr, flush=True)


class Claim:
    """The file that says who makes a result.

    Args:
        folder: of claims.
        name: of the result.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.name, self.path = name, folder / f".{name}.claim"

    def taken(self) -> bool:
        """Create the file; one that a process of this host has left is replaced."""
        if self._was_left_here():
            self.release()
        self.path.parent.mkdir(parents=True, exist_ok=True)  # another job may have removed it with its last block
        try:
            with self.path.open("x") as file:
                file.write(json.dumps(asdict(Holder())))
        except FileExistsError:
            return False
        except OSError as error:  # of a full disk, on which an empty file may stay
            self.release()
            raise OSError(error.errno, os.strerror(error.errno or 0), str(self.path)) from error
        return True

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Touch the file in this block, and remove it at its end."""
        ended = threading.Event()
        thread = threading.Thread(target=self._touch_until, args=[ended], daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            self.release()

    def release(self) -> None:
        """Remove the file."""
        self.path.unlink(missing_ok=True)

    def touched(self) -> int | None:
        """Return when it was last touched; None if there is no such file.

        It is opened for that: a network file system asks its server then.
        """
        try:
            with self.path.open() as file:
                return os.fstat(file.fileno()).st_mtime_ns
        except FileNotFoundError:
            return None

    def holder(self) -> Holder | str:
        """Return whom it names."""
        try:
            return Holder(**checked(Holder, json.loads(self.path.read_text())))
        except (OSError, ValueError, TypeError):
            return "another process"

    def _was_left_here(self) -> bool:
        holder = self.holder()
        if not isinstance(holder, Holder) or holder.host != Holder().host:
            return False
        try:
            os.kill(holder.process, 0)
        except OSError as error:
            return isinstance(error, ProcessLookupError)  # and not one that is another user's
        return False

    def _touch_until(self, ended: threading.Event) -> None:
        while not ended.wait(SECONDS_BETWEEN_TOUCHES):
            with suppress(OSError):
                os.utime(self.path)


@contextmanager
def _left(description: str, left: Sequence[str], unit: str, processes: Processes) -> Iterator[None]:
    """Where a signal stops the work, say what is left, once per job."""
    try:
        yield
    except Stopped:
        if not processes.global_rank:
            again = "the same command goes on, and begins again with what was not finished"
            print(f"{description}: stopped, {len(left)} {unit} are left; {again}", file=sys.stderr, flush=True)
        raise


@contextmanager
def _shown(description: str, total: int, unit: str, processes: Processes) -> Iterator[Callable[[str], object]]:
    """Show the progress of all, once per job."""
    silent = processes.global_rank or not total
    with nullcontext(nothing) if silent else progress(description, total, unit) as advance:
        yield lambda name: advance(1)
