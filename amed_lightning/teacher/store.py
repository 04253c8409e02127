"""The trajectory store: shards of a fixed range of seeds, each an LMDB environment of its own.

The recipe's digest names the store, so trajectories of another model or schedule cannot be taken for these. A shard is
written beside its final name, synced, described by a manifest (count, digest, checksum) and renamed: a killed writer
leaves nothing that a reader would open. Which shards there are does not depend on the number of processes that wrote
them.

A reader opens them read-only, without lock, and lazily, once per process, and looks at them from a student's levels
(see :mod:`amed_lightning.teacher.view`). The only copy is the one from LMDB's memory map into a batch's rows. A process
holds a record against its checksum when it reads it first, so that opening a store takes no time, and a process looks
at those records alone that it needs. Shards whose manifest has one checksum for all, as it used to, are read whole when
they are opened.
"""

import hashlib
import json
import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path

import lmdb
import numpy as np
import torch

from amed_lightning.config import InputError, content_of, write_atomically
from amed_lightning.noise.schedules import Grid
from amed_lightning.runtime.json_text import parse_json
from amed_lightning.runtime.unfinished import unfinished
from amed_lightning.seeds import Seeds
from amed_lightning.teacher import environment
from amed_lightning.teacher.pages import require_sound
from amed_lightning.teacher.records import Layout, Rows
from amed_lightning.teacher.trajectories import TeacherRecipe, Trajectories
from amed_lightning.teacher.view import View

CURE = "delete that folder and run `amed-lightning precompute` again"


class TrajectoryStore:
    """The shards of one recipe below ``root``.

    Args:
        root: folder of all stores.
        recipe: what the trajectories were made by.

    Raises:
        InputError: the recipe's batches do not divide a shard.
    """

    def __init__(self, root: Path, recipe: TeacherRecipe) -> None:
        if recipe.shard_size % recipe.batch_size:
            raise InputError(
                f"teacher.batch_size is {recipe.batch_size}; it must divide shard_size, {recipe.shard_size}"
            )
        self.recipe, self.layout = recipe, Layout.of(recipe)
        self.folder = root / recipe.digest[:16]

    def shards(self, seeds: Seeds) -> list[Seeds]:
        """Return the shards that hold ``seeds``; the last ends with their last batch, unless it is there whole."""
        size, batch = self.recipe.shard_size, self.recipe.batch_size
        start, stop = seeds.start // size * size, -(-seeds.stop // batch) * batch
        shards = list(Seeds(seeds.stream, start, stop).blocks(size))
        whole = replace(shards[-1], stop=shards[-1].start + size)
        return [*shards[:-1], whole if self.path(whole).is_dir() else shards[-1]]

    def shard_bytes(self, shard: Seeds) -> int:
        """Return the size of a shard's file."""
        return environment.file_bytes(len(shard), self.layout.record_bytes)

    def path(self, shard: Seeds) -> Path:
        """Return a shard's folder."""
        return self.folder / f"{shard.stream.name}-{shard.start:09d}-{shard.stop:09d}"

    def missing(self, seeds: Seeds) -> list[Seeds]:
        """Return the shards of ``seeds`` that have not been written."""
        return [shard for shard in self.shards(seeds) if not self.path(shard).is_dir()]

    def write(self, shard: Seeds, batches: Iterable[Trajectories]) -> None:
        """Write a shard, all or nothing; one that is there already is kept, and what a killed writer left goes.

        Args:
            shard: its seeds.
            batches: their trajectories, in order.

        Raises:
            InputError: a number is not finite in the recipe's precision.
            OSError: the shard cannot be written.
        """
        final = self.path(shard)
        checksums: list[int] = []

        def records() -> Iterator[bytes]:
            for batch in batches:
                for record in self.layout.pack(batch):
                    checksums.append(_checksum(record))
                    yield record

        write_atomically(self.folder / "recipe.json", json.dumps(asdict(self.recipe), indent=2).encode() + b"\n")
        with unfinished(final, is_folder=True) as partial:
            environment.write(partial, range(shard.start, shard.stop), records(), self.layout.record_bytes)
            manifest = {
                "recipe": self.recipe.digest,
                "stream": shard.stream.name,
                "start": shard.start,
                "stop": shard.stop,
                "engine": environment.ENGINE,
                "bytes": (partial / "data.mdb").stat().st_size,
                "checksums": checksums,
            }
            write_atomically(partial / "manifest.json", json.dumps(manifest, indent=2).encode() + b"\n")
            try:
                partial.rename(final)
            except OSError:
                if not final.is_dir():
                    raise


