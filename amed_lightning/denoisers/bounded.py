"""A network is not larger than its file: what a configuration asks for beyond that is refused while it is built."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from amed_lightning.config import InputError

_MOST_PARAMETERS = 20_000
"""Tensors of a network; the largest here has some 2,000."""


@contextmanager
def no_larger_than(size: int) -> Iterator[None]:
    """Refuse, in this block, to build what its file cannot hold; its numbers have not been touched then.

    Args:
        size: of the file of weights, in bytes.

    Raises:
        InputError: a network of more numbers than bytes, or of too many tensors.
    """
    tensors, numbers = _MOST_PARAMETERS, size

    def count(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        nonlocal tensors, numbers
        if parameter is not None:
            tensors, numbers = tensors - 1, numbers - parameter.numel()
        if min(tensors, numbers) < 0:
            raise InputError(f"its configuration asks for a larger network than its {size} bytes of weights hold")

    hook = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        hook.remove()
