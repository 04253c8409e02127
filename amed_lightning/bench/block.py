"""Compute one block of a cell: sample its seeds, look at the images on the device, write the sums."""

import time

import torch

from amed_lightning.bench.cell import Cell
from amed_lightning.bench.prepare import Bench
from amed_lightning.bench.results import Results, read_tensors, write_tensors
from amed_lightning.sampling.sampler import sample_seeds
from amed_lightning.tensors import Images, quantise


def compute_block(bench: Bench, cell: Cell, block: int, results: Results, device: torch.device) -> None:
    """Write a block's sums, and its images if the cell is the reference.

    Raises:
        RuntimeError: the sampler's count of network runs is not the cell's.
    """
    seeds = cell.protocol.block(block)
    compared = None if cell.reference is None else read_tensors(results.images(cell.reference, block))["images"]
    scores = bench.examiner.scores(cell.protocol.total)
    generated: list[Images] = []
    started, done, nfe = time.monotonic(), 0, 0
    for state in sample_seeds(cell.sampler, seeds, cell.protocol.batch_size, device):
        images, nfe = bench.model.decode(state.x), state.nfe
        indices = seeds.start + torch.arange(done, done + len(images))
        with torch.inference_mode():
            scores.update(bench.examiner.detector(quantise(images)), indices)
            if cell.planned.is_reference:
                generated.append(images.cpu())
            if compared is not None:
                scores.compare(images.cpu(), compared[done : done + len(images)])
        done += len(images)
    if nfe != cell.nfe:
        raise RuntimeError(f"{nfe} network runs were counted where {cell.nfe} were planned")
    if cell.planned.is_reference:
        write_tensors(results.images(cell.key, block), {"images": torch.cat(generated)})
    write_tensors(results.sums(cell, block), {**scores.sums(), "seconds": torch.tensor(time.monotonic() - started)})
