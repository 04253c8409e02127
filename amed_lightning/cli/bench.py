"""``bench``: run a suite, or render the rows it has left (``bench table``, ``bench plot``)."""

import sys
from collections.abc import Sequence
from pathlib import Path

from jsonargparse import Namespace
from rich.console import Console

from amed_lightning.bench.cell import Cell
from amed_lightning.bench.plot import plot
from amed_lightning.bench.prepare import Bench, prepare
from amed_lightning.bench.results import Results
from amed_lightning.bench.runner import run as fill
from amed_lightning.bench.suite import Suite, load_suite
from amed_lightning.bench.table import comma_separated, markdown, terminal
from amed_lightning.cli.parsing import parser_for
from amed_lightning.config import write_atomically
from amed_lightning.runtime.processes import launch
from amed_lightning.runtime.provenance import provenance, write_run_record

ACTIONS = ("run", "table", "plot")
PLAIN_WIDTH = 120


def run(verb: str, arguments: Sequence[str]) -> int:
    """Run, tabulate or plot."""
    action, *rest = arguments if arguments and arguments[0] in ACTIONS else ("run", *arguments)
    parser = parser_for(verb, f"Sweep a suite: {', '.join(ACTIONS)}; run, the default, does all three.")
    parser.add_argument("--config", type=Path, required=True, help="the suite's YAML file")
    parser.add_argument("--output", type=Path, default=Path("runs/bench"), help="folder of all suites' results")
    parser.add_argument("--devices", type=int, default=1, help="processes per node, one device or CPU thread each")
    parser.add_argument("--num_nodes", type=int, default=1, help="nodes")
    options = parser.parse_args(rest)
    suite = load_suite(options.config)
    benches, results = prepare(suite), Results(options.output / suite.name)
    cells = [cell for bench in benches for cell in bench.cells]
    if action == "table":
        _tabulate(suite, cells, results)
    elif action == "plot":
        _plot(cells, results)
    else:
        return _run(suite, benches, results, options)
    return 0


def _run(suite: Suite, benches: Sequence[Bench], results: Results, options: Namespace) -> int:
    fabric = launch(options.accelerator, options.devices, options.num_nodes)
    failed = [cell for bench in benches for cell in fill(bench, results, fabric, fabric.device)]
    if fabric.is_global_zero:
        cells = [cell for bench in benches for cell in bench.cells]
        digests = {f"{bench.name} model": bench.model.digest for bench in benches}
        digests |= {f"{bench.name} examiner": bench.examiner.digest for bench in benches}
        write_run_record(results.folder, suite, digests, provenance(fabric.device, fabric.world_size))
        for cell in failed:
            what = f"{cell.planned.dataset}, {cell.planned.label} at {cell.nfe} NFE"
            print(f"failed: {what}, see {results.error(cell)}", file=sys.stderr)
        if len(failed) < len(cells):
            _tabulate(suite, cells, results)
            _plot(cells, results)
    return 1 if failed else 0


def _tabulate(suite: Suite, cells: Sequence[Cell], results: Results) -> None:
    rows = results.rows(cells)
    markdown_path, csv_path = results.folder / "table.md", results.folder / "table.csv"
    write_atomically(markdown_path, markdown(rows).encode())
    write_atomically(csv_path, comma_separated(rows).encode())
    Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH).print(terminal(rows, suite.name))
    if missing := len(cells) - len(rows):
        print(f"missing: {missing} of {len(cells)} cells have no result yet")
    print(f"written: {markdown_path}, {csv_path}")


def _plot(cells: Sequence[Cell], results: Results) -> None:
    path = results.folder / "fid.png"
    plot(results.rows(cells), path)
    print(f"written: {path}")
