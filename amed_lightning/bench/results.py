"""The files of a sweep: blocks' sums, the reference's images, cells' rows and samples, the errors of cells that failed.

A block's sums stay until its cell has a row, which has all that was to be known of them; a matrix that equals its
transpose is kept as one triangle. What was written before that was so is read as it is, and goes in the same way. The
folder's plan lists the cells, so that none needs to be loaded again to know what is missing: a line each, computed or
not, at which tables and plots start.
"""

import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from amed_lightning.bench.cell import Bench, Cell
from amed_lightning.bench.plan import SCORED, CellId, Planned, plan
from amed_lightning.bench.row import Row
from amed_lightning.bench.suite import Suite
from amed_lightning.config import InputError, content_of, digest, write_atomically
from amed_lightning.runtime.json_text import parse_json
from amed_lightning.runtime.slurm import job_name
from amed_lightning.runtime.tensor_file import DamagedFileError, Facts, read_with_facts, write_tensors
from amed_lightning.seeds import Seeds
from amed_lightning.tensors import Bytes

TRIANGLE = ".triangle"
"""Ends the name of a symmetric matrix of which the lower triangle is kept, row by row."""


@dataclass(frozen=True)
class Results:
    """A suite's folder. Every file is written whole or not at all.

    Attributes:
        folder: of the suite.
        keeps_images: whether every image is wanted as a PNG file.
        job: that writes; a cell's errors are told apart by it, so that a bad node's are nobody else's.
    """

    folder: Path
    keeps_images: bool = False
    job: str = field(default_factory=lambda: job_name() or "")

    @property
    def plan(self) -> Path:
        """Where the suite's cells are listed, computed or not."""
        return self.folder / "plan.json"

    def row(self, key: str) -> Path:
        """Return where a finished cell's row is."""
        return self.folder / "rows" / f"{key}.json"

    def error(self, key: str) -> Path:
        """Return where this job's error of a failed cell is."""
        return self.folder / "rows" / f"{key}.error{self.job and '-'}{self.job}.json"

    def errors(self, key: str) -> list[Path]:
        """Return all jobs' errors of a cell."""
        return sorted((self.folder / "rows").glob(f"{key}.error*.json"))

    def placed(self, key: str, place: CellId, is_reference: bool) -> Row | None:
        """Return a cell's row, if it has one, at the place that the suite gives the cell now."""
        row = self.finished(key)
        return row and replace(row, id=place, is_reference=is_reference)

    def finished(self, key: str) -> Row | None:
        """Return a cell's row as it was written, if it has one; what is no such row is taken away, to be made again."""
        path = self.row(key)
        try:
            if not path.is_file():
                return None
            content = read_json(path)
            written, name = content.pop("sha256", None), content["key"]  # rows of before had no checksum
            if name == key and written in (None, digest(content)):
                return Row.of(content)
            reason = (
                "its checksum is not the one that it was written with" if name == key else f"it is the row of {name}"
            )
        except (InputError, AttributeError, TypeError, KeyError) as error:
            reason = str(error)
        print(f"{path}: not this cell's row ({reason}); it is made again", file=sys.stderr)
        path.unlink(missing_ok=True)
        return None

    def write_row(self, row: Row) -> None:
        """Write a finished cell's row, with a checksum."""
        write_json(self.row(row.key), row.content | {"sha256": digest(row.content)})

    def is_scored(self, key: str) -> bool:
        """Whether a cell has a row, or an error of this job."""
        return self.row(key).is_file() or self.error(key).is_file()

    def is_settled(self, cell: Cell) -> bool:
        """Whether a cell has all that a sweep leaves, or an error of this job."""
        return self.is_scored(cell.key) and (self.error(cell.key).is_file() or self.is_done(cell, 0))

    def sums(self, key: str, block: int) -> Path:
        """Return where a block's sums are."""
        return self.folder / "blocks" / f"{key}-{block}.safetensors"

    def images(self, key: str, block: int) -> Path:
        """Return where the images of a reference's block are."""
        return self.folder / "blocks" / f"{key}-{block}-images.safetensors"

    def picture(self, key: str, seed: int) -> Path:
        """Return where an image is as a PNG file."""
        return self.folder / "images" / key / f"{seed:06d}.png"

    def kept(self, key: str) -> Path:
        """Return where a finished cell's images of the first seeds are."""
        return self.folder / "samples" / f"{key}.safetensors"

    def samples(self, key: str) -> Bytes | None:
        """Return a cell's images of the first seeds, if they are there; a file that is damaged is taken away."""
        try:
            for path in (self.kept(key), self.sums(key, 0)):
                if path.is_file():
                    return read_named(path, block_name(key, 0))[0].get("samples")
        except DamagedFileError as damaged:
            take_away(damaged)
        return None

    def tidy(self, cell: Cell) -> None:
        """Remove the sums of a cell that has a row, but for the images of the first seeds.

        Raises:
            DamagedFileError: the block that has these is not as it was written.
        """
        key, blocks = cell.key, range(cell.protocol.num_blocks)
        if not self.kept(key).is_file() and self.sums(key, 0).is_file():
            tensors, facts = read_block(self.sums, key, 0)
            write_tensors(self.kept(key), {"samples": tensors["samples"]}, {"block": facts["block"]})
        for block in blocks:
            self.sums(key, block).unlink(missing_ok=True)

    def is_done(self, cell: Cell, block: int) -> bool:
        """Whether everything that a block leaves is there; its sums may be in the cell's row already."""
        is_kept = self.sums(cell.key, block).is_file()  # first: they are removed once the row is there
        return (
            (is_kept or (self.row(cell.key).is_file() and (block > 0 or self.kept(cell.key).is_file())))
            and (not cell.planned.is_reference or self.images(cell.key, block).is_file())
            and (not self.keeps_images or self._has_pictures(cell.key, cell.protocol.block(block)))
        )

    def _has_pictures(self, key: str, seeds: Seeds) -> bool:
        return all(self.picture(key, seed).is_file() for seed in range(seeds.start, seeds.stop))


