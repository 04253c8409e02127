"""A small pickle in EDM's format, and mutations of it that keep enough of the structure to get far."""

import pickletools
import random
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch

from .persistent import edm_object, write_pickle

ARGUMENTS = {"img_resolution": 8, "img_channels": 1, "model_type": "SongUNet", "channel_mult": [1], "num_blocks": 1}
STATE = {"model.layer.weight": torch.arange(6.0).reshape(2, 3), "model.layer.bias": torch.ones(2)}
LENGTHS = [0, 1, 0x7F, 0xFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 10 << 30, (1 << 63) - 1, (1 << 64) - 1]
SPLICES = [
    b"cos\nsystem\n",
    b"\x8c\x02os\x8c\x06system\x93",
    b"cbuiltins\neval\n",
    b"\x8c\x041+1\n\x85R",
    b"0",
    b"2",
    b"b",
]


def written(folder: Path) -> bytes:
    """Return the bytes of a file that reads well."""
    return write_pickle(folder / "whole.pkl", lambda: {"ema": edm_object(ARGUMENTS, STATE)}).read_bytes()


def mutated(content: bytes, rng: random.Random) -> bytes:
    """Change a few places, most of them where an instruction begins."""
    places = _places(content)
    changed = bytearray(content)
    for _ in range(rng.choice([1, 1, 1, 2, 5])):
        at = min(rng.choice(places) + rng.choice([0, 0, 0, 1, 2, 9]), len(changed) - 1)
        match rng.randrange(12):
            case 0:
                changed[at] = rng.randrange(256)
            case 1:
                changed[at] ^= 1 << rng.randrange(8)
            case 2:
                del changed[at : at + rng.choice([1, 2, 8, 100])]
            case 3:
                changed[at:at] = rng.choice(SPLICES)
            case 4:
                start = rng.choice(places)
                changed[at:at] = content[start : start + rng.choice([1, 5, 50, 500])]
            case 5:
                size = rng.choice([1, 2, 4, 8])
                changed[at : at + size] = (rng.choice(LENGTHS) % (1 << 8 * size)).to_bytes(size, "little")
            case _:
                anywhere = rng.randrange(len(changed))
                changed[anywhere] = rng.randrange(256)
    return bytes(changed)


@cache
def _places(content: bytes) -> list[int]:
    return [position for _, _, position in pickletools.genops(content) if position is not None]


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Interrupt what takes longer.

    Raises:
        TimeoutError: it did.
    """

    def end(signum: int, frame: Any) -> None:
        raise TimeoutError(f"it takes longer than {seconds} s")

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
