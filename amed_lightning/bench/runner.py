"""Fill a suite's cells, with any number of processes and jobs, from wherever an earlier run stopped.

The unit of work is a block of a cell, whose sums are a file of their own. Cells are taken in order, the longest first,
and a dataset's reference before all, with its images, because the others are compared with them. A cell that fails
leaves an error and no row; the others go on, and the next run tries it again. Whoever computes a cell's last block
writes its row, so that a table shows what there is at any time, and removes the sums. No collective touches a score,
and none runs while there is work.
"""

import math
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from shutil import disk_usage
from typing import Any

import torch

from amed_lightning.bench.block import compute_block
from amed_lightning.bench.cell import Cell
from amed_lightning.bench.prepare import Bench
from amed_lightning.bench.results import Results, take_away, write_json
from amed_lightning.bench.row import finished_row
from amed_lightning.config import InputError
from amed_lightning.runtime.processes import Processes
from amed_lightning.runtime.progress import Advance, nothing, progress
from amed_lightning.runtime.provenance import provenance
from amed_lightning.runtime.tensor_file import DamagedFileError
from amed_lightning.runtime.trouble import told
from amed_lightning.runtime.work import made, share

GIB = 2**30
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

    Raises:
        InputError: there is no room for what it writes.
    """
    cells = [cell for bench in benches for cell in bench.cells]
    if processes.global_rank == 0:
        for cell in cells:
            results.error(cell.key).unlink(missing_ok=True)
    _require_room(benches, results)
    processes.broadcast(None)  # nobody takes an error of before for one of now
    with _shown(cells, results, processes) as show:
        for bench in benches:
            _run(bench, results, processes, device, show)
    return [cell for cell in cells if results.error(cell.key).is_file()]


def _require_room(benches: Sequence[Bench], results: Results) -> None:
    """Refuse a folder that has no room for the references' images and the sums of a cell."""
    needed = sum(_bytes_to_come(bench, results) for bench in benches)
    folder = next(path for path in (results.folder.absolute(), *results.folder.absolute().parents) if path.is_dir())
    if needed > (free := disk_usage(folder).free):
        sizes = f"{needed / GIB:.3g} GiB, and {free / GIB:.3g} are free"
        raise InputError(f"{results.folder}: the sweep needs {sizes}; make room, or name another place with --output")


def _bytes_to_come(bench: Bench, results: Results) -> int:
    """Return the bytes of a dataset's images of the reference that are not there, and of one cell's sums."""
    size, cells = bench.examiner.detector.feature_size, [bench.reference] if bench.reference else []
    missing = sum(not results.images(cell.key, block).is_file() for cell in cells for block in _blocks(cell))
    protocol = bench.cells[0].protocol
    images = missing * protocol.block_size * math.prod(bench.model.image_shape) * torch.float32.itemsize
    return images + protocol.num_blocks * size * size // 2 * torch.float64.itemsize


@contextmanager
def _shown(cells: Sequence[Cell], results: Results, processes: Processes) -> Iterator[Advance]:
    """Show how far all cells have come, in network runs, once per job."""
    left = sum(_weight(cell) for cell in cells for block in _blocks(cell) if not results.is_done(cell, block))
    if processes.global_rank or not left:
        yield nothing
    else:
        with progress("bench", left, "network runs") as advance:
            yield advance


def _blocks(cell: Cell) -> range:
    return range(cell.protocol.num_blocks)


def _weight(cell: Cell) -> int:
    """Return the network runs of a block."""
    return cell.nfe * cell.protocol.block_size


def _run(bench: Bench, results: Results, processes: Processes, device: torch.device, show: Advance) -> None:
    """Compute one dataset's cells; the weights are on the device meanwhile."""
    unfinished = [cell for cell in bench.cells if not _is_finished(cell, results)]
    if unfinished:
        bench.to(device)
        longest_first = sorted(unfinished, key=lambda cell: cell.nfe, reverse=True)
        references = [cell for cell in bench.cells if cell.planned.is_reference]
        for cells in (references, [cell for cell in longest_first if cell not in references]):
            _fill(bench, cells, results, processes, device, show)
        bench.to(torch.device("cpu"))


