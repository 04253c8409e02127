"""Micro-batches that memory has room for: where it runs out, work begins again with half as many samples at a time.

Another micro-batch moves last digits. So a result either says which it took, and is what it would be had that size been
asked for, or it is named by its size, and the work is refused.
"""

import sys
from collections.abc import Callable
from typing import TypeVar

import torch

from amed_lightning.config import InputError

Made = TypeVar("Made")


def halving(run: Callable[[int], Made], size: int, told_of: str = "") -> tuple[Made, int]:
    """Run with the largest micro-batch among ``size``, half of it, and so on, that memory has room for.

    Args:
        run: is given a size, and begins anew each time.
        size: to begin with.
        told_of: the work, as people are told of each smaller size; they are told nothing without.

    Returns:
        What ``run`` made, and the size with which it did.

    Raises:
        torch.OutOfMemoryError: there is no room for a single sample.
    """
    while True:
        try:
            return run(size), size
        except torch.OutOfMemoryError:
            if size == 1:
                raise
        if told_of:
            smaller = f"{size // 2} are taken, which may change last digits"
            print(f"{told_of}: no memory for {size} samples at a time; {smaller}", file=sys.stderr, flush=True)
        size //= 2
        torch.cuda.empty_cache()  # here, where no traceback holds tensors any more; nothing where there is no GPU


def unhalved(run: Callable[[int], Made], size: int, option: str) -> Made:
    """Run with one micro-batch, by whose size the result is named.

    Args:
        run: see :func:`halving`.
        size: of the micro-batch.
        option: by which it is told.

    Raises:
        InputError: memory has room for a smaller one only.
        torch.OutOfMemoryError: there is no room for a single sample.
    """
    made, room = halving(run, size)
    if room < size:
        smaller = f"set it to {room} or less, which makes other results, of another name"
        raise InputError(f"{option} is {size}, and there is no memory for so many at a time: {smaller}")
    return made
