"""Compute one block of a cell: sample its seeds, look at the images on the device, write the sums.

Where memory runs out the block begins again with half the micro-batch. That moves last digits, so the block says which
it took, and a row made from it is not of the suite's protocol any more.
"""

import time
from dataclasses import replace
from typing import Any

import torch

from amed_lightning.bench.cell import Cell
from amed_lightning.bench.prepare import Bench
from amed_lightning.bench.results import Results, block_name, read_block
from amed_lightning.data.picture import Record, write_image
from amed_lightning.denoisers.interruptible import interruptible
from amed_lightning.runtime.tensor_file import write_tensors
from amed_lightning.sampling.images import generate
from amed_lightning.tensors import Bytes, Images

NUM_SAMPLES = 16
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
    while not _found_room(bench, cell, block, results, device, source | {"batch_size": batch_size}):
        batch_size //= 2
        if device.type == "cuda":
            torch.cuda.empty_cache()


def _found_room(
    bench: Bench, cell: Cell, block: int, results: Results, device: torch.device, facts: dict[str, Any]
) -> bool:
    """Compute the block, if there is memory for micro-batches of the size that the facts name."""
    try:
        with torch.inference_mode():
            _compute(bench, cell, block, results, device, facts)
    except torch.OutOfMemoryError:
        if facts["batch_size"] == 1:
            raise
        return False
    return True


def _compute(
    bench: Bench, cell: Cell, block: int, results: Results, device: torch.device, facts: dict[str, Any]
) -> None:
    seeds, size = cell.protocol.block(block), facts["batch_size"]
    compared = None if cell.reference is None else read_block(results.images, cell.reference, block)[0]["images"]
    num_kept = len(seeds) if results.keeps_images else NUM_SAMPLES if block == 0 else 0
    scores, prompts = bench.examiner.scores(cell.protocol.total), bench.model.texts_of(seeds)
    kept: list[Bytes] = []
    generated: list[Images] = []
    started, done = time.monotonic(), 0
    sampler = replace(cell.sampler, model=interruptible(cell.sampler.model))
    for batch in generate(sampler, seeds, size, device):
        if batch.nfe != cell.nfe:
            raise RuntimeError(f"{batch.nfe} network runs were counted where {cell.nfe} were planned")
        images, pixels = batch.images, batch.pixels
        part = slice(done, done + len(images))
        pair = () if compared is None else (images, compared[part].to(device))
        scores.update(pixels, seeds.start + torch.arange(len(images), device=device) + done, prompts[part], pair)
        if cell.planned.is_reference:
            generated.append(images.cpu())
        kept.append(pixels[: max(0, num_kept - done)].cpu())
        done += len(images)
    sums = scores.sums()
    record = Record("bench", cell.identity | {"nfe": cell.nfe}, [0, cell.protocol.total], facts)
    facts = facts | {"seconds": time.monotonic() - started, "nfe": cell.nfe, "block": block_name(cell.key, block)}
    if results.keeps_images:
        write_pictures(results, cell.key, seeds.start, torch.cat(kept), record)
    if cell.planned.is_reference:
        write_tensors(results.images(cell.key, block), {"images": torch.cat(generated)}, {"block": facts["block"]})
    samples = {"samples": torch.cat(kept)[:NUM_SAMPLES]} if block == 0 else {}
    write_tensors(results.sums(cell.key, block), sums | samples, facts)


def write_pictures(results: Results, key: str, first_seed: int, images: Bytes, record: Record) -> None:
    """Write images as PNG files, which say what made them."""
    for seed, image in enumerate(images, first_seed):
        path = results.picture(key, seed)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_image(path, image, record)
