"""Denoisers that compute as an :class:`~amed_lightning.denoisers.arithmetic.Arithmetic` says."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from typing import Any, TypeVar

import torch
from torch import nn

from amed_lightning.config import InputError
from amed_lightning.denoisers.arithmetic import Arithmetic
from amed_lightning.denoisers.around import Wrapper
from amed_lightning.flow.model import Condition, Denoised, Denoiser, DiffusionModel
from amed_lightning.tensors import Images, Level

Result = TypeVar("Result")
_MOST_GRAPHS = 1024
"""Of a process, a sweep's; PyTorch gives up compiling after 8."""


def computing(model: DiffusionModel, arithmetic: Arithmetic) -> DiffusionModel:
    """Return the model with its denoisers computing as they are told; its digest stays, the weights are converted.

    One that computes like this already is returned as it is.

    Raises:
        ValueError: it was told to compute otherwise.
    """
    if isinstance(model.denoiser, Computing):
        if model.denoiser.arithmetic != arithmetic:
            raise ValueError(f"this model computes as {model.denoiser.arithmetic} says, and not as {arithmetic}")
        return model
    last = None if model.last_denoiser is None else Computing(model.last_denoiser, arithmetic)
    dtype = getattr(torch, arithmetic.state_dtype)
    return replace(model, denoiser=Computing(model.denoiser, arithmetic), last_denoiser=last, state_dtype=dtype)


class Computing(Wrapper):
    """A denoiser that computes as it is told to.

    Args:
        denoiser: answers; its weights are converted in place, a copy's where they would lose digits.
        arithmetic: how.
    """

    def __init__(self, denoiser: Denoiser, arithmetic: Arithmetic) -> None:
        dtype = getattr(torch, arithmetic.state_dtype)
        if isinstance(denoiser, nn.Module) and any(
            each.dtype.itemsize > dtype.itemsize for each in denoiser.parameters()
        ):
            denoiser = deepcopy(denoiser)
        super().__init__(denoiser)
        self.arithmetic = arithmetic
        self.memory_format = torch.channels_last if arithmetic.channels_last else torch.contiguous_format
        if isinstance(denoiser, nn.Module):
            denoiser.to(dtype).to(memory_format=self.memory_format)
        if arithmetic.precision in ("bfloat16", "float16"):
            denoiser = Autocast(denoiser, getattr(torch, arithmetic.precision))
        self.denoiser = denoiser
        self.answer: Callable[..., Denoised] = compiled(denoiser) if arithmetic.compile is True else denoiser
        self.converted = self._precision
        self.eval()

    @property
    def _precision(self) -> torch.dtype | None:
        return next((weights.dtype for weights in self.parameters()), None)

    def forward(self, x: Images, sigma: Level, condition: Condition | None) -> Denoised:
        """Denoise.

        Raises:
            InputError: the weights have been converted for another sampler since.
        """
        if self._precision != self.converted:
            raise InputError(
                f"this model's weights are {self._precision} now, which another sampler of it computes in, and not "
                f"{self.converted}: load the model once for each precision"
            )
        with tensor_float_32(self.arithmetic.tf32):
            return self.answer(x.contiguous(memory_format=self.memory_format), sigma, condition)


def compiled(function: Callable[..., Result]) -> Callable[..., Result]:
    """Compile a function for each shape by itself.

    PyTorch would make one graph of the second and all that follow, which has other last digits: what a number is would
    depend on what its process has computed before.
    """
    torch._dynamo.config.recompile_limit = torch._dynamo.config.accumulated_recompile_limit = _MOST_GRAPHS
    return torch.compile(function, dynamic=False)


class Autocast(Wrapper):
    """A denoiser whose products are computed in half precision.

    Args:
        denoiser: answers.
        dtype: of the products.
    """

    def __init__(self, denoiser: Denoiser, dtype: torch.dtype) -> None:
        super().__init__(denoiser)
        self.dtype = dtype

    def forward(self, x: Images, sigma: Level, condition: Condition | None) -> Denoised:
        """Denoise."""
        with torch.autocast(x.device.type, self.dtype):
            answer = self.denoiser(x, sigma, condition)
        return replace(answer, image=answer.image.to(x.dtype), features=answer.features.to(x.dtype))


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
