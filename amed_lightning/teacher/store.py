"""The trajectory store: shards of a fixed range of seeds, each an LMDB environment of its own.

The recipe's digest names the store, so trajectories of another model or schedule cannot be taken for these. A shard is
written beside its final name, synced, described by a manifest (count, digest, checksum) and renamed: a killed writer
leaves nothing that a reader would open. Which shards there are does not depend on the number of processes that wrote
them. A reader opens them read-only, without lock, and lazily, once per process.

A record is the float32 bytes of a trajectory's states, derivatives and features, then its label.
"""

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import lmdb
import numpy as np
import numpy.typing as npt
import torch

from amed_lightning.config import InputError, write_atomically
from amed_lightning.seeds import Seeds
from amed_lightning.teacher.trajectories import TeacherRecipe, Trajectories

SHARD_SIZE = 256
"""Trajectories per shard."""
ENGINE = 0
"""LMDB's file format; lmdb 3 also writes another that older readers refuse."""
PAGE = 4096
CURE = "delete that folder and run `amed-lightning precompute` again"


class TrajectoryStore:
    """The shards of one recipe below ``root``.

    Args:
        root: folder of all stores.
        recipe: what the trajectories were made by.
    """

    def __init__(self, root: Path, recipe: TeacherRecipe) -> None:
        self.recipe = recipe
        self.folder = root / recipe.digest[:16]

    def shards(self, seeds: Seeds) -> list[Seeds]:
        """Return the whole shards that hold ``seeds``."""
        start = seeds.start // SHARD_SIZE * SHARD_SIZE
        stop = -(-seeds.stop // SHARD_SIZE) * SHARD_SIZE
        return list(Seeds(seeds.stream, start, stop).blocks(SHARD_SIZE))

    def path(self, shard: Seeds) -> Path:
        """Return a shard's folder."""
        return self.folder / f"{shard.stream.name}-{shard.start:09d}-{shard.stop:09d}"

    def missing(self, seeds: Seeds) -> list[Seeds]:
        """Return the shards of ``seeds`` that have not been written."""
        return [shard for shard in self.shards(seeds) if not self.path(shard).is_dir()]

    def write(self, shard: Seeds, trajectories: Trajectories) -> None:
        """Write a shard, all or nothing; one that is there already is kept."""
        final = self.path(shard)
        partial = final.with_name(f".{final.name}.{uuid.uuid4().hex}")
        partial.mkdir(parents=True)
        write_atomically(self.folder / "recipe.json", json.dumps(asdict(self.recipe), indent=2).encode() + b"\n")
        records = list(_records(trajectories))
        space = sum(-(-(len(record) + PAGE) // PAGE) * PAGE for record in records) + 64 * PAGE
        with lmdb.open(str(partial), map_size=2 * space, sync=False, lock=False, lib_version=ENGINE) as environment:
            with environment.begin(write=True) as transaction:
                for seed, record in zip(range(shard.start, shard.stop), records, strict=True):
                    transaction.put(_key(seed), record)
            environment.sync(True)
        manifest = {
            "recipe": self.recipe.digest,
            "stream": shard.stream.name,
            "start": shard.start,
            "stop": shard.stop,
            "engine": ENGINE,
            "bytes": (partial / "data.mdb").stat().st_size,
            "sha256": _checksum(records),
        }
        write_atomically(partial / "manifest.json", json.dumps(manifest, indent=2).encode() + b"\n")
        try:
            partial.rename(final)
        except OSError:
            shutil.rmtree(partial)
            if not final.is_dir():
                raise


@dataclass(frozen=True)
class _Layout:
    """How a record's bytes divide."""

    states: tuple[int, ...]
    derivatives: tuple[int, ...]
    features: tuple[int, ...]
    labels: int

    @classmethod
    def of(cls, recipe: TeacherRecipe) -> "_Layout":
        levels = recipe.num_intervals + 1
        labels = int(recipe.num_classes > 0)
        return cls((levels, *recipe.shape), (levels - 1, *recipe.shape), (levels - 1, recipe.feature_size), labels)

    def parse(self, record: bytes) -> list[npt.NDArray[np.generic]]:
        parts, offset = [], 0
        for shape in (self.states, self.derivatives, self.features):
            count = int(np.prod(shape))
            parts.append(np.frombuffer(record, np.float32, count, offset).reshape(shape))
            offset += 4 * count
        return [*parts, np.frombuffer(record, np.int64, self.labels, offset)]


class TrajectoryReader:
    """Read trajectories of a complete store, by position among ``seeds``.

    Args:
        store: where the shards are.
        seeds: which trajectories.

    Raises:
        InputError: a shard is missing, belongs to another recipe or other seeds, or is damaged.
    """

    def __init__(self, store: TrajectoryStore, seeds: Seeds) -> None:
        self.store, self.seeds = store, seeds
        self._layout = _Layout.of(store.recipe)
        self._environments: dict[tuple[int, Path], lmdb.Environment] = {}
        for shard in store.shards(seeds):
            self._verify(shard)

    def __len__(self) -> int:
        return len(self.seeds)

    def read(self, indices: Sequence[int]) -> Trajectories:
        """Return the trajectories of the seeds at ``indices``, stacked in that order."""
        records = [self._record(self.seeds.start + index) for index in indices]
        columns = zip(*(self._layout.parse(record) for record in records), strict=True)
        states, derivatives, features, labels = (torch.from_numpy(np.stack(column)) for column in columns)
        condition = labels[:, 0] if self._layout.labels else None
        return Trajectories(states, derivatives, features, condition, self.seeds.start + torch.tensor(indices))

    def close(self) -> None:
        """Close this process' environments."""
        for environment in self._environments.values():
            environment.close()
        self._environments.clear()

    def _record(self, seed: int) -> bytes:
        start = seed // SHARD_SIZE * SHARD_SIZE
        shard = Seeds(self.seeds.stream, start, start + SHARD_SIZE)
        with self._environment(shard).begin() as transaction:
            record = transaction.get(_key(seed))
        if record is None:
            raise InputError(f"{self.store.path(shard)}: no record of seed {seed}; {CURE}")
        return bytes(record)

    def _environment(self, shard: Seeds) -> lmdb.Environment:
        key = (os.getpid(), self.store.path(shard))
        if key not in self._environments:
            self._environments[key] = lmdb.open(str(key[1]), readonly=True, lock=False, meminit=False)
        return self._environments[key]

    def _verify(self, shard: Seeds) -> None:
        path = self.store.path(shard)
        if not path.is_dir():
            raise InputError(f"{path}: this shard of the trajectory store is missing; run `amed-lightning precompute`")
        try:
            manifest = json.loads((path / "manifest.json").read_text())
            written_bytes, written_sha256 = manifest["bytes"], manifest["sha256"]
            size = (path / "data.mdb").stat().st_size
        except (OSError, KeyError, TypeError, json.JSONDecodeError) as error:
            raise InputError(f"{path}: not a shard of trajectories ({error!r}); {CURE}") from error
        expected = {"recipe": self.store.recipe.digest, "stream": shard.stream.name, "start": shard.start}
        for key, value in (expected | {"stop": shard.stop}).items():
            if manifest.get(key) != value:
                raise InputError(f"{path}: this shard was written for {key} {manifest.get(key)}, not {value}; {CURE}")
        if size != written_bytes:
            raise InputError(f"{path}: {size} bytes where {written_bytes} were written; {CURE}")
        try:
            checksum = _checksum([self._record(seed) for seed in range(shard.start, shard.stop)])
        except lmdb.Error as error:
            raise InputError(f"{path}: not readable ({error}); {CURE}") from error
        finally:
            self.close()  # a process forked from here could not open it again
        if checksum != written_sha256:
            raise InputError(f"{path}: the records' checksum does not match the manifest; {CURE}")


def _key(seed: int) -> bytes:
    return seed.to_bytes(8, "big")


def _records(trajectories: Trajectories) -> Iterator[bytes]:
    parts = [trajectories.states, trajectories.derivatives, trajectories.features]
    if trajectories.condition is not None:
        parts.append(trajectories.condition)
    for fields in zip(*parts, strict=True):
        yield b"".join(field.numpy().tobytes() for field in fields)


def _checksum(records: Sequence[bytes]) -> str:
    total = hashlib.sha256()
    for record in records:
        total.update(record)
    return total.hexdigest()
