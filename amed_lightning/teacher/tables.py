"""Tables on disk: what a student needs of many trajectories to be distilled without the network.

A table is a ``.safetensors`` with the inner products and features of every interval, and beside it a ``.json`` with its
recipe, which names it. It is computed in blocks of seeds, dealt out to the processes; a block is one batch of the
network and a file of its own until all are there and are joined. Neither the blocks nor the joined bytes depend on the
number of processes; a killed run goes on with the blocks that it left.
"""

import json
import os
import shutil
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from amed_lightning.config import InputError, Spec, content_of, digest, file_digest, write_atomically
from amed_lightning.runtime.json_text import parse_json
from amed_lightning.runtime.micro_batches import unhalved
from amed_lightning.runtime.processes import Processes
from amed_lightning.runtime.tensor_file import DamagedFileError, Facts, read_with_facts, write_tensors
from amed_lightning.runtime.work import shared
from amed_lightning.sampling.finite import NotFiniteError, first_broken
from amed_lightning.seeds import Seeds
from amed_lightning.teacher.nodes import Nodes
from amed_lightning.teacher.step_table import StepTable, joined
from amed_lightning.teacher.tabulate import Agreement

TENSORS = ("gram", "features", "past")


@dataclass(frozen=True)
class TableRecipe:
    """Everything that determines a table. Its digest names the file.

    Attributes:
        trajectories: digest of the teacher's recipe.
        sigmas: the student's levels.
        afs: whether the student's first evaluation is analytic.
        stream: of the seeds, by name.
        start: first seed.
        stop: the seed after the last.
        batch_size: trajectories per network run, and per block.
        nodes: the grid to begin with.
        agreement: when there are enough nodes.
        solver: of the student, where a table serves that one alone.
        interval: the one that is tabulated, where it is one alone.
        advanced_by: digests of the placers that brought a multistep student to that interval.
    """

    trajectories: str
    sigmas: tuple[float, ...]
    afs: bool
    stream: str
    start: int
    stop: int
    batch_size: int
    nodes: Nodes
    agreement: Agreement = field(default_factory=Agreement)
    solver: Spec | None = None
    interval: int | None = None
    advanced_by: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """The SHA-256 of the recipe."""
        return digest(asdict(self))


