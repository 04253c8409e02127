"""What a results folder says: a line for every cell of the suite, computed or not. Tables and plots start here.

The folder's plan lists the cells, so that none needs to be loaded again to know what is missing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amed_lightning.bench.plan import plan
from amed_lightning.bench.prepare import Bench
from amed_lightning.bench.results import Results, Row, read_json, write_json
from amed_lightning.bench.suite import Suite
from amed_lightning.config import InputError, digest


@dataclass(frozen=True)
class Line:
    """A cell's place in a table.

    Attributes:
        square: dataset, label, schedule, afs, nfe, whether it is the reference, and how it is scored.
        row: its result, if there is one.
        gap: why there is none: missing, failed or excluded.
        reason: why it is excluded, or what it failed with.
    """

    square: dict[str, Any]
    row: Row | None = None
    gap: str = ""
    reason: str = ""

    @property
    def dataset(self) -> str:
        """The dataset's name."""
        return str(self.square["dataset"])

    @property
    def nfe(self) -> int:
        """Network runs per sample."""
        return int(self.square["nfe"])


def write_plan(suite: Suite, benches: Sequence[Bench], results: Results) -> None:
    """List the suite's cells, each with the key of its result, or the reason why it is excluded."""
    keyed = [{**cell.planned.square, "key": cell.key} for bench in benches for cell in bench.cells]
    excluded = [{**cell.square, "excluded": cell.excluded} for cell in plan(suite) if cell.excluded is not None]
    write_json(results.plan, {"suite": suite.name, "digest": digest(suite), "cells": [*keyed, *excluded]})


def lines_of(results: Results) -> list[Line]:
    """Read a folder, whatever is finished: its cells dataset by dataset in the plan's order.

    Raises:
        InputError: no sweep has begun there.
    """
    if not results.plan.is_file():
        raise InputError(f"{results.folder}: no sweep there; run `amed-lightning bench --config <suite>.yaml`")
    lines = [_line(dict(cell), results) for cell in read_json(results.plan)["cells"]]
    datasets = list(dict.fromkeys(line.dataset for line in lines))
    return sorted(lines, key=lambda line: datasets.index(line.dataset))


def _line(square: dict[str, Any], results: Results) -> Line:
    key, reason = square.pop("key", None), square.pop("excluded", "")
    if key is None:
        return Line(square, gap="excluded", reason=reason)
    if (row := results.finished(key)) is not None:
        return Line(square, row)
    if errors := results.errors(key):
        return Line(square, gap="failed", reason=str(read_json(errors[0]).get("error", "")))
    return Line(square, gap="missing")


def rows_of(folder: Path) -> list[Row]:
    """Return the finished rows of a folder.

    Raises:
        InputError: there are none.
    """
    rows = [line.row for line in lines_of(Results(folder)) if line.row is not None]
    if not rows:
        raise InputError(f"{folder}: no finished cells; run `amed-lightning bench --config <suite>.yaml`")
    return rows
