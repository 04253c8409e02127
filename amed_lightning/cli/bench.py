"""``bench``: run a suite, render what it has left (``table``, ``plot``), or ``compare`` two sweeps."""

import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from jsonargparse import Namespace
from rich.console import Console
from rich.table import Table

from amed_lightning.bench.cell import prepare
from amed_lightning.bench.compare import compare
from amed_lightning.bench.forecast import cells_to_come, estimates, totals
from amed_lightning.bench.plot import plot, write_grids
from amed_lightning.bench.published import FIGURES, NOTHING, Published, read_published
from amed_lightning.bench.render import comma_separated, latex, markdown, terminal
from amed_lightning.bench.results import Results, lines_of, read_json, rows_of, write_plan
from amed_lightning.bench.suite import Suite, load_suite
from amed_lightning.bench.sweep import run as fill
from amed_lightning.bench.table import tables
from amed_lightning.cli import nightly
from amed_lightning.cli.parsing import PLAIN_WIDTH, Parser, parser_for
from amed_lightning.config import digest, write_atomically
from amed_lightning.runtime.places import require_place
from amed_lightning.runtime.processes import launch, ready
from amed_lightning.runtime.provenance import provenance, write_run_record


def run(verb: str, arguments: Sequence[str]) -> int:
    """Do what the first argument says; without one, run."""
    action, *rest = arguments if arguments and arguments[0] in ACTIONS else ("run", *arguments)
    return ACTIONS[action](f"{verb} {action}", rest)


def _run(verb: str, arguments: Sequence[str]) -> int:
    parser = _parser(verb, f"Sweep a suite, then tabulate and plot. Other actions: {', '.join(ACTIONS)}.")
    parser.add_argument("--devices", type=int, default=1, help="processes per node, one device or CPU thread each")
    parser.add_argument("--num_nodes", type=int, default=1, help="nodes")
    parser.add_argument("--images", action="store_true", help="also write every image as a PNG file")
    parser.add_argument("--dry-run", action="store_true", help="print what would be computed, and how long it takes")
    parser.add_argument("--seconds_per_run", type=float | None, default=None, help="of a micro-batch, for --dry-run")
    options = parser.parse_args(list(arguments))
    suite = load_suite(options.config)
    if options.dry_run:
        return _dry_run(suite, options)
    require_place(options.output / suite.name, is_folder=True)
    published = _published(options.published)
    fabric = ready(options.accelerator, options.devices, options.num_nodes)
    benches, results = prepare(suite), Results(options.output / suite.name, options.images)
    fabric.launch()
    if fabric.is_global_zero:
        write_plan(suite, benches, results)
        for bench in benches:
            for note in [*bench.examiner.reference.notes, *bench.caveats(suite.num_blocks * suite.block_size)]:
                print(f"note: {bench.name}: {note}", file=sys.stderr)
    cells = [cell for bench in benches for cell in bench.cells]
    while True:
        failed = fill(benches, results, fabric, fabric.device)
        if fabric.is_global_zero:
            digests = {f"{bench.name} model": bench.model.digest for bench in benches}
            digests |= {f"{bench.name} examiner": bench.examiner.digest for bench in benches}
            write_run_record(results.folder, suite, digests, provenance(fabric.device, fabric.world_size))
            for cell in failed:
                what = f"{cell.planned.dataset}, {cell.planned.label} at {cell.nfe} NFE"
                print(f"failed: {what}, see {results.error(cell.key)}", file=sys.stderr)
            if len(failed) < len(cells):
                _tabulate(results, published)
                _draw(results)
        if fabric.broadcast(all(map(results.is_settled, cells))):  # who drew may have found damage
            return 1 if failed else 0


def _table(verb: str, arguments: Sequence[str]) -> int:
    options = _parser(verb, "Tabulate what a sweep has finished.").parse_args(list(arguments))
    _tabulate(_results(options), _published(options.published))
    return 0


def _plot(verb: str, arguments: Sequence[str]) -> int:
    options = _parser(verb, "Draw FID and IS against NFE, and sample grids.").parse_args(list(arguments))
    _draw(_results(options))
    return 0


def _compare(verb: str, arguments: Sequence[str]) -> int:
    parser = Parser(prog=f"amed-lightning {verb}", description="Compare two sweeps, cell by cell.")
    parser.add_argument("before", type=Path, help="folder of the sweep A")
    parser.add_argument("after", type=Path, help="folder of the sweep B")
    parser.add_argument("--output", type=Path | None, default=None, help="also write the tables to this Markdown file")
    options = parser.parse_args(list(arguments))
    if options.output:
        require_place(options.output)
    changes = compare(rows_of(options.before), rows_of(options.after))
    for table in changes:
        _print(terminal(table))
    if options.output:
        write_atomically(options.output, markdown(changes).encode())
    return 0


ACTIONS: dict[str, Callable[[str, Sequence[str]], int]] = {
    "run": _run,
    "table": _table,
    "plot": _plot,
    "compare": _compare,
    "nightly": nightly.run,
}


def _parser(verb: str, description: str) -> Parser:
    """Return the parser of what has a suite."""
    parser = parser_for(verb, description)
    parser.add_argument("--config", type=Path, required=True, help="the suite's YAML file")
    parser.add_argument("--output", type=Path, default=Path("runs/bench"), help="folder of all suites' results")
    parser.add_argument("--published", type=Path, default=Path("benchmarks"), help=f"folder of {FIGURES} and its keys")
    return parser


def _results(options: Namespace) -> Results:
    """Find a suite's results, and say if they are those of another version of it."""
    suite = load_suite(options.config)
    results = Results(options.output / suite.name)
    require_place(results.folder, is_folder=True)
    if results.plan.is_file() and read_json(results.plan)["digest"] != digest(suite):
        print(f"note: {options.config} has changed since {results.folder} was last run", file=sys.stderr)
    return results


def _published(folder: Path) -> Published:
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


def _tabulate(results: Results, published: Published) -> None:
    lines = lines_of(results)
    shown = tables(lines, published)
    texts = {"md": markdown(shown), "csv": comma_separated(lines, published), "tex": latex(shown)}
    for ending, text in texts.items():
        write_atomically(results.folder / f"table.{ending}", text.encode())
    for table in shown:
        _print(terminal(table))
    gaps = Counter(line.gap for line in lines if line.gap in ("missing", "failed"))
    if gaps:
        kinds = ", ".join(f"{count} {gap}" for gap, count in gaps.items())
        print(f"{gaps.total()} of {len(lines)} cells have no result yet: {kinds}")
    print(f"written: {', '.join(str(results.folder / f'table.{ending}') for ending in texts)}")


def _draw(results: Results) -> None:
    rows, path = rows_of(results.folder), results.folder / "fid.png"
    plot(rows, path)
    print(f"written: {', '.join(map(str, [path, *write_grids(rows, results)]))}")


def _print(table: Table) -> None:
    Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH).print(table)