class TableFile:
    """A table below ``root``.

    Args:
        root: folder of all tables.
        recipe: what it is made by.
    """

    def __init__(self, root: Path, recipe: TableRecipe) -> None:
        self.recipe = recipe
        self.path = root / f"{recipe.digest[:16]}.json"
        self.blocks = root / f".{recipe.digest[:16]}.blocks"

    def complete(self, seeds: Seeds, compute: Callable[[Seeds], list[StepTable]], processes: Processes) -> None:
        """Compute the blocks that are missing and join them; return when the table is there.

        Args:
            seeds: of the table.
            compute: tabulates the intervals of a block, the same ones for each.
            processes: this process among those that share the work.

        Raises:
            NotFiniteError: a number of a block that was computed is not finite.
            InputError: memory has no room for a block.
        """
        blocks = {_name(block): block for block in seeds.blocks(self.recipe.batch_size)}
        if not self.path.is_file():
            write_atomically(self.blocks / "recipe.json", json.dumps(asdict(self.recipe), indent=2).encode() + b"\n")
        while not self.path.is_file():  # a block may turn out to be damaged
            with shared("table", blocks, self._is_done, self.blocks, processes) as mine:
                for name in mine:
                    self._compute(compute, blocks[name])
            with shared("table, joined", [self.path.stem], self._is_joined, self.blocks, processes, "tables") as mine:
                for _ in mine:
                    self._join(list(blocks.values()))
        shutil.rmtree(self.blocks, ignore_errors=True)  # another job may be at a last look

    def read(self) -> list[StepTable]:
        """Return the table's intervals.

        Raises:
            InputError: the files are missing or not as they were written, a number is not finite, or the nodes were too
                few.
        """
        tensors_path = self.path.with_suffix(".safetensors")
        cure = f"delete {self.path} and run `amed-lightning precompute` again"
        try:
            manifest = parse_json(content_of(self.path))
            written, there = (manifest["digest"], manifest["sha256"]), file_digest(tensors_path)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"{self.path}: not a table ({error!r}); {cure}") from error
        if written != (self.recipe.digest, there):
            raise InputError(f"{tensors_path}: not the table that {self.path.name} describes; {cure}")
        try:
            tables, _ = _read(tensors_path)
        except DamagedFileError as error:
            raise InputError(f"{error}; {cure}") from error
        for number, table in enumerate(tables, start=(self.recipe.interval or 0) + 1):
            if not table.disagreement <= self.recipe.agreement.bound:
                raise InputError(
                    f"{self.path}: the loss of interval {number} changes by {table.disagreement:.0%} where every "
                    f"second of {len(table.nodes)} nodes is left out; raise route.most_nodes or route.agreement, "
                    f"or take another route"
                )
        with suppress(OSError):
            os.utime(self.path)  # it was used
        return tables

    def _is_joined(self, _: str) -> bool:
        return self.path.is_file()

    def _is_done(self, name: str) -> bool:
        return self.path.is_file() or self._block(name).is_file()

    def _block(self, name: str) -> Path:
        return self.blocks / f"{name}.safetensors"

    def _told(self, block: Seeds) -> str:
        """Return what a block's file calls itself."""
        return f"{self.path.stem}/{_name(block)}"

    def _compute(self, compute: Callable[[Seeds], list[StepTable]], block: Seeds) -> None:
        size = self.recipe.batch_size
        tables = unhalved(lambda size: compute(next(block.blocks(size))), size, "route.batch_size")
        for number, table in enumerate(tables, start=(self.recipe.interval or 0) + 1):
            row = first_broken(*(getattr(table, name) for name in TENSORS))
            if row is not None:
                raise NotFiniteError("table", block, row, f"interval {number}")
        _write(self._block(_name(block)), tables, {"block": self._told(block)})

    def _join(self, blocks: list[Seeds]) -> None:
        """Join the blocks; one that is damaged, or another's, is removed, to be made again, and nothing is written."""
        parts = []
        for block in blocks:
            path = self._block(_name(block))
            try:
                tables, facts = _read(path)
                if facts.get("block") != self._told(block):
                    raise DamagedFileError(path, f"it is block {facts.get('block')}")
            except DamagedFileError as damaged:
                print(f"{damaged}; it is made again", file=sys.stderr)
                path.unlink(missing_ok=True)
                return
            parts.append(tables)
        tables = [joined(list(of_interval)) for of_interval in zip(*parts, strict=True)]
        tensors_path = self.path.with_suffix(".safetensors")
        _write(tensors_path, tables)
        manifest = {
            "recipe": asdict(self.recipe),
            "digest": self.recipe.digest,
            "sha256": file_digest(tensors_path),
            "intervals": [_description(table) for table in tables],
        }
        write_atomically(self.path, json.dumps(manifest, indent=2).encode() + b"\n")


def _name(block: Seeds) -> str:
    return f"{block.start:09d}-{block.stop:09d}"


def _description(table: StepTable) -> dict[str, Any]:
    return {
        "sigmas": table.sigmas.tolist(),
        "nodes": asdict(table.nodes),
        "rows": len(table),
        "disagreement": table.disagreement,
    }


def _write(path: Path, tables: list[StepTable], facts: Facts | None = None) -> None:
    tensors = {f"{index}.{name}": getattr(table, name) for index, table in enumerate(tables) for name in TENSORS}
    write_tensors(path, tensors, {"intervals": [_description(table) for table in tables], **(facts or {})})


def _read(path: Path) -> tuple[list[StepTable], Facts]:
    tensors, facts = read_with_facts(path)
    try:
        return [_table(tensors, index, described) for index, described in enumerate(facts["intervals"])], facts
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise DamagedFileError(path, error) from error


def _table(tensors: Mapping[str, Tensor], index: int, described: Mapping[str, Any]) -> StepTable:
    nodes = Nodes(**{name: tuple(axis) for name, axis in described["nodes"].items()})
    own = {name: tensors[f"{index}.{name}"] for name in TENSORS}
    sigmas = torch.tensor(described["sigmas"], dtype=torch.float64)
    return StepTable(sigmas, nodes, disagreement=described["disagreement"], **own)
