"""What a sweep costs beside the network and the detector: planning, tables, time and disk.

``plan``      1,000 cells of a suite, from its YAML's content to what each is called
``render``    10,000 rows, from their files to Markdown, LaTeX, CSV and the terminal
``overhead``  the digits at batch 256: processor time of a sweep that is neither the network's nor the detector's; on a
              device time of the clock, with the device waited for before and after each of their calls
``disk``      bytes in a sweep's folder at its fullest and at its end, with a detector of 2,048 features

    python benchmarks/sweep.py plan render overhead disk

A device is ``overhead``'s; the others are the host's matter.
"""

import argparse
import io
import json
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from meters import now
from rich.console import Console
from torch import nn

from amed_lightning.bench.cell import Bench, prepare
from amed_lightning.bench.plan import plan
from amed_lightning.bench.render import comma_separated, latex, markdown, terminal
from amed_lightning.bench.results import Results, lines_of, write_json, write_plan
from amed_lightning.bench.suite import Dataset, Entry, Suite
from amed_lightning.bench.sweep import run
from amed_lightning.bench.table import tables
from amed_lightning.config import digest
from amed_lightning.metrics.detector import Detection
from amed_lightning.runtime.memory import uncollected
from amed_lightning.runtime.processes import compute_alike

CPU = torch.device("cpu")
DIGITS: dict[str, Any] = {"name": "digits"}
SCHEDULES: list[dict[str, Any]] = [{"name": name} for name in ("logsnr", "time_uniform", "discrete")]
SCHEDULES += [{"name": "polynomial", "rho": float(rho)} for rho in range(1, 8)]
SOLVERS: list[dict[str, Any]] = [{"name": name} for name in ("euler", "heun", "dpm_solver_2", "ipndm", "ipndm_v")]
SOLVERS += [{"name": "ipndm", "order": 3}, {"name": "deis", "order": 3}, {"name": "dpm_solver_pp", "order": 3}]
SOLVERS += [{"name": "unipc", "order": 3}, {"name": "amed", "learned": "runs/{dataset}/amed-{nfe}/predictor.json"}]
FEATURES = 2048
MIB = 2**20


@dataclass(frozen=True)
class Alone:
    """The only process of a sweep."""

    global_rank: int = 0
    world_size: int = 1

    def broadcast(self, obj: Any, src: int = 0) -> Any:
        """Return the object."""
        return obj


class Wide(nn.Module):
    """A detector of 2,048 features, which are those of a random projection."""

    feature_size, num_classes, image_shape = FEATURES, 10, None

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.features, self.head = nn.LazyLinear(FEATURES), nn.Linear(FEATURES, 10)
        self.features(torch.zeros(1, 64))
        self.requires_grad_(False)

    def forward(self, images: torch.Tensor) -> Detection:
        """Look at bytes."""
        features = self.features(images.flatten(1).float() / 255).relu()
        return Detection(features, self.head(features))


def wide() -> tuple[Wide, str]:
    """Return the detector, as a configuration names it by its import path, and its digest."""
    return Wide().eval(), "wide"


def planned() -> dict[str, float]:
    """Plan 1,000 cells."""
    datasets = [Dataset(name, DIGITS, DIGITS, DIGITS) for name in ("one", "two")]
    suite = Suite("many", datasets, [Entry(solver, SCHEDULES, list(range(4, 14, 2))) for solver in SOLVERS])
    started = time.process_time()
    names = [str(cell.id) for cell in plan(suite)]
    return {"cells": len(names), "seconds": time.process_time() - started}


def small(**changes: Any) -> Suite:
    """Return a suite of the digits' solvers that nothing has to be learned for."""
    reference = Entry({"name": "heun"}, [{"name": "polynomial"}], [18])
    dataset = Dataset("digits", DIGITS, DIGITS, DIGITS, reference)
    entries = [Entry(solver, [{"name": "time_uniform"}], [5, 7]) for solver in (SOLVERS[0], *SOLVERS[5:8])]
    return replace(Suite("sweep", [dataset], entries, num_blocks=4, block_size=256, batch_size=256), **changes)


def filled(suite: Suite, folder: Path) -> tuple[Bench, Results]:
    """Sweep a suite in this process."""
    (bench,), results = prepare(suite), Results(folder)
    write_plan(suite, [bench], results)
    with redirect_stderr(io.StringIO()):
        if failed := run([bench], results, Alone(), CPU):
            raise RuntimeError(f"{len(failed)} cells failed")
    return bench, results