def block_name(key: str, block: int) -> str:
    """Return what a block's files call themselves."""
    return f"{key}-{block}"


def read_block(path_of: Callable[[str, int], Path], key: str, block: int) -> tuple[dict[str, Tensor], Facts]:
    """Read a file of a block, and the facts about it.

    Args:
        path_of: says where such files are, see :class:`Results`.
        key: of the cell.
        block: its number.

    Raises:
        DamagedFileError: it is gone, is not as it was written, or is another block's.
    """
    return read_named(path_of(key, block), block_name(key, block))


def read_named(path: Path, name: str) -> tuple[dict[str, Tensor], Facts]:
    """Read a file that must call itself ``name``, and the facts about it.

    Raises:
        DamagedFileError: it is gone, is not as it was written, or is another's.
    """
    tensors, facts = read_with_facts(path)
    if facts.get("block") != name:
        raise DamagedFileError(path, f"it is block {facts.get('block')}")
    return dict(_whole(name, value) for name, value in tensors.items()), facts


def write_sums(path: Path, sums: Mapping[str, Tensor], facts: Facts) -> None:
    """Write a block's sums and the facts about it; see :func:`read_block`."""
    write_tensors(path, dict(_folded(name, value) for name, value in sums.items()), facts)


def _folded(name: str, value: Tensor) -> tuple[str, Tensor]:
    if value.ndim == 2 and value.shape[0] == value.shape[1] and value.equal(value.mT):
        return name + TRIANGLE, value[_lower(len(value))]
    return name, value


def _whole(name: str, value: Tensor) -> tuple[str, Tensor]:
    if not name.endswith(TRIANGLE):
        return name, value
    size = (math.isqrt(8 * len(value) + 1) - 1) // 2
    matrix, lower = value.new_empty(size, size), _lower(size)
    matrix[lower] = value
    matrix.mT[lower] = value
    return name.removesuffix(TRIANGLE), matrix


def _lower(size: int) -> Tensor:
    return torch.ones(size, size, dtype=torch.bool).tril()


def take_away(damaged: DamagedFileError) -> None:
    """Remove a damaged file, and say so."""
    print(f"{damaged}; it is made again", file=sys.stderr)
    damaged.path.unlink(missing_ok=True)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write readable JSON.

    Raises:
        ValueError: a number is not finite.
    """
    write_atomically(path, json.dumps(content, indent=2, allow_nan=False).encode() + b"\n")


def read_json(path: Path) -> Any:
    """Read JSON.

    Raises:
        InputError: the file is missing, is not JSON, or has a number that is not finite.
    """
    try:
        return parse_json(content_of(path))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not a file that a sweep wrote: {error}") from error


@dataclass(frozen=True)
class Line:
    """A cell's place in a table.

    Attributes:
        id: the place.
        is_reference: whether the dataset's other cells are measured against it.
        scored: with which detector, against which real images, and how many samples (``n``), as far as it is known.
        row: its result, if there is one.
        gap: why there is none: missing, failed or excluded.
        reason: why it is excluded, or what it failed with.
    """

    id: CellId
    is_reference: bool
    scored: dict[str, Any]
    row: Row | None = None
    gap: str = ""
    reason: str = ""


def write_plan(suite: Suite, benches: Sequence[Bench], results: Results, version: str = "") -> None:
    """List the suite's cells, each with the key of its result, or the reason why it is excluded.

    Args:
        suite: as it is run.
        benches: its cells.
        results: where to.
        version: digest of the suite as it was written, if a screening has taken cells out.
    """
    keyed = [_listed(cell.planned, key=cell.key) for bench in benches for cell in bench.cells]
    excluded = [_listed(cell, excluded=cell.excluded) for cell in plan(suite) if cell.excluded is not None]
    write_json(results.plan, {"suite": suite.name, "digest": version or digest(suite), "cells": [*keyed, *excluded]})


def _listed(cell: Planned, **more: Any) -> dict[str, Any]:
    return {**cell.id._asdict(), "is_reference": cell.is_reference, **cell.scored, **more}


def lines_of(results: Results) -> list[Line]:
    """Read a folder, whatever is finished: its cells dataset by dataset in the plan's order.

    Raises:
        InputError: no sweep has begun there.
    """
    if not results.plan.is_file():
        raise InputError(f"{results.folder}: no sweep there; run `amed-lightning bench --config <suite>.yaml`")
    lines = [_line(cell, results) for cell in read_json(results.plan)["cells"]]
    datasets = list(dict.fromkeys(line.id.dataset for line in lines))
    return sorted(lines, key=lambda line: datasets.index(line.id.dataset))


def _line(cell: dict[str, Any], results: Results) -> Line:
    scored = {name: cell[name] for name in SCORED if name in cell}
    place = CellId.of(cell), cell["is_reference"]
    line = partial(Line, *place, scored)
    if "key" not in cell:
        return line(gap="excluded", reason=cell["excluded"])
    if (row := results.placed(cell["key"], *place)) is not None:
        return line(row)
    if errors := results.errors(cell["key"]):
        return line(gap="failed", reason=str(read_json(errors[0]).get("error", "")))
    return line(gap="missing")


def rows_of(folder: Path) -> list[Row]:
    """Return the finished rows of a folder.

    Raises:
        InputError: there are none.
    """
    rows = [line.row for line in lines_of(Results(folder)) if line.row is not None]
    if not rows:
        raise InputError(f"{folder}: no finished cells; run `amed-lightning bench --config <suite>.yaml`")
    return rows
