"""Fill a bench's cells, with any number of processes, from wherever an earlier run stopped.

The unit of work is a block of a cell, whose sums are a file of their own. The reference's blocks come first, with their
images, because the others are compared with them. A cell that fails leaves an error and no row; the others go on, and
the next run tries it again. No collective touches a score, and none runs while there is work.
"""

import time
import traceback
from collections.abc import Sequence

import torch

from amed_lightning.bench.block import compute_block
from amed_lightning.bench.cell import Cell
from amed_lightning.bench.prepare import Bench
from amed_lightning.bench.results import Results, write_json
from amed_lightning.bench.row import finished_row
from amed_lightning.runtime.processes import Processes
from amed_lightning.runtime.progress import progress
from amed_lightning.runtime.provenance import provenance

SECONDS_BETWEEN_LOOKS = 0.2


def run(bench: Bench, results: Results, processes: Processes, device: torch.device) -> list[Cell]:
    """Compute every cell that has no row yet.

    Args:
        bench: what to compute.
        results: where to.
        processes: this process among those that share the work.
        device: where to compute.

    Returns:
        The cells that failed.
    """
    for cell in bench.cells:
        cell.sampler.to(device)
    unfinished = processes.broadcast([cell.key for cell in bench.cells if not results.row(cell).is_file()])
    if processes.global_rank == 0:
        for cell in bench.cells:
            results.error(cell).unlink(missing_ok=True)
    references = [cell for cell in bench.cells if cell.planned.is_reference and unfinished]
    others = [cell for cell in bench.cells if cell.key in unfinished and not cell.planned.is_reference]
    for cells in (references, others):
        _fill(bench, cells, results, processes, device)
    return [cell for cell in bench.cells if results.error(cell).is_file()]


def _fill(bench: Bench, cells: Sequence[Cell], results: Results, processes: Processes, device: torch.device) -> None:
    """Compute the missing blocks of cells, and the rows that they complete."""
    blocks = [(index, block) for index, cell in enumerate(cells) for block in range(cell.protocol.num_blocks)]
    missing = processes.broadcast([work for work in blocks if not _is_done(cells[work[0]], work[1], results)])
    mine = missing[processes.global_rank :: processes.world_size]
    if mine:
        with progress("bench", len(mine), "blocks") as advance:
            for index, block in mine:
                _attempt(bench, cells[index], block, results, device)
                advance(1)
    while not all(
        _is_done(cells[index], block, results) or results.error(cells[index]).is_file() for index, block in missing
    ):
        time.sleep(SECONDS_BETWEEN_LOOKS)
    if processes.global_rank == 0:
        source = provenance(device, processes.world_size)
        for cell in cells:
            if not results.row(cell).is_file() and not results.error(cell).is_file():
                write_json(results.row(cell), finished_row(bench, cell, results, source))


def _attempt(bench: Bench, cell: Cell, block: int, results: Results, device: torch.device) -> None:
    """Compute a block; whatever goes wrong belongs to its cell alone."""
    if results.error(cell).is_file():
        return
    try:
        compute_block(bench, cell, block, results, device)
    except Exception as error:
        report = {
            "dataset": bench.name,
            "cell": cell.planned.label,
            "nfe": cell.nfe,
            "error": repr(error),
            "traceback": traceback.format_exc(),
        }
        write_json(results.error(cell), report)


def _is_done(cell: Cell, block: int, results: Results) -> bool:
    """Whether a block's sums are there, and the reference's images."""
    images = not cell.planned.is_reference or results.images(cell.key, block).is_file()
    return images and results.sums(cell, block).is_file()
