"""Processes of one job that see whether the others are still there.

A collective waits for a process that is gone: with NCCL half an hour. So each process has a thread that counts up in
the store by which the processes have found each other, and looks whether the others count too. It ends its own process
where another has not counted for several looks, whatever that process is waiting for. Looks are counted, and not
seconds: a job that was suspended as a whole goes on.
"""

import os
import re
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from amed_lightning.runtime.exit_codes import ExitCode
from amed_lightning.runtime.signals import is_orphan

SECONDS_BETWEEN_LOOKS = 5.0
LOOKS_OF_PATIENCE = 8
_SECONDS_TO_LEAVE = 10.0
_SECONDS_TO_ANSWER = 5.0
"""For the store."""
_KEEPER = 0
"""The process that keeps the store."""
_LOST = re.compile("(connection|socket|peer).*(closed|reset|refused)|connection was likely closed|broken pipe", re.I)
"""What gloo, NCCL and the store say where a process has gone."""
AGAIN = "this one ends too; the same command goes on"


@contextmanager
def watching(code: ExitCode = ExitCode.failed) -> Iterator[None]:
    """Look after the other processes of a group, once there is one, in this block.

    Args:
        code: to end this process with, where another is gone.
    """
    ended = threading.Event()
    thread = threading.Thread(target=_watch, args=[ended, code], daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def meet() -> None:
    """Wait at the end for the others: who leaves early would be missed."""
    if (group := _group()) is not None:
        group.barrier()


def leave(code: object) -> None:
    """End the group, if there is one: now and then gloo aborts a process that ends before its group.

    Where others are gone that may wait for them; then the process ends here.

    Args:
        code: that the process is about to end with.
    """
    if (group := _group()) is None:
        return
    leaving = threading.Thread(target=group.destroy_process_group, daemon=True)
    leaving.start()
    leaving.join(_SECONDS_TO_LEAVE)
    if leaving.is_alive():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else ExitCode.failed)


def is_of_a_lost_process(error: Exception) -> bool:
    """Whether a collective has failed because another process is gone."""
    return isinstance(error, RuntimeError) and _group() is not None and bool(_LOST.search(" ".join(str(error).split())))


def is_of_a_meeting(error: Exception) -> bool:
    """Whether an error has come while the processes of a job were looking for one another."""
    return any(frame.name == "init_process_group" for frame in traceback.extract_tb(error.__traceback__))


def _group() -> Any:
    """Return torch's module, if it is loaded and there is a group."""
    distributed = sys.modules.get("torch.distributed")
    begun = getattr(distributed, "is_initialized", None)  # another thread may be importing it
    return distributed if begun is not None and begun() else None


def _watch(ended: threading.Event, code: ExitCode) -> None:
    others: Others | None = None
    look, silent, alone = threading.Thread(), 0, 0
    while not ended.wait(SECONDS_BETWEEN_LOOKS):
        alone = alone + 1 if is_orphan() else 0  # before there is a group, too; work that looks at signals ends sooner
        if others is None and (group := _group()) is not None and group.get_world_size() > 1:
            others = Others(group.distributed_c10d._get_default_store(), group.get_rank(), group.get_world_size())
        if others is not None and look.is_alive():  # the store does not answer
            silent += 1
            others.missed = {rank: missed + (rank == _KEEPER) for rank, missed in others.missed.items()}
        elif others is not None:
            look, silent = threading.Thread(target=others.look, daemon=True), 0
            look.start()
        is_alone = max(silent, alone) >= LOOKS_OF_PATIENCE
        gone = _KEEPER if is_alone else None if others is None else others.gone
        if gone is not None and not ended.is_set():
            print(f"process {gone} of this job is gone; {AGAIN}", file=sys.stderr, flush=True)
            os._exit(code)


class Others:
    """The other processes, as they were seen last.

    Args:
        store: that all processes share.
        rank: of this process.
        size: of the group.
    """

    def __init__(self, store: Any, rank: int, size: int) -> None:
        self.store, self.rank = store, rank
        self.own: Any = None
        self.seen = {rank: b"" for rank in range(size) if rank != self.rank}
        self.missed = dict.fromkeys(self.seen, 0)
        self.count = 0
        self.gone: int | None = None

    def look(self) -> int | None:
        """Count, and return the first process that has not counted for too long; without the store, its keeper."""
        self.count += 1
        try:
            store = self._connected()
            store.set(_key(self.rank), str(self.count))
            counts = {rank: store.get(_key(rank)) if store.check([_key(rank)]) else b"" for rank in self.seen}
        except RuntimeError:
            counts = dict.fromkeys(self.seen, b"")
            counts |= {
                rank: self.seen[rank] + b"?" for rank in self.seen if rank != _KEEPER
            }  # nothing is known of them
        for rank, count in counts.items():
            self.missed[rank] = self.missed[rank] + 1 if count in (b"", self.seen[rank]) else 0
            self.seen[rank] = count
        self.gone = next((rank for rank, missed in self.missed.items() if missed >= LOOKS_OF_PATIENCE), None)
        return self.gone

    def _connected(self) -> Any:
        """Return a connection of the looks' own, which a keeper that hangs leaves without an answer from the start."""
        if self.own is None:
            own = self.store.clone()
            own.set_timeout(timedelta(seconds=_SECONDS_TO_ANSWER))
            self.own = own
        return self.own


def _key(rank: int) -> str:
    return f"amed-lightning/counted/{rank}"
