"""Fill a suite's cells, with any number of processes and jobs, from wherever an earlier run stopped.

The unit of work is a block of a cell, whose sums are a file of their own. A dataset's reference comes first, with its
images, because the others are compared with them. A cell that fails leaves an error and no row; the others go on, and
the next run tries it again. Whoever computes a cell's last block writes its row, so that a table shows what there is at
any time. No collective touches a score, and none runs while there is work.
"""

import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch

from amed_lightning.bench.block import compute_block
from amed_lightning.bench.cell import Cell
from amed_lightning.bench.prepare import Bench
from amed_lightning.bench.results import Results, write_json
from amed_lightning.bench.row import finished_row
from amed_lightning.runtime.processes import Processes
from amed_lightning.runtime.provenance import provenance
from amed_lightning.runtime.tensor_file import DamagedFileError
from amed_lightning.runtime.trouble import told
from amed_lightning.runtime.work import share

OF_A_BLOCK = ("commit", "dirty", "source", "device")
"""What may differ between the blocks of a cell, because a sweep went on later or elsewhere."""


def run(benches: Sequence[Bench], results: Results, processes: Processes, device: torch.device) -> list[Cell]:
    """Compute every cell that has no row yet.

    Args:
        benches: what to compute, by dataset.
        results: where to.
        processes: this process among those of its job.
        device: where to compute.

    Returns:
        The cells that failed.
    """
    cells = [cell for bench in benches for cell in bench.cells]
    if processes.global_rank == 0:
        for cell in cells:
            results.error(cell.key).unlink(missing_ok=True)
    processes.broadcast(None)  # nobody takes an error of before for one of now
    for bench in benches:
        _run(bench, results, processes, device)
    return [cell for cell in cells if results.error(cell.key).is_file()]


def _run(bench: Bench, results: Results, processes: Processes, device: torch.device) -> None:
    """Compute one dataset's cells; the weights are on the device meanwhile."""
    unfinished = [cell for cell in bench.cells if not _is_finished(cell, results)]
    if unfinished:
        bench.to(device)
        for is_reference in (True, False):
            cells = [cell for cell in bench.cells if cell.planned.is_reference == is_reference]
            _fill(bench, [cell for cell in cells if is_reference or cell in unfinished], results, processes, device)
        bench.to(torch.device("cpu"))


def _is_finished(cell: Cell, results: Results) -> bool:
    blocks = range(cell.protocol.num_blocks) if results.keeps_images else ()
    return results.finished(cell.key) is not None and all(results.is_done(cell, block) for block in blocks)


def _fill(bench: Bench, cells: Sequence[Cell], results: Results, processes: Processes, device: torch.device) -> None:
    """Compute the missing blocks of cells, and the rows that they complete."""
    source = provenance(device, processes.world_size)
    pieces = {f"{cell.key}-{block}": (cell, block) for cell in cells for block in range(cell.protocol.num_blocks)}
    blocks = {name: partial(_attempt, bench, *piece, results, device, source) for name, piece in pieces.items()}
    rows = {cell.key: partial(_complete, bench, cell, results, source) for cell in cells}
    folder = results.folder / "blocks"

    def has_failed(cell: Cell) -> bool:
        return results.error(cell.key).is_file()

    while True:
        share(
            f"bench {bench.name}",
            blocks,
            lambda name: results.is_done(*pieces[name]) or has_failed(pieces[name][0]),
            folder,
            processes,
        )
        share(f"rows of {bench.name}", rows, results.is_scored, folder, processes, "rows")
        if all(map(results.is_scored, rows)):  # a block may have turned out to be damaged
            return


def _attempt(
    bench: Bench, cell: Cell, block: int, results: Results, device: torch.device, source: dict[str, Any]
) -> None:
    """Compute a block, unless its cell has failed already, and the row, if it was the cell's last block.

    Images of the reference that are damaged are made again.
    """
    if results.error(cell.key).is_file():
        return
    where = block, results, device, {name: source[name] for name in OF_A_BLOCK}
    with _errors_of(cell, results):
        try:
            compute_block(bench, cell, *where)
        except DamagedFileError as damaged:
            assert bench.reference is not None
            if results.error(bench.reference.key).is_file():
                raise
            _take_away(damaged)
            compute_block(bench, bench.reference, *where)
            compute_block(bench, cell, *where)
    blocks = reversed(range(cell.protocol.num_blocks))
    if not results.is_scored(cell.key) and all(results.is_done(cell, other) for other in blocks):
        _complete(bench, cell, results, source)


def _complete(bench: Bench, cell: Cell, results: Results, source: dict[str, Any]) -> None:
    """Write a cell's row; a damaged block is removed instead, to be made again."""
    with _errors_of(cell, results):
        try:
            row = finished_row(bench, cell, results, source)
        except DamagedFileError as damaged:
            _take_away(damaged)
            return
        results.write_row(row)
        for error in results.errors(cell.key):
            error.unlink(missing_ok=True)


def _take_away(damaged: DamagedFileError) -> None:
    print(f"{damaged}; it is made again", file=sys.stderr)
    damaged.path.unlink(missing_ok=True)


@contextmanager
def _errors_of(cell: Cell, results: Results) -> Iterator[None]:
    """Record whatever goes wrong; it belongs to this cell alone, unless the system refuses to read or write."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        said = {"error": repr(error), "traceback": traceback.format_exc(), "trouble": told(error)}
        report = {"cell": cell.planned.square, **said}
        write_json(results.error(cell.key), report)
