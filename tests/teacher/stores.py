"""A student and its teacher on a small model, and processes that are threads."""

import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

import lmdb
import torch

from amed_lightning.flow.model import DiffusionModel
from amed_lightning.sampling.config import SamplerConfig
from amed_lightning.sampling.parts import SamplerParts
from amed_lightning.seeds import Seeds, Stream
from amed_lightning.teacher.precompute import precompute
from amed_lightning.teacher.store import TrajectoryStore
from amed_lightning.teacher.trajectories import TeacherConfig, recipe_for

from ..sampling.models import mixture

CPU = torch.device("cpu")


def parts_of(model: DiffusionModel | None = None, **changes: object) -> SamplerParts:
    """Return a student's parts; its model is the mixture unless one is given."""
    plain = {"model": {"name": "given"}, "solver": {"name": "amed"}, "schedule": {"name": "polynomial"}}
    return SamplerParts(SamplerConfig(**(plain | {"num_intervals": 3} | changes)), model or mixture())


def teacher(**changes: object) -> TeacherConfig:
    return TeacherConfig(**({"solver": {"name": "heun"}, "inner_levels": 1, "batch_size": 64} | changes))


def store_of(root: Path, model: DiffusionModel | None = None) -> TrajectoryStore:
    return TrajectoryStore(root, recipe_for(parts_of(model), teacher()))


def training(start: int, stop: int) -> Seeds:
    return Seeds(Stream.training, start, stop)


@dataclass
class Team:
    """As many processes as there are threads; a broadcast meets at a barrier."""

    world_size: int
    value: object = None
    barrier: threading.Barrier = field(init=False)

    def __post_init__(self) -> None:
        self.barrier = threading.Barrier(self.world_size, timeout=30)

    def run(self, work: Callable[["Member"], object]) -> None:
        """Let every member work at once; raise what one of them raises, though the others may wait for ever."""
        results: queue.Queue[BaseException | None] = queue.Queue()

        def report(member: Member) -> None:
            try:
                work(member)
                results.put(None)
            except BaseException as error:
                results.put(error)

        with mock.patch("os.getpid", threading.get_native_id):  # by which temporary files are told apart
            for rank in range(self.world_size):
                threading.Thread(target=report, args=[Member(self, rank)], daemon=True).start()
            for _ in range(self.world_size):
                if (error := results.get(timeout=60)) is not None:
                    raise error


@dataclass
class Member:
    """One of a team."""

    team: Team
    global_rank: int

    @property
    def world_size(self) -> int:
        return self.team.world_size

    def broadcast(self, obj: object, src: int = 0) -> object:
        if self.global_rank == src:
            self.team.value = obj
        self.team.barrier.wait()
        value = self.team.value
        self.team.barrier.wait()
        return value


def fill(store: TrajectoryStore, *seeds: Seeds, model: DiffusionModel | None = None, processes: int = 1) -> None:
    """Precompute ``seeds``."""
    Team(processes).run(lambda member: precompute(store, model or mixture(), list(seeds), member, CPU))


def records(shard: Path) -> list[tuple[bytes, bytes]]:
    """Return what a shard's file holds, read without the store."""
    with (
        lmdb.open(str(shard), readonly=True, lock=False) as environment,
        environment.begin() as transaction,
        transaction.cursor() as cursor,
    ):
        return [(bytes(key), bytes(value)) for key, value in cursor]
