"""``bench``: run a suite, render what it has left (``table``, ``plot``, ``report``), ``compare`` two sweeps.

``recipes`` prints what `fit` is to be told for each that a suite takes.
"""

import shutil
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse import Namespace
from rich.console import Console
from rich.table import Table

from amed_lightning.bench.cell import Loader, prepare
from amed_lightning.bench.compare import compare
from amed_lightning.bench.forecast import cells_to_come, estimates, totals
from amed_lightning.bench.needed import fits_of
from amed_lightning.bench.plan import plan
from amed_lightning.bench.plot import FORMATS, plot, write_grids
from amed_lightning.bench.published import FIGURES, NOTHING, Published, read_published
from amed_lightning.bench.render import comma_separated, latex, markdown, terminal
from amed_lightning.bench.report import page
from amed_lightning.bench.results import Results, lines_of, read_json, rows_of, write_plan
from amed_lightning.bench.row import Row
from amed_lightning.bench.screen import Beaten, beaten, screening, without
from amed_lightning.bench.suite import Suite, load_suite
from amed_lightning.bench.sweep import run as fill
from amed_lightning.bench.table import tables
from amed_lightning.cli import nightly
from amed_lightning.cli.parsing import PLAIN_WIDTH
from amed_lightning.config import InputError, digest, write_atomically
from amed_lightning.runtime.memory import uncollected
from amed_lightning.runtime.places import require_place
from amed_lightning.runtime.processes import launch, ready
from amed_lightning.runtime.provenance import provenance, write_run_record
from amed_lightning.runtime.shipped import shipped

if TYPE_CHECKING:
    from lightning.fabric import Fabric

_FITTED = 80
"""Columns of a sweep's table where there is no terminal; more only for what names a cell and its first score."""


def run(options: Namespace) -> int:
    """Do what the action says."""
    return ACTIONS[options.action](options)


def _run(options: Namespace) -> int:
    suite = load_suite(options.config)
    if options.dry_run:
        return _dry_run(suite, options)
    require_place(options.output / suite.name, is_folder=True)
    published = _published(options.published)
    fabric = ready(options.accelerator, options.devices, options.num_nodes)
    version, results = digest(suite), Results(options.output / suite.name, options.images)
    loader = Loader.sharing(results.folder, fabric, fabric.device)
    benches = prepare(suite, loader, fabric.launch)
    if options.screen:
        losers = _screened(suite, options.output, fabric, loader)
        suite, benches = without(suite, losers), [bench.without({loser.cell for loser in losers}) for bench in benches]
    if fabric.is_global_zero:
        write_plan(suite, benches, results, version)
        for bench in benches:
            for note in [*bench.notes, *bench.caveats]:
                print(f"note: {bench.name}: {note}", file=sys.stderr)
    cells = [cell for bench in benches for cell in bench.cells]
    while True:
        failed = fill(benches, results, fabric, fabric.device)
        if fabric.is_global_zero:
            digests = {f"{bench.name} {part}": text for bench in benches for part, text in bench.digests.items()}
            write_run_record(results.folder, suite, digests, provenance(fabric.device, fabric.world_size))
            for cell in failed:
                what = f"{cell.planned.dataset}, {cell.planned.label} at {cell.nfe} NFE"
                print(f"failed: {what}, see {results.error(cell.key)}", file=sys.stderr)
            if len(failed) < len(cells):
                _tabulate(results, published)
                _draw(results)
        if fabric.broadcast(all(map(results.is_settled, cells))):  # who drew may have found damage
            return 1 if failed else 0


def _screened(suite: Suite, folder: Path, fabric: "Fabric", loader: Loader) -> list[Beaten]:
    """Rank a suite's cells on few images, and return those that are beaten; what fails is not."""
    small = screening(suite, fabric.device)
    benches, results = prepare(small, loader), Results(folder / small.name)
    if fabric.is_global_zero:
        write_plan(small, benches, results)
    fill(benches, results, fabric, fabric.device)
    fabric.broadcast(None)  # all rows are there
    rows = rows_of(results.folder)
    losers = beaten(rows)
    if fabric.is_global_zero:
        for loser in losers:
            print(f"beaten: {loser.cell}: FID worse by {loser.difference:.2f} than that of {loser.by}")
        size = small.num_blocks * small.block_size
        print(f"screened: {len(losers)} of {len(rows)} cells are left out, on {size:,} images each")
    return losers


