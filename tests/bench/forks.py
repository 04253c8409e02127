"""Real processes that share a sweep through gloo, forked from this one so that nothing is imported again."""

import os
import signal
import tempfile
import traceback
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist

from amed_lightning.bench.cell import Bench
from amed_lightning.bench.results import Results
from amed_lightning.bench.sweep import run

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Gloo:
    """One of several processes of a gloo group."""

    global_rank: int
    world_size: int

    def broadcast(self, obj, src=0):
        box = [obj]
        dist.broadcast_object_list(box, src)
        return box[0]


def begin(bench: Bench, folder: Path, count: int) -> list[int]:
    """Start processes that fill a bench; return their ids."""
    meeting = Path(tempfile.mkdtemp(dir=folder.parent)) / "meeting"
    return [_fork(bench, folder, meeting, rank, count) for rank in range(count)]


def _fork(bench: Bench, folder: Path, meeting: Path, rank: int, count: int) -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of a fork beside threads, which wait for ever
        if child := os.fork():
            return child
    code = 1
    try:
        torch.set_num_threads(1)
        dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=count)
        code = len(run([bench], Results(folder), Gloo(rank, count), CPU))
        dist.barrier()
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def end(children: Sequence[int]) -> None:
    """Wait for processes that must end well."""
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    assert codes == [0] * len(children)


def kill(children: Sequence[int]) -> bool:
    """Kill processes without a warning; return whether all of them were at work until then."""
    for child in children:
        os.kill(child, signal.SIGKILL)
    return all(os.waitpid(child, 0)[1] == signal.SIGKILL for child in children)
