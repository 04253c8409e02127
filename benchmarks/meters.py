"""What something costs: seconds on any device, runs of the network, and what autograd keeps alive; and rows of that."""

import csv
import time
import weakref
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from amed_lightning.flow.model import Denoised


def now(device: torch.device) -> float:
    """Return the seconds of this process' processor time on a CPU; elsewhere of the clock, when the device is done."""
    if device.type == "cpu":
        return time.process_time()
    torch.cuda.synchronize(device)
    return time.perf_counter()


def write_csv(rows: list[dict[str, Any]], path: Path) -> None:
    """Write rows that share their keys; the folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


class Meter:
    """Counts from ``with`` to its end, and not while it is paused.

    Args:
        denoiser: whose runs are counted.
        device: where it runs.

    Attributes:
        forward: images that the network was run for.
        backward: images that gradients were carried back through it for.
        seconds: as :func:`now` counts them.
    """

    def __init__(self, denoiser: nn.Module, device: torch.device) -> None:
        self.denoiser, self.device = denoiser, device
        self.forward = self.backward = 0
        self.seconds = 0.0

    def __enter__(self) -> Self:
        self._hook = self.denoiser.register_forward_hook(self._ran)
        self._since = now(self.device)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.seconds += now(self.device) - self._since
        self._hook.remove()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Count nothing for a while."""
        self.__exit__(None, None, None)
        yield
        self.__enter__()

    def _ran(self, denoiser: nn.Module, asked: tuple[Any, ...], answer: Denoised) -> None:
        images = len(asked[0])
        self.forward += images
        if answer.image.requires_grad:
            answer.image.register_hook(partial(self._went_back, images))

    def _went_back(self, images: int, gradient: Tensor) -> None:
        self.backward += images


class SavedTensors:
    """Bytes of what autograd keeps for the way back, each storage once, and those of the network's weights.

    Args:
        network: its weights are there anyway.

    Attributes:
        peak: the most at any time since ``with``.
    """

    def __init__(self, network: nn.Module) -> None:
        self._weights = {weights.untyped_storage().data_ptr() for weights in network.parameters()}
        self._live = sum(weights.nbytes for weights in network.parameters())
        self._holders: Counter[int] = Counter()
        self._hooks = saved_tensors_hooks(self._pack, lambda saved: saved[0])
        self.peak = self._live

    def __enter__(self) -> Self:
        self._hooks.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._hooks.__exit__(kind, error, trace)

    def _pack(self, tensor: Tensor) -> "_Saved":
        storage, saved = tensor.untyped_storage(), _Saved([tensor])
        address, size = storage.data_ptr(), storage.nbytes()
        if address in self._weights:
            return saved
        self._holders[address] += 1
        if self._holders[address] == 1:
            self._live += size
            self.peak = max(self.peak, self._live)
        weakref.finalize(saved, self._release, address, size)
        return saved

    def _release(self, address: int, size: int) -> None:
        self._holders[address] -= 1
        if not self._holders[address]:
            self._live -= size


class _Saved(list[Tensor]):
    """A tensor that autograd holds; unlike a plain list it can be watched."""
