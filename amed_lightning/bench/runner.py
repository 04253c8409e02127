"""Fill a suite's cells, with any number of processes, from wherever an earlier run stopped.

The unit of work is a block of a cell, whose sums are a file of their own. A dataset's reference comes first, with its
images, because the others are compared with them. A cell that fails leaves an error and no row; the others go on, and
the next run tries it again. No collective touches a score, and none runs while there is work.

Tasks of an array have cells of their own. The reference's blocks all of them need: each task begins elsewhere and skips
what another has written meanwhile, so that nothing is locked and nobody waits for another task.
"""

import time
import traceback
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from amed_lightning.bench.block import compute_block
from amed_lightning.bench.cell import Cell
from amed_lightning.bench.prepare import Bench
from amed_lightning.bench.results import Results, write_json
from amed_lightning.bench.row import finished_row
from amed_lightning.runtime.processes import Processes
from amed_lightning.runtime.progress import progress
from amed_lightning.runtime.provenance import provenance
from amed_lightning.runtime.signals import stop_if_asked

SECONDS_BETWEEN_LOOKS = 0.2
OF_A_BLOCK = ("commit", "dirty", "source", "device")
"""What may differ between the blocks of a cell, because a sweep went on later or elsewhere."""


def run(benches: Sequence[Bench], results: Results, processes: Processes, device: torch.device) -> list[Cell]:
    """Compute every cell of this task that has no row yet.

    Args:
        benches: what to compute, by dataset.
        results: where to, and which part of an array this is.
        processes: this process among those that share the task's work.
        device: where to compute.

    Returns:
        The cells that failed.
    """
    measured = [cell.key for bench in benches for cell in bench.cells if not cell.planned.is_reference]
    mine = results.share.of(measured)
    return [cell for bench in benches for cell in _run(bench, mine, results, processes, device)]


def _run(
    bench: Bench, mine: Collection[str], results: Results, processes: Processes, device: torch.device
) -> list[Cell]:
    """Compute one dataset's cells; the weights are on the device meanwhile."""
    references = [cell for cell in bench.cells if cell.planned.is_reference]
    others = [cell for cell in bench.cells if cell.key in mine]
    ours = [*references, *others] if others or results.share.index == 0 else []
    unfinished = processes.broadcast([cell.key for cell in ours if not _is_finished(cell, results)])
    if processes.global_rank == 0:
        for cell in ours:
            results.error(cell.key).unlink(missing_ok=True)
    if unfinished:
        bench.to(device)
        _fill(bench, references, results, processes, device)
        _fill(bench, [cell for cell in others if cell.key in unfinished], results, processes, device)
        bench.to(torch.device("cpu"))
    return [cell for cell in ours if results.error(cell.key).is_file()]


def _is_finished(cell: Cell, results: Results) -> bool:
    blocks = range(cell.protocol.num_blocks) if results.keeps_images else ()
    return results.row(cell.key).is_file() and all(results.is_done(cell, block) for block in blocks)


def _fill(bench: Bench, cells: Sequence[Cell], results: Results, processes: Processes, device: torch.device) -> None:
    """Compute the missing blocks of cells, and the rows that they complete."""
    blocks = [(index, block) for index, cell in enumerate(cells) for block in range(cell.protocol.num_blocks)]
    missing = processes.broadcast([work for work in blocks if not results.is_done(cells[work[0]], work[1])])
    source = provenance(device, processes.world_size)
    mine = results.share.rotated(missing)[processes.global_rank :: processes.world_size]
    if mine:
        with progress(f"bench {bench.name}", len(mine), "blocks") as advance:
            for index, block in mine:
                stop_if_asked()
                _attempt(bench, cells[index], block, results, device, source)
                advance(1)
    while not all(
        results.is_done(cells[index], block) or results.error(cells[index].key).is_file() for index, block in missing
    ):
        stop_if_asked()
        time.sleep(SECONDS_BETWEEN_LOOKS)
    if processes.global_rank == 0:
        for cell in cells:
            if not results.row(cell.key).is_file() and not results.error(cell.key).is_file():
                with _errors_of(cell, results):
                    write_json(results.row(cell.key), finished_row(bench, cell, results, source))
                    for error in results.errors(cell.key):
                        error.unlink()


def _attempt(
    bench: Bench, cell: Cell, block: int, results: Results, device: torch.device, source: dict[str, Any]
) -> None:
    """Compute a block that nobody has computed meanwhile, unless its cell has failed already."""
    if not results.error(cell.key).is_file() and not results.is_done(cell, block):
        with _errors_of(cell, results):
            of_a_block = {name: source[name] for name in OF_A_BLOCK}
            compute_block(bench, cell, block, results, device, of_a_block)


@contextmanager
def _errors_of(cell: Cell, results: Results) -> Iterator[None]:
    """Record whatever goes wrong; it belongs to this cell alone."""
    try:
        yield
    except Exception as error:
        report = {"cell": cell.planned.square, "error": repr(error), "traceback": traceback.format_exc()}
        write_json(results.error(cell.key), report)
