"""Calls from Python that are answered otherwise than by the operations that they come to.

Such are those that ask where a tensor lies, that move it, that read its numbers, and that make one out of numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import _disable_current_modes

from .places import CPU, DEVICE, known, wanted

if TYPE_CHECKING:
    from .device import PretendedDevice

Call = Callable[..., Any]
Arguments = tuple[Any, ...]
Options = dict[str, Any]


class Calls(TorchFunctionMode):
    """Calls from Python."""

    def __init__(self, machine: PretendedDevice) -> None:
        super().__init__()
        self.machine = machine

    def __torch_function__(self, func, types, args=(), kwargs=None):
        answer = ANSWERS.get(func)
        if answer is not None:
            return answer(self.machine, func, args, kwargs or {})
        # An attribute makes nothing out of nothing, and most calls ask for one.
        return func(*args) if func.__name__ == "__get__" else self.machine.called(func, args, kwargs or {})


def _says(fact: Any) -> Call:
    """Let a tensor of the device say so."""
    return lambda machine, func, args, options: fact if args[0] in machine.residents else func(*args, **options)


def _refuses(machine: PretendedDevice, func: Call, args: Arguments, options: Options) -> Any:
    if args[0] in machine.residents:
        raise TypeError(
            f"can't convert {DEVICE} device type tensor to numpy. "
            "Use Tensor.cpu() to copy the tensor to host memory first."
        )
    return machine.plain(func, args, options)


def _to_list(machine: PretendedDevice, func: Call, args: Arguments, options: Options) -> Any:
    machine.traffic.to_host += args[0] in machine.residents
    return machine.plain(func, args, options)


def _to(machine: PretendedDevice, func: Call, args: Arguments, options: Options) -> Tensor:
    tensor, *rest = args
    first = rest[0] if rest else None
    other = first if isinstance(first, Tensor) else options.get("other")
    named = first if isinstance(first, torch.device | str | int) else options.get("device")
    blocking = not options.get("non_blocking", False)
    if named is None:
        place = machine.place(tensor if other is None else other)
        return machine.moved(machine.plain(func, args, options), place, blocking)
    if (place := known(named)) is None:
        return machine.plain(func, args, options)
    rest = [CPU if value is named else value for value in rest]
    options = options | ({"device": CPU} if "device" in options else {})
    return machine.moved(machine.plain(func, (tensor, *rest), options), place, blocking)


def _to_device(machine: PretendedDevice, func: Call, args: Arguments, options: Options) -> Tensor:
    return machine.moved(args[0], DEVICE)


def _to_cpu(machine: PretendedDevice, func: Call, args: Arguments, options: Options) -> Tensor:
    return machine.moved(machine.plain(func, args, options), CPU)


def _from_data(machine: PretendedDevice, func: Call, args: Arguments, options: Options) -> Tensor:
    """Out of numbers, which are copied to the device, or out of a tensor."""
    place = wanted(func, options)
    if place is None:
        return machine.plain(func, args, options)
    if isinstance(args[0], Tensor):
        return machine.moved(machine.plain(func, args, options | {"device": CPU}), place)
    machine.traffic.to_device += place == DEVICE
    return machine.made_at(place, torch.tensor if place == DEVICE else func, args, options)


def _beside(machine: PretendedDevice, func: Call, args: Arguments, options: Options) -> Tensor:
    """Out of numbers, in the place of another tensor."""
    if machine.place(args[0]) == CPU:
        return machine.plain(func, args, options)
    return _from_data(machine, func, args[1:], {"dtype": args[0].dtype, "device": machine.place(args[0])} | options)


def _deep_copy(machine: PretendedDevice, func: Call, args: Arguments, options: Options) -> Tensor:
    tensor, copy = args[0], machine.plain(func, args, options)
    for old, new in ((tensor, copy), (tensor.grad, copy.grad)):
        machine.put(new, machine.place(old))
    return copy


def _one_hot(machine: PretendedDevice, func: Call, args: Arguments, options: Options) -> Tensor:
    """It looks for labels out of range on a CPU only; on the device it waits where the largest tells their number."""
    machine.traffic.waits += args[0] in machine.residents and len(args) == 1 and not options
    with machine.unchecked():
        return machine.plain(func, args, options)


def _eigenvalues(machine: PretendedDevice, func: Call, args: Arguments, options: Options) -> Tensor:
    """Where a mode is on, PyTorch computes the vectors too, and rounds the values otherwise: on the CPU it is not."""
    if args[0] in machine.residents:
        return machine.plain(func, args, options)
    with _disable_current_modes():
        return func(*args, **options)


ANSWERS: dict[Any, Call] = {
    Tensor.device.__get__: _says(DEVICE),
    Tensor.is_cuda.__get__: _says(True),
    Tensor.is_cpu.__get__: _says(False),
    Tensor.get_device: _says(0),
    Tensor.to: _to,
    Tensor.cuda: _to_device,
    Tensor.cpu: _to_cpu,
    Tensor.numpy: _refuses,
    Tensor.__array__: _refuses,
    Tensor.tolist: _to_list,
    Tensor.new_tensor: _beside,
    Tensor.__deepcopy__: _deep_copy,
    torch.tensor: _from_data,
    torch.as_tensor: _from_data,
    torch.asarray: _from_data,
    torch.nn.functional.one_hot: _one_hot,
    torch.linalg.eigvalsh: _eigenvalues,
}
"""Calls that are answered otherwise than by what they come to."""
