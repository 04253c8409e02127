"""How a network computes: what moves the last digits of an image, and so belongs to the protocol.

The states between network runs are float32, or float64 where that is asked for. TensorFloat-32 is off wherever a suite
does not ask for it, though PyTorch's convolutions have it on, and always off in the detector.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import nn

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
        last = None if model.last_denoiser is None else Computing(model.last_denoiser, self)
        return replace(model, denoiser=Computing(model.denoiser, self), last_denoiser=last)


class Computing(nn.Module):
    """A denoiser that computes as it is told to.

    Args:
        denoiser: answers.
        arithmetic: how.
    """

    def __init__(self, denoiser: Denoiser, arithmetic: Arithmetic) -> None:
        super().__init__()
        self.arithmetic, self.cost = arithmetic, denoiser.cost
        self.memory_format = torch.channels_last if arithmetic.channels_last else torch.contiguous_format
        if isinstance(denoiser, nn.Module):
            denoiser.to(arithmetic.state_dtype).to(memory_format=self.memory_format)
        self.denoiser = denoiser
        self.answer: Callable[..., Denoised] = torch.compile(denoiser) if arithmetic.compile else denoiser

    def forward(self, x: Images, sigma: Level, condition: Condition | None) -> Denoised:
        """Denoise; the answer has the precision of ``x``."""
        precision = self.arithmetic.precision
        cast = (
            torch.autocast(x.device.type, getattr(torch, precision))
            if precision in ("bfloat16", "float16")
            else nullcontext()
        )
        with cast, tensor_float_32(self.arithmetic.tf32):
            answer = self.answer(x.contiguous(memory_format=self.memory_format), sigma, condition)
        return Denoised(answer.image.to(x.dtype), answer.features.to(x.dtype))


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
