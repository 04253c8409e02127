"""What an operation may do with tensors of two devices, and when it waits for one of them.

CUDA's kernels take all tensors on one device. The exceptions, each from PyTorch's own sources (version 2.11 to 2.15):

- a pointwise operation takes one 0-dimensional CPU tensor that it does not write to, as if it were a number; of the
  ternary ones, ``addcmul`` takes it as its last factor and ``lerp`` as its weight only, ``addcdiv`` and ``clamp`` not;
- ``where`` takes any number of them and copies each;
- ``masked_fill``, ``index_fill``, ``fill_`` and ``index_put`` take one as the value;
- indices on the CPU may index a tensor of the device, and are copied;
- ``copy_`` crosses.

An operation waits where its answer is a number or has a shape that the numbers decide.
"""

from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch._ops import OpOverload

SCALARS = {
    "addcmul": ("tensor2",),
    "lerp": ("weight",),
    "addcdiv": (),
    "clamp": (),
    "masked_fill": ("value",),
    "index_fill": ("value",),
    "fill": ("value",),
    "index_put": ("values",),
}
"""Arguments that may be a CPU scalar, of operations that are not plainly pointwise."""
INDEXING = ("index", "index_put", "_index_put_impl")
CHECKED = ("_linalg_check_errors", "_linalg_eigh", "_linalg_svd", "linalg_eig")
"""Operations that wait though PyTorch has no tag that says so."""


class Operand(NamedTuple):
    """A tensor among an operation's arguments.

    Attributes:
        name: of the argument.
        tensor: itself, or one of a list.
        is_written: whether the operation writes to it.
    """

    name: str
    tensor: Tensor
    is_written: bool


def operands(func: OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Operand]:
    """Return the tensors that an operation was given."""
    found = []
    for index, (name, is_written) in enumerate(_arguments(func)):
        value = args[index] if index < len(args) else kwargs.get(name)
        if isinstance(value, Tensor):
            found.append(Operand(name, value, is_written))
        elif isinstance(value, list | tuple):
            found += [Operand(name, tensor, is_written) for tensor in tensors(value)]
    return found


@cache
def _arguments(func: OpOverload) -> list[tuple[str, bool]]:
    """Return the arguments' names, and whether the operation writes to them."""
    aliases = [(argument.name, argument.alias_info) for argument in func._schema.arguments]
    return [(name, alias is not None and alias.is_write) for name, alias in aliases]


def tensors(value: Any) -> Iterator[Tensor]:
    """Yield the tensors in nested lists and tuples."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for part in value:
            yield from tensors(part)


@cache
def is_composite(func: OpOverload) -> bool:
    """Whether an operation is others on every device; in inference mode these arrive whole."""
    implicit, on_cpu = (
        torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), key) for key in ("CompositeImplicitAutograd", "CPU")
    )
    return implicit and not on_cpu


@cache
def name(func: OpOverload) -> str:
    """Return an operation's name without what marks that it is in place."""
    return func.overloadpacket.__name__.removesuffix("_")


def copies(func: OpOverload, strangers: list[Operand]) -> int | None:
    """Return how many copies to the device an operation makes of its CPU tensors, or None where it refuses them.

    Args:
        func: has tensors of the device too.
        strangers: the others.
    """
    own = name(func)
    if own in INDEXING:
        values = [stranger for stranger in strangers if stranger.name != "indices"]
        refused = any(not _is_scalar(value) or value.name != "values" for value in values)
        return None if refused else len(strangers)
    if not all(map(_is_scalar, strangers)):
        return None
    if own == "where":
        return len(strangers)
    allowed = SCALARS.get(own)
    if allowed is None and torch.Tag.pointwise in func.tags:
        allowed = tuple(stranger.name for stranger in strangers)
    return 0 if len(strangers) == 1 and strangers[0].name in (allowed or ()) else None


def waits(func: OpOverload, residents: list[Operand]) -> bool:
    """Whether an operation keeps the host waiting for one of its tensors on the device."""
    if name(func) in INDEXING:
        return any(each.name == "indices" and each.tensor.dtype in (torch.bool, torch.uint8) for each in residents)
    return _decides(func)


@cache
def _decides(func: OpOverload) -> bool:
    """Whether the numbers decide an operation's answer or its shape before the host can go on."""
    tagged = torch.Tag.data_dependent_output in func.tags or torch.Tag.dynamic_output_shape in func.tags
    return tagged or name(func) in CHECKED


def _is_scalar(operand: Operand) -> bool:
    return operand.tensor.ndim == 0 and not operand.is_written