class _Records(dict[int, memoryview]):
    """Records by seed, inside the memory maps of shards that are opened when one of theirs is asked for.

    The shards close with this mapping, so whoever reads from it holds it.

    Args:
        store: where the shards are.
        seeds: whose records are read.
        look_at: is given each record when it is asked for first, with its shard's folder and its seed.
    """

    def __init__(
        self, store: TrajectoryStore, seeds: Seeds, look_at: Callable[[Path, int, memoryview], object]
    ) -> None:
        super().__init__()
        self.size, self.look_at = store.recipe.shard_size, look_at
        self.paths = {shard.start: store.path(shard) for shard in store.shards(seeds)}
        self.shards: dict[Path, lmdb.Transaction] = {}

    def __missing__(self, seed: int) -> memoryview:
        path = self.paths[seed // self.size * self.size]
        try:
            if path not in self.shards:
                require_sound(path / "data.mdb")
                self.shards[path] = environment.reading(path)
            record = self.shards[path].get(environment.key_of(seed))
        except (lmdb.Error, ValueError) as error:
            raise InputError(f"{path}: not readable ({error}); {CURE}") from error
        if record is None:
            raise InputError(f"{path}: no record of seed {seed}; {CURE}")
        self.look_at(path, seed, memoryview(record))
        self[seed] = memoryview(record)
        return self[seed]


class TrajectoryReader:
    """Read trajectories of a complete store, by position among ``seeds``.

    Args:
        store: where the shards are.
        seeds: which trajectories.
        sigmas: the levels to read them at; the stored ones where None.

    Raises:
        InputError: a shard is missing, or belongs to another recipe or other seeds, or a level lies outside the stored
            ones; and when it is read, a record that is damaged or has a number that is not finite.
    """

    def __init__(self, store: TrajectoryStore, seeds: Seeds, sigmas: Grid | None = None) -> None:
        self.store, self.seeds = store, seeds
        self.view = View(store.recipe, sigmas)
        self._checksums: dict[int, int] = {}
        self._seen: set[int] = set()
        self.close()
        for shard in store.shards(seeds):
            self._open(shard)
        with suppress(OSError):
            os.utime(store.folder)  # it was used

    def __len__(self) -> int:
        return len(self.seeds)

    def read(self, indices: Sequence[int]) -> Trajectories:
        """Return the trajectories of the seeds at ``indices``, stacked in that order."""
        return self.trajectories(self.rows(indices), indices)

    def rows(self, indices: Sequence[int]) -> Rows:
        """Return the bytes that the trajectories at ``indices`` are made of."""
        mapped, first, pieces = self._records, self.seeds.start, self.view.pieces
        records = [mapped[first + index] for index in indices]
        if not self.view.is_whole:
            records = [record[piece] for record in records for piece in pieces]
        joined = bytearray().join(records)
        return torch.frombuffer(joined, dtype=torch.uint8).view(len(indices), self.view.row_bytes)

    def trajectories(self, rows: Rows, indices: Sequence[int]) -> Trajectories:
        """Return what ``rows``, on any device, says of the trajectories at ``indices``."""
        return self.view.trajectories(rows, torch.from_numpy(self.seeds.start + np.asarray(indices, dtype=np.int64)))

    def close(self) -> None:
        """Close the shards, as soon as nobody is reading; the next read opens them again."""
        self._records = _Records(self.store, self.seeds, self._look_at)

    def _open(self, shard: Seeds) -> None:
        """Read a shard's manifest; the whole shard, where that has no checksum of each record."""
        path = self.store.path(shard)
        if not path.is_dir():
            raise InputError(f"{path}: this shard of the trajectory store is missing; run `amed-lightning precompute`")
        try:
            manifest = parse_json(content_of(path / "manifest.json"))
            written_bytes, of_all = manifest["bytes"], manifest.get("sha256")
            checksums = None if of_all else list(manifest["checksums"])
            size = (path / "data.mdb").stat().st_size
        except (OSError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(f"{path}: not a shard of trajectories ({error!r}); {CURE}") from error
        expected = {"recipe": self.store.recipe.digest, "stream": shard.stream.name, "start": shard.start}
        for key, value in (expected | {"stop": shard.stop}).items():
            if manifest.get(key) != value:
                raise InputError(f"{path}: this shard was written for {key} {manifest.get(key)}, not {value}; {CURE}")
        if size != written_bytes:
            raise InputError(f"{path}: {size} bytes where {written_bytes} were written; {CURE}")
        if checksums is None:
            self._require_whole(path, shard, of_all)
        elif len(checksums) == len(shard):
            self._checksums |= dict(enumerate(checksums, shard.start))
        else:
            raise InputError(f"{path}: {len(checksums)} checksums of {len(shard)} records; {CURE}")

    def _require_whole(self, path: Path, shard: Seeds, expected: object) -> None:
        """Read a shard that has one checksum for all its records."""
        total = hashlib.sha256()
        for seed in range(shard.start, shard.stop):
            total.update(self._records[seed])
        self.close()
        if total.hexdigest() != expected:
            raise InputError(f"{path}: the records' checksum does not match the manifest; {CURE}")

    def _look_at(self, path: Path, seed: int, record: memoryview) -> None:
        """Refuse a record that is not as it was written, or has a number that is not finite; once per process."""
        if seed in self._seen:
            return
        if seed in self._checksums and _checksum(record) != self._checksums[seed]:
            raise InputError(f"{path}: the checksum of seed {seed}'s record does not match the manifest; {CURE}")
        if not self.store.layout.is_finite(record):
            raise InputError(f"{path}: the trajectory of seed {seed} has a NaN or an infinity; {CURE}")
        self._seen.add(seed)


def _checksum(record: bytes | memoryview) -> int:
    return zlib.crc32(record)