def _is_finished(cell: Cell, results: Results) -> bool:
    """Whether a cell's row and what else is wanted of it are there; its sums have gone then."""
    blocks = _blocks(cell) if results.keeps_images else range(1)
    if results.finished(cell.key) is None or not all(results.is_done(cell, block) for block in blocks):
        return False
    return _is_tidy(cell, results)


def _is_tidy(cell: Cell, results: Results) -> bool:
    """Remove the sums of a cell that has a row; whether that went well, or a damaged block is to be made again."""
    try:
        results.tidy(cell)
    except DamagedFileError as damaged:
        take_away(damaged)
        return results.is_done(cell, 0)
    return True


def _fill(
    bench: Bench,
    cells: Sequence[Cell],
    results: Results,
    processes: Processes,
    device: torch.device,
    show: Advance,
) -> None:
    """Compute the missing blocks of cells, and the rows that they complete."""
    source = provenance(device, processes.world_size)
    pieces = {f"{cell.key}-{block}": (cell, block) for cell in cells for block in _blocks(cell)}
    blocks = {name: partial(_attempt, bench, *piece, results, device, source, show) for name, piece in pieces.items()}
    rows = {cell.key: partial(_complete, bench, cell, results, source) for cell in cells}
    folder = results.folder / "blocks"

    def is_done(name: str) -> bool:
        cell, block = pieces[name]
        return results.is_done(cell, block) or results.error(cell.key).is_file()

    def tell(name: str) -> None:
        show(_weight(pieces[name][0]))

    while True:
        share(f"bench {bench.name}", blocks, is_done, folder, processes, tell=tell)
        share(f"rows of {bench.name}", rows, results.is_scored, folder, processes, "rows", tell=lambda name: None)
        if all(map(results.is_settled, cells)):  # a block may have turned out to be damaged
            return


def _attempt(
    bench: Bench,
    cell: Cell,
    block: int,
    results: Results,
    device: torch.device,
    source: dict[str, Any],
    show: Advance,
) -> None:
    """Compute a block, unless its cell has failed already, and the row, if it was the cell's last block.

    Images of the reference that are damaged are made again.
    """
    if results.error(cell.key).is_file():
        return
    show(0, str(cell.planned.id))
    where = block, results, device, {name: source[name] for name in OF_A_BLOCK}
    with _errors_of(cell, results):
        try:
            compute_block(bench, cell, *where)
        except DamagedFileError as damaged:
            assert bench.reference is not None
            if results.error(bench.reference.key).is_file():
                raise
            take_away(damaged)
            compute_block(bench, bench.reference, *where)
            compute_block(bench, cell, *where)
            _tidied(bench.reference, results)
    if not _tidied(cell, results) and all(results.is_done(cell, other) for other in reversed(_blocks(cell))):
        complete = partial(_complete, bench, cell, results, source)
        made(results.folder / "blocks", cell.key, complete, results.is_scored)


def _tidied(cell: Cell, results: Results) -> bool:
    """Remove what a block has left of a cell that has its row; return whether it has."""
    return results.is_scored(cell.key) and _is_tidy(cell, results)


def _complete(bench: Bench, cell: Cell, results: Results, source: dict[str, Any]) -> None:
    """Write a cell's row and remove the sums; a damaged block is removed instead, to be made again."""
    with _errors_of(cell, results):
        try:
            results.write_row(finished_row(bench, cell, results, source))
            results.tidy(cell)
        except DamagedFileError as damaged:
            take_away(damaged)
            return
        for error in results.errors(cell.key):
            error.unlink(missing_ok=True)


@contextmanager
def _errors_of(cell: Cell, results: Results) -> Iterator[None]:
    """Record and tell what goes wrong; it belongs to this cell alone, unless the system refuses to read or write."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        said = {"error": repr(error), "traceback": traceback.format_exc(), "trouble": told(error)}
        write_json(results.error(cell.key), {"cell": cell.planned.square, **said})
        print(f"failed: {cell.planned.id}: {error!r}, see {results.error(cell.key)}", file=sys.stderr, flush=True)