def _table(options: Namespace) -> int:
    _tabulate(_results(options), _published(options.published))
    return 0


def _plot(options: Namespace) -> int:
    if options.picture is not None:
        if options.picture.suffix not in FORMATS:
            raise InputError(f"{options.picture}: a picture's name ends with {', '.join(FORMATS)}")
        require_place(options.picture)
    _draw(_results(options), options.picture, options.on_schedule)
    return 0


def _report(options: Namespace) -> int:
    if options.page is not None:
        require_place(options.page)
    results = _results(options)
    path = options.page or results.folder / "report.html"
    _require_schedule(rows_of(results.folder), options.on_schedule)
    write_atomically(path, page(results, _published(options.published), options.on_schedule).encode())
    print(f"written: {path}")
    return 0


def _recipes(options: Namespace) -> int:
    print("\n".join(fits_of(plan(load_suite(options.config)))))
    return 0


def _compare(options: Namespace) -> int:
    if options.output:
        require_place(options.output)
    changes = compare(rows_of(options.before), rows_of(options.after))
    for table in changes:
        _print(terminal(table))
    if options.output:
        write_atomically(options.output, markdown(changes).encode())
    return 0


ACTIONS: dict[str, Callable[[Namespace], int]] = {
    "run": _run,
    "table": _table,
    "plot": _plot,
    "report": _report,
    "recipes": _recipes,
    "compare": _compare,
    "nightly": nightly.run,
}


def _results(options: Namespace) -> Results:
    """Find a suite's results, and say if they are those of another version of it."""
    suite = load_suite(options.config)
    results = Results(options.output / suite.name)
    require_place(results.folder, is_folder=True)
    if results.plan.is_file() and read_json(results.plan)["digest"] != digest(suite):
        print(f"note: {options.config} has changed since {results.folder} was last run", file=sys.stderr)
    return results


def _published(folder: Path | None) -> Published:
    folder = folder or shipped("benchmarks")
    if not (folder / FIGURES).is_file():
        print(f"note: no {FIGURES} in {folder}; tables have no published figures", file=sys.stderr)
        return NOTHING
    return read_published(folder)


def _dry_run(suite: Suite, options: Namespace) -> int:
    device = launch(options.accelerator).device
    expected = estimates(suite, device, options.seconds_per_run)
    _print(cells_to_come(expected))
    _print(totals(expected, options.devices * options.num_nodes))
    for estimate in expected:
        if estimate.unknown:
            print(f"{estimate.dataset}: {estimate.unknown}")
    return 0


@uncollected()
def _tabulate(results: Results, published: Published) -> None:
    lines = lines_of(results)
    shown = tables(lines, published)
    texts = {"md": markdown(shown), "csv": comma_separated(lines, published), "tex": latex(shown)}
    for ending, text in texts.items():
        write_atomically(results.folder / f"table.{ending}", text.encode())
    for table in shown:
        _print(terminal(table, shutil.get_terminal_size((_FITTED, 0)).columns))
    gaps = Counter(line.gap for line in lines if line.gap in ("missing", "failed"))
    if gaps:
        kinds = ", ".join(f"{count} {gap}" for gap, count in gaps.items())
        print(f"{gaps.total()} of {len(lines)} cells have no result yet: {kinds}")
    print(f"written: {', '.join(str(results.folder / f'table.{ending}') for ending in texts)}")


def _draw(results: Results, picture: Path | None = None, schedule: str | None = None) -> None:
    rows, path = rows_of(results.folder), picture or results.folder / "fid.png"
    _require_schedule(rows, schedule)
    plot(rows, path, schedule)
    print(f"written: {', '.join(map(str, [path, *write_grids(rows, results, schedule)]))}")


def _require_schedule(rows: Sequence[Row], schedule: str | None) -> None:
    if schedule is not None and schedule not in (names := sorted({row.id.schedule for row in rows})):
        raise InputError(f"no cell ran on the schedule '{schedule}'; there are {', '.join(names)}")


def _print(table: Table) -> None:
    Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH).print(table)
