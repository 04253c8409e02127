"""A small suite on an exact model of 8x8 pixels, which the digits' detector can look at."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import yaml

from amed_lightning.bench.cell import Bench, prepare
from amed_lightning.bench.results import Results
from amed_lightning.bench.suite import load_suite
from amed_lightning.bench.sweep import run

from ..teacher.stores import Member, Team

CPU = torch.device("cpu")
MODEL = {"name": "anisotropic_gaussian", "height": 8, "width": 8}
LOGSNR = [{"name": "logsnr"}]
DATASET: dict[str, Any] = {
    "name": "grey",
    "model": MODEL,
    "detector": {"name": "digits"},
    "dataset": {"name": "digits"},
    "reference": {"solver": {"name": "heun"}, "schedules": [{"name": "polynomial"}], "nfe": [12]},
}
PLAIN: dict[str, Any] = {
    "name": "small",
    "datasets": [DATASET],
    "num_blocks": 2,
    "block_size": 24,
    "batch_size": 12,
    "entries": [{"solver": {"name": "euler"}, "schedules": LOGSNR, "nfe": [3, 4], "afs": [False, True]}],
}
CELLS = 5


@dataclass(frozen=True)
class Alone:
    """The only process of a sweep."""

    global_rank: int = 0
    world_size: int = 1

    def broadcast(self, obj: Any, src: int = 0) -> Any:
        return obj


def entry(solver: dict[str, Any], nfe: int | list[int] = 4, **more: Any) -> dict[str, Any]:
    return {"solver": solver, "schedules": LOGSNR, "nfe": [nfe] if isinstance(nfe, int) else nfe} | more


def write_suite(folder: Path, **changes: Any) -> Path:
    """Write the small suite; a change goes to its dataset where that has the key."""
    own = {key: changes.pop(key) for key in [*changes] if key in DATASET and key != "name"}
    path = folder / "suite.yaml"
    path.write_text(yaml.safe_dump(PLAIN | {"datasets": [DATASET | own]} | changes))
    return path


def bench_of(folder: Path, *entries: dict[str, Any], **changes: Any) -> Bench:
    """Prepare the small suite, with other entries if any are given."""
    (bench,) = prepare(load_suite(write_suite(folder, **(changes | ({"entries": list(entries)} if entries else {})))))
    return bench


def fill(bench: Bench, folder: Path, processes: int = 1, results: Results | None = None) -> list[str]:
    """Run the suite and return the labels of the cells that failed."""
    failed: list[str] = []

    def work(member: Member) -> None:
        cells = run([bench], results or Results(folder), member, CPU)
        if member.global_rank == 0:
            failed.extend(cell.planned.label for cell in cells)

    Team(processes).run(work)
    return failed


@contextmanager
def untidy() -> Iterator[None]:
    """Let the sums stay in this block, as where a sweep is killed between a cell's row and their removal."""
    with mock.patch.object(Results, "tidy"):
        yield


def rows(folder: Path) -> dict[str, dict[str, Any]]:
    """Return every row of a folder by its key."""
    paths = (path for path in folder.glob("rows/*.json") if ".error" not in path.name)
    return {path.stem: json.loads(path.read_text()) for path in paths}


def values(folder: Path) -> dict[str, dict[str, float]]:
    """Return every row's scores by its key."""
    return {key: row["values"] for key, row in rows(folder).items()}
