"""How a network computes: what moves the last digits of a number, and so belongs to recipes and protocols.

It is one option of whatever samples: the student of a fit and its teacher, a sampler, a suite. The states between
network runs are float32, or float64 where that is asked for. In half precision the weights stay in single: convolutions
and products of matrices run in the chosen one, everything else and the preconditioning in single, and images and
features are single precision in and out. float16 ends at 65,504, and what exceeds it is infinite; bfloat16 reaches as
far as float32 with fewer digits.

TensorFloat-32 is off wherever it is not asked for, though PyTorch's convolutions have it on; in a backward pass, which
runs outside of the denoiser, it is always off (:func:`~amed_lightning.runtime.processes.compute_alike`).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
        """Return the model with its denoisers computing like this; its digest stays, the weights are converted.

        One that computes like this already is returned as it is.

        Raises:
            ValueError: it was told to compute otherwise.
        """
        if isinstance(model.denoiser, Computing):
            if model.denoiser.arithmetic != self:
                raise ValueError(f"this model computes as {model.denoiser.arithmetic} says, and not as {self}")
            return model
        last = None if model.last_denoiser is None else Computing(model.last_denoiser, self)
        return replace(
            model, denoiser=Computing(model.denoiser, self), last_denoiser=last, state_dtype=self.state_dtype
        )


class Computing(nn.Module):
    """A denoiser that computes as it is told to.

    Args:
        denoiser: answers; its weights are converted in place.
        arithmetic: how.
    """

    def __init__(self, denoiser: Denoiser, arithmetic: Arithmetic) -> None:
        super().__init__()
        self.arithmetic, self.cost = arithmetic, denoiser.cost
        self.memory_format = torch.channels_last if arithmetic.channels_last else torch.contiguous_format
        if isinstance(denoiser, nn.Module):
            denoiser.to(arithmetic.state_dtype).to(memory_format=self.memory_format)
        if arithmetic.precision in ("bfloat16", "float16"):
            denoiser = Autocast(denoiser, getattr(torch, arithmetic.precision))
        self.denoiser = denoiser
        self.answer: Callable[..., Denoised] = torch.compile(denoiser) if arithmetic.compile else denoiser
        self.eval()

    def forward(self, x: Images, sigma: Level, condition: Condition | None) -> Denoised:
        """Denoise."""
        with tensor_float_32(self.arithmetic.tf32):
            return self.answer(x.contiguous(memory_format=self.memory_format), sigma, condition)


class Autocast(nn.Module):
    """A denoiser whose products are computed in half precision.

    Args:
        denoiser: answers.
        dtype: of the products.
    """

    def __init__(self, denoiser: Denoiser, dtype: torch.dtype) -> None:
        super().__init__()
        self.denoiser, self.dtype = denoiser, dtype
        self.cost = denoiser.cost

    def forward(self, x: Images, sigma: Level, condition: Condition | None) -> Denoised:
        """Denoise."""
        with torch.autocast(x.device.type, self.dtype):
            answer = self.denoiser(x, sigma, condition)
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
