"""Fill a suite's cells, with any number of processes and jobs, from wherever an earlier run stopped.

The unit of work is a block of a cell: its seeds are sampled, the images looked at on the device, and the sums written
to a file. Where memory runs out the block begins again with half the micro-batch. That moves last digits, so the block
says which it took, and a row made from it is not of the suite's protocol any more.

Cells are taken in order, the longest first, and a dataset's reference before all, with its images, because the others
are compared with them. A cell that fails leaves an error and no row; the others go on, and the next run tries it again.
Whoever computes a cell's last block writes its row, so that a table shows what there is at any time, and removes the
sums. No collective touches a score, and none runs while there is work.
"""

import math
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from shutil import disk_usage
from typing import Any

import torch

from amed_lightning.bench.cell import Bench, Cell
from amed_lightning.bench.results import Results, block_name, read_block, take_away, write_json, write_sums
from amed_lightning.bench.row import finished_row
from amed_lightning.config import InputError
from amed_lightning.data.picture import Record, write_image
from amed_lightning.denoisers.interruptible import interruptible
from amed_lightning.runtime.micro_batches import halving
from amed_lightning.runtime.processes import Processes
from amed_lightning.runtime.progress import Advance, nothing, progress
from amed_lightning.runtime.provenance import provenance
from amed_lightning.runtime.tensor_file import DamagedFileError, write_tensors
from amed_lightning.runtime.trouble import told
from amed_lightning.runtime.work import claimed, shared
from amed_lightning.sampling.images import generate
from amed_lightning.tensors import Bytes, Images, sent

_NUM_SAMPLES = 16
"""Images of a cell's first seeds that stay for grids."""


def compute_block(
    bench: Bench, cell: Cell, block: int, results: Results, device: torch.device, source: dict[str, Any]
) -> None:
    """Write a block's sums, its images if the cell is the reference, and PNG files if they are wanted.

    Args:
        bench: the cell's.
        cell: to compute.
        block: of seeds.
        results: where to write.
        device: where to compute.
        source: what goes beside the sums: the commit and the device, which need not be those of other blocks.

    Raises:
        RuntimeError: the sampler's count of network runs is not the cell's.
        NotFiniteError: an image is not finite.
        DamagedFileError: the reference's images are not there to compare with, because it failed, or are damaged.
        torch.OutOfMemoryError: there is no room for a single image.
        Stopped: a signal has come; nothing is written.
    """
    (batch_size,) = cell.protocol.batch_sizes
    halving(partial(_compute, bench, cell, block, results, device, source), batch_size)


@torch.inference_mode()
def _compute(
    bench: Bench, cell: Cell, block: int, results: Results, device: torch.device, source: dict[str, Any], size: int
) -> None:
    seeds, facts = cell.protocol.block(block), source | {"batch_size": size}
    compared = None if cell.reference is None else read_block(results.images, cell.reference, block)[0]["images"]
    num_kept = len(seeds) if results.keeps_images else _NUM_SAMPLES if block == 0 else 0
    scores, prompts = bench.evaluator.scores(cell.protocol.total), bench.model.texts_of(seeds)
    kept: list[Bytes] = []
    generated: list[Images] = []
    started, done = time.monotonic(), 0
    sampler = bench.sampler(cell)
    sampler = replace(sampler, model=interruptible(sampler.model))
    for batch in generate(sampler, seeds, size, device):
        if batch.nfe != cell.nfe:
            made = f"{batch.nfe} network runs were made where a row would say {cell.nfe}"
            raise RuntimeError(f"{made}; guidance in an interval makes fewer: let its `interval` hold every level")
        images, pixels = batch.images, batch.pixels
        part = slice(done, done + len(images))
        pair = () if compared is None else (images, sent(compared[part], device))
        scores.update(pixels, seeds.start + torch.arange(len(images)) + done, prompts[part], pair)
        if cell.planned.is_reference:
            generated.append(images.cpu())
        if done < num_kept:
            kept.append(pixels[: num_kept - done].cpu())
        done += len(images)
    sums = scores.sums()
    record = Record("bench", cell.identity | {"nfe": cell.nfe}, [0, cell.protocol.total], facts)
    facts = facts | {"seconds": time.monotonic() - started, "nfe": cell.nfe, "block": block_name(cell.key, block)}
    if results.keeps_images:
        _write_pictures(results, cell.key, seeds.start, torch.cat(kept), record)
    if cell.planned.is_reference:
        write_tensors(results.images(cell.key, block), {"images": torch.cat(generated)}, {"block": facts["block"]})
    samples = {"samples": torch.cat(kept)[:_NUM_SAMPLES]} if block == 0 else {}
    write_sums(results.sums(cell.key, block), sums | samples, facts)


def _write_pictures(results: Results, key: str, first_seed: int, images: Bytes, record: Record) -> None:
    """Write images as PNG files, which say what made them."""
    for seed, image in enumerate(images, first_seed):
        path = results.picture(key, seed)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_image(path, image, record)


