"""How a network computes: what moves the last digits of an image, and so belongs to the protocol.

The states between network runs are float32, or float64 where that is asked for. TensorFloat-32 is off wherever a suite
does not ask for it, though PyTorch's convolutions have it on, and always off in the detector.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import nn

from amed_lightning.denoisers.precision import Autocast
from amed_lightning.flow.model import Condition, Denoised, Denoiser, DiffusionModel
from amed_lightning.tensors import Images, Level


@dataclass(frozen=True)
class Arithmetic:
    """How the denoiser computes.

    Attributes:
        precision: of weights and states (float32, float64), or what the network's products are cast to (autocast).
        tf32: allow TensorFloat-32 in the network's float32 products.
        channels_last: memory order of weights and images.
        compile: let ``torch.compile`` fuse the network.
    """

    precision: Literal["float32", "float64", "bfloat16", "float16"] = "float32"
    tf32: bool = False
    channels_last: bool = False
    compile: bool = False

    @property
    def state_dtype(self) -> torch.dtype:
        """Precision of the states between network runs."""
        return torch.float64 if self.precision == "float64" else torch.float32

    def applied(self, model: DiffusionModel) -> DiffusionModel:
        """Return the model with its denoisers computing like this; its digest stays, the weights are converted."""
        last = None if model.last_denoiser is None else self._applied(model.last_denoiser)
        return replace(model, denoiser=self._applied(model.denoiser), last_denoiser=last)

    def _applied(self, denoiser: Denoiser) -> "Computing":
        memory_format = torch.channels_last if self.channels_last else torch.contiguous_format
        if isinstance(denoiser, nn.Module):
            denoiser.to(self.state_dtype).to(memory_format=memory_format)
        if self.precision in ("bfloat16", "float16"):
            denoiser = Autocast(denoiser, getattr(torch, self.precision))
        return Computing(denoiser, memory_format, self.tf32, self.compile)


class Computing(nn.Module):
    """A denoiser that computes as it is told to.

    Args:
        denoiser: answers.
        memory_format: order of the images' values.
        tf32: allow TensorFloat-32.
        compiled: fuse it.
    """

    def __init__(self, denoiser: Denoiser, memory_format: torch.memory_format, tf32: bool, compiled: bool) -> None:
        super().__init__()
        self.denoiser, self.cost = denoiser, denoiser.cost
        self.memory_format, self.tf32 = memory_format, tf32
        self.answer: Callable[..., Denoised] = torch.compile(denoiser) if compiled else denoiser

    def forward(self, x: Images, sigma: Level, condition: Condition | None) -> Denoised:
        """Denoise."""
        with tensor_float_32(self.tf32):
            return self.answer(x.contiguous(memory_format=self.memory_format), sigma, condition)


@contextmanager
def tensor_float_32(allowed: bool) -> Iterator[None]:
    """Allow or forbid TensorFloat-32 in matrix products and convolutions, for a while."""
    backends: tuple[Any, ...] = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [backend.allow_tf32 for backend in backends]
    try:
        for backend in backends:
            backend.allow_tf32 = allowed
        yield
    finally:
        for backend, was_allowed in zip(backends, before, strict=True):
            backend.allow_tf32 = was_allowed
