"""A CUDA device that is not there.

Numbers stay in the machine's memory and are computed by the CPU's kernels, so every result is the CPU's, bit for bit.
But each storage lies on the CPU or on the device, tensors say so, and an operation on both raises what CUDA would
raise. Copies between the two, and the host's waiting for a number, are counted.

Two modes see what happens: one the calls from Python (``.to``, ``.device``, ``torch.zeros(..., device=...)``), the
other the operations that these come to, those of autograd included. Modes belong to a thread: what other threads do is
the CPU's.

The device cannot tell what its kernels would round differently. It has no generators (random numbers are the CPU's) and
no streams, and its autocast is the CPU's.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import astuple, dataclass, field, replace
from functools import partial
from typing import Any, ClassVar
from unittest import mock

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode

from . import rules
from .calls import Arguments, Call, Calls, Options
from .driver import driver
from .places import CPU, DEVICE, Residents, storage_of, wanted

GROUPS = "_group_tensors_by_device_and_dtype"
"""How PyTorch sorts weights by device, without a call that a mode sees."""


@dataclass
class Traffic:
    """What crossed between host and device.

    Attributes:
        to_device: copies of a tensor.
        to_host: copies of a tensor, for which the host waits too.
        waits: numbers and shapes for which the host waited.
        fetched: of the copies to the device, those for which the host does not wait.
    """

    to_device: int = 0
    to_host: int = 0
    waits: int = 0
    fetched: int = field(default=0, compare=False)

    @property
    def syncs(self) -> int:
        """How often the host stood still until the device had come so far."""
        return self.to_device - self.fetched + self.to_host + self.waits


class PretendedDevice:
    """The device, there as long as the ``with`` block lasts.

    Attributes:
        traffic: since the block began.
    """

    present: ClassVar["PretendedDevice | None"] = None
    residents: ClassVar[Residents] = Residents()
    """What a cache of the program keeps there still lies there when the device is pretended again."""

    def __init__(self) -> None:
        self.traffic = Traffic()
        self._askers: list[Callable[[], torch.device]] = []
        self._unchecked = 0

    def __enter__(self) -> "PretendedDevice":
        assert PretendedDevice.present is None
        with ExitStack() as stack:
            stack.enter_context(driver())
            stack.enter_context(mock.patch.object(torch._C, GROUPS, partial(self.grouped, getattr(torch._C, GROUPS))))
            stack.enter_context(_Operations(self))
            stack.enter_context(Calls(self))
            self._stack = stack.pop_all()
        PretendedDevice.present = self
        return self

    def __exit__(self, *error: Any) -> None:
        PretendedDevice.present = None
        self._stack.__exit__(*error)

    @contextmanager
    def counted(self) -> Iterator[Traffic]:
        """Count what crosses in a block; the answer is complete at its end."""
        before, within = replace(self.traffic), Traffic()
        yield within
        for name, then, now in zip(vars(within), astuple(before), astuple(self.traffic), strict=True):
            setattr(within, name, now - then)

    def place(self, value: Any) -> torch.device:
        """Return where a tensor lies, or the device if one of several does."""
        return DEVICE if any(tensor in self.residents for tensor in rules.tensors(value)) else CPU

    def put(self, value: Any, place: torch.device) -> None:
        """Let new tensors lie somewhere."""
        for tensor in rules.tensors(value):
            self.residents.put(storage_of(tensor), place)

    def moved(self, tensor: Tensor, place: torch.device, blocking: bool = True) -> Tensor:
        """Return a tensor, or a copy of it where it lies elsewhere; gradients come back."""
        if tensor.is_meta or self.place(tensor) == place:
            return tensor
        self.traffic.fetched += place == DEVICE and not blocking
        return _Crossing.apply(tensor, self, place)

    def copied(self, tensor: Tensor, place: torch.device) -> Tensor:
        """Copy a tensor from the other place, without its graph."""
        copy = torch.ops.aten.clone.default(tensor)
        self.put(copy, place)
        self.count_copy(place)
        return copy

    def count_copy(self, place: torch.device) -> None:
        """Count a copy by where it goes."""
        self.traffic.to_device += place == DEVICE
        self.traffic.to_host += place != DEVICE

    def called(self, func: Call, args: Arguments, options: Options) -> Any:
        """Answer a call from Python; the tensors that it makes lie where it says, or where its arguments lie."""
        place = wanted(func, options)
        return self.plain(func, args, options) if place is None else self.made_at(place, func, args, options)

    def plain(self, func: Call, args: Arguments, options: Options) -> Any:
        """Answer a call that names no place."""
        return self._asking(lambda: self.place((*args, *options.values())), func, args, options)

    def made_at(self, place: torch.device, func: Call, args: Arguments, options: Options) -> Any:
        """Answer a call whose tensors are new."""
        answer = self._asking(lambda: place, func, args, options | {"device": CPU})
        self.put(answer, place)
        return answer

    def _asking(self, place: Callable[[], torch.device], func: Call, args: Arguments, options: Options) -> Any:
        """Carry out a call; ``place`` is where what it makes out of nothing lies."""
        self._askers.append(place)
        try:
            return func(*args, **options)
        finally:
            self._askers.pop()

    def grouped(self, func: Call, lists: list[list[Tensor | None]], *options: Any) -> dict[tuple[Any, Any], Any]:
        """Answer what optimisers ask to take a step for many weights at once: their groups by place and precision."""
        groups: dict[tuple[Any, Any], Any] = func(lists, *options)
        return {(self.place(group[0][0]), dtype): (group, *rest) for (_, dtype), (group, *rest) in groups.items()}

    @contextmanager
    def unchecked(self) -> Iterator[None]:
        """Do not count what the host waits for, in calls that look at numbers on a CPU only."""
        self._unchecked += 1
        try:
            yield
        finally:
            self._unchecked -= 1

    def operated(self, func: OpOverload, args: Arguments, options: Options) -> Any:
        """Carry out an operation as the device would.

        Raises:
            RuntimeError: it takes tensors of both places, or a generator of the CPU for a tensor of the device.
        """
        residents, strangers = self._divided(rules.operands(func, args, options))
        if rules.name(func) == "copy":
            if residents and strangers:
                self.count_copy(place := self.place(args[0]))
                self.traffic.fetched += place == DEVICE and bool((*args, options.get("non_blocking"))[2])
            return func(*args, **options)
        if residents and strangers:
            self.traffic.to_device += _copies(func, strangers)
        if residents and not self._unchecked:
            self.traffic.waits += rules.waits(func, residents)
        if not (residents or (not strangers and self._askers and self._askers[-1]() == DEVICE)):
            return func(*args, **options)
        if any(isinstance(value, torch.Generator) for value in (*args, *options.values())):
            raise RuntimeError("Expected a 'cuda' device type for generator but found 'cpu'")
        answer = func(*args, **options)
        self.put(answer, DEVICE)
        return answer

    def _divided(self, operands: list[rules.Operand]) -> tuple[list[rules.Operand], list[rules.Operand]]:
        """Return the operands on the device, and those on the CPU."""
        places: tuple[list[rules.Operand], list[rules.Operand]] = ([], [])
        for operand in operands:
            places[operand.tensor not in self.residents].append(operand)
        return places


def _copies(func: OpOverload, strangers: list[rules.Operand]) -> int:
    """Return how many tensors of the CPU an operation copies to the device, where it does not refuse them."""
    copies = rules.copies(func, strangers)
    if copies is None:
        raise RuntimeError(
            "Expected all tensors to be on the same device, but found at least two devices, "
            f"{DEVICE} and {CPU}! (when checking arguments of {func})"
        )
    return copies


class _Crossing(torch.autograd.Function):
    """A copy from one place to the other, whose gradient goes back."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, machine: PretendedDevice, place: torch.device) -> Tensor:
        ctx.machine, ctx.back = machine, machine.place(tensor)
        return machine.copied(tensor, place)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return ctx.machine.copied(gradient, ctx.back), None, None


class _Operations(TorchDispatchMode):
    """What calls come to."""

    def __init__(self, machine: PretendedDevice) -> None:
        super().__init__()
        self.machine = machine

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if rules.is_composite(func):
            with self:
                return func.decompose(*args, **kwargs or {})
        return self.machine.operated(func, args, kwargs or {})


def _written(storage: Any) -> str | None:
    """Say where a storage lies, when it is saved."""
    machine, storage = PretendedDevice.present, getattr(storage, "_untyped_storage", storage)
    return str(DEVICE) if machine is not None and machine.residents.holds(storage) else None


def _read(storage: Any, location: str) -> Any:
    """Put a storage that was saved where it lay, or where its reader wants it."""
    machine = PretendedDevice.present
    if machine is None or not location.startswith(DEVICE.type):
        return None
    machine.residents.put(storage, DEVICE)
    return storage


torch.serialization.register_package(0, _written, _read)