GIB = 2**30
_OF_A_BLOCK = ("commit", "dirty", "source", "device")
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
    with _shown(cells, results, processes) as bar:
        for bench in benches:
            if unfinished := [cell for cell in bench.cells if not _is_finished(cell, results)]:
                source = provenance(device, processes.world_size)
                bench.to(device)  # its weights are there until another one's are loaded
                for group in _in_order(bench, unfinished):
                    _fill(bench, group, results, processes, device, source, bar)
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
    size, cells = bench.feature_size, [bench.reference] if bench.reference else []
    missing = sum(not results.images(cell.key, block).is_file() for cell in cells for block in _blocks(cell))
    protocol = bench.cells[0].protocol
    images = missing * protocol.block_size * math.prod(bench.image_shape) * torch.float32.itemsize
    return images + protocol.num_blocks * size * size // 2 * torch.float64.itemsize


@dataclass(frozen=True)
class _Bar:
    """How far all cells have come, in network runs, whoever computes them.

    Attributes:
        left: the network runs of each block that is not done yet.
        advance: shows what is done, and which cell is at hand.
    """

    left: dict[str, int]
    advance: Advance

    def done(self, name: str) -> None:
        """Count a block, once."""
        self.advance(self.left.pop(name, 0))


@contextmanager
def _shown(cells: Sequence[Cell], results: Results, processes: Processes) -> Iterator[_Bar]:
    """Show a bar, once per job."""
    left = {
        block_name(cell.key, block): cell.nfe * cell.protocol.block_size
        for cell in cells
        for block in _blocks(cell)
        if not results.is_done(cell, block)
    }
    if processes.global_rank or not left:
        yield _Bar({}, nothing)
    else:
        with progress("bench", sum(left.values()), "network runs") as advance:
            yield _Bar(left, advance)


def _blocks(cell: Cell) -> range:
    return range(cell.protocol.num_blocks)


def _in_order(bench: Bench, unfinished: Sequence[Cell]) -> tuple[list[Cell], list[Cell]]:
    """Return the references, which the others are compared with, and then the others, the longest first."""
    longest_first = sorted(unfinished, key=lambda cell: cell.nfe, reverse=True)
    references = [cell for cell in bench.cells if cell.planned.is_reference]
    return references, [cell for cell in longest_first if cell not in references]


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
    source: dict[str, Any],
    bar: _Bar,
) -> None:
    """Compute the missing blocks of cells, and the rows that they complete."""
    pieces = {block_name(cell.key, block): (cell, block) for cell in cells for block in _blocks(cell)}
    keys = {cell.key: cell for cell in cells}
    folder = results.folder / "blocks"

    def is_done(name: str) -> bool:
        cell, block = pieces[name]
        return results.is_done(cell, block) or results.error(cell.key).is_file()

    while True:
        for name in filter(is_done, pieces):  # by others, before this process came here
            bar.done(name)
        with shared(f"bench {bench.name}", pieces, is_done, folder, processes, tell=bar.done) as mine:
            for name in mine:
                _attempt(bench, *pieces[name], results, device, source, bar)
        with shared(
            f"rows of {bench.name}", keys, results.is_scored, folder, processes, "rows", lambda key: None
        ) as mine:
            for key in mine:
                _complete(bench, keys[key], results, source)
        if all(map(results.is_settled, cells)):  # a block may have turned out to be damaged
            return


def _attempt(
    bench: Bench,
    cell: Cell,
    block: int,
    results: Results,
    device: torch.device,
    source: dict[str, Any],
    bar: _Bar,
) -> None:
    """Compute a block, unless its cell has failed already, and the row, if it was the cell's last block.

    Images of the reference that are damaged are made again.
    """
    if results.error(cell.key).is_file():
        return
    bar.advance(0, str(cell.planned.id))
    where = block, results, device, {name: source[name] for name in _OF_A_BLOCK}
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
        with claimed(results.folder / "blocks", cell.key) as held:
            if held is not None and not results.is_scored(cell.key):
                _complete(bench, cell, results, source)


def _tidied(cell: Cell, results: Results) -> bool:
    """Remove what a block has left of a cell that has its row; return whether it has."""
    return results.is_scored(cell.key) and _is_tidy(cell, results)


def _complete(bench: Bench, cell: Cell, results: Results, source: dict[str, Any]) -> None:
    """Write a cell's row and remove the sums; a damaged block is removed instead, to be made again."""
    with _errors_of(cell, results):
        try:
            blocks = [read_block(results.sums, cell.key, block) for block in _blocks(cell)]
            results.write_row(finished_row(bench, cell, blocks, source))
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
        write_json(results.error(cell.key), {"cell": cell.planned.id._asdict(), **said})
        print(f"failed: {cell.planned.id}: {error!r}, see {results.error(cell.key)}", file=sys.stderr, flush=True)
