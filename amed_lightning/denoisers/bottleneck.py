"""The bottleneck of a network that says nothing of it: a hook takes what one of its blocks returns.

What is taken belongs to the call that is under way in its thread: several threads may use one network.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from amed_lightning.flow.model import Features


class _Call(threading.local):
    """A thread's call of a network: the outputs of its observed block, or None between calls."""

    outputs: list[Any] | None = None


CALL = _Call()


def observe(block: nn.Module) -> None:
    """Let the calls of :func:`observed` see what a block returns."""
    block.register_forward_hook(_keep)


@contextmanager
def observed() -> Iterator[list[Any]]:
    """Collect what observed blocks return in this block of code."""
    outputs: list[Any] = []
    CALL.outputs = outputs
    try:
        yield outputs
    finally:
        CALL.outputs = None  # also where the run was interrupted


def averaged(output: Tensor) -> Features:
    """Average an output of shape (batch, channels, height, width) over its channels."""
    return output.mean(1).flatten(1)


def _keep(block: nn.Module, inputs: Any, output: Any) -> None:
    if CALL.outputs is not None:
        CALL.outputs.append(output)