def rendered(count: int = 10_000) -> dict[str, float]:
    """Render as many rows as one real one makes in other places."""
    with tempfile.TemporaryDirectory() as name:
        bench, results = filled(small(num_blocks=2, block_size=64, batch_size=64), Path(name))
        row, cells = json.loads(results.row(bench.cells[1].key).read_text()), []
        row.pop("sha256")
        for number in range(count):
            place = {"key": f"{number:016x}", "nfe": 3 + number % 20, "label": f"{row['label']} {number // 20}"}
            copy = row | place
            write = results.row(copy["key"])
            write.write_text(json.dumps(copy | {"sha256": digest(copy)}))
            square = ("dataset", "schedule", "afs", "is_reference", "detector", "real_images", "n")
            cells.append({name: copy[name] for name in square} | place)
        write_json(results.plan, {"suite": "sweep", "digest": "", "cells": cells})
        with uncollected():  # as the command does
            seconds, lines = timed(lambda: lines_of(results))
            table_seconds, shown = timed(lambda: tables(lines))
            writers: list[Callable[[], object]] = [
                *(lambda: markdown(shown), lambda: latex(shown), lambda: comma_separated(lines)),
                lambda: Console(file=io.StringIO(), width=160).print(terminal(shown[0])),
            ]
            times = [timed(writer)[0] for writer in writers]
    names = ("read", "table", "markdown", "latex", "csv", "terminal")
    parts = dict(zip(names, (seconds, table_seconds, *times), strict=True))
    return {"rows": count} | parts | {"seconds": sum(parts.values())}


def timed(work: Callable[[], Any], device: torch.device = CPU) -> tuple[float, Any]:
    """Return the seconds of some work, and what it returns."""
    started = now(device)
    result = work()
    return now(device) - started, result


def overhead(device: torch.device = CPU) -> dict[str, float]:
    """Sweep the digits; network and detector keep their own time."""
    (bench,), within = prepare(small()), [0.0]

    def clocked(module: nn.Module) -> None:
        real = module.forward

        def forward(*arguments: Any, **options: Any) -> Any:
            started = now(device)
            try:
                return real(*arguments, **options)
            finally:
                within[0] += now(device) - started

        module.forward = forward  # type: ignore[method-assign]

    for answers in (bench.model.denoiser, bench.evaluator.detector):
        clocked(next(part for part in (answers, *vars(answers).values()) if isinstance(part, nn.Module)))
    with tempfile.TemporaryDirectory() as name, redirect_stderr(io.StringIO()):
        seconds, _ = timed(lambda: run([bench], Results(Path(name)), Alone(), device), device)
    return {"seconds": seconds, "network and detector": within[0], "overhead": seconds / within[0] - 1}


@contextmanager
def watched(folder: Path) -> Iterator[list[int]]:
    """Keep the largest number of bytes in a folder."""
    most, ended = [0], threading.Event()

    def watch() -> None:
        while not ended.wait(0.02):
            most[0] = max(most[0], size_of(folder))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield most
    finally:
        ended.set()
        thread.join()


def size_of(folder: Path) -> int:
    """Return the bytes of all files below a folder."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except FileNotFoundError:
            continue
    return total


def disk() -> dict[str, float]:
    """Sweep with a detector of 2,048 features."""
    suite = small(num_blocks=5, num_ranges=1, block_size=16, batch_size=16)
    detector = {"name": f"{__name__}.wide"}
    model = {"name": "anisotropic_gaussian", "height": 8, "width": 8}
    datasets = [replace(suite.datasets[0], detector=detector, model=model)]
    with tempfile.TemporaryDirectory() as name, watched(Path(name)) as most:
        bench, _ = filled(replace(suite, datasets=datasets), Path(name))
        end = size_of(Path(name))
    return {"cells": len(bench.cells), "MiB at most": most[0] / MIB, "MiB at the end": end / MIB}


PARTS = {"plan": planned, "render": rendered, "overhead": overhead, "disk": disk}


def main() -> None:
    """Print what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="all, if none is named")
    parser.add_argument("--device", type=torch.device, default=CPU, help="where to sweep")
    arguments = parser.parse_args()
    compute_alike()
    parts = PARTS | {"overhead": partial(overhead, arguments.device)}
    for name in arguments.parts or parts:
        figures = ", ".join(f"{key} {value:,.4g}" for key, value in parts[name]().items())
        print(f"{name}: {figures}", flush=True)


if __name__ == "__main__":
    main()
