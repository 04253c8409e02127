"""The two places where a storage can lie, how calls name them, and who lies where."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils import _device as default

CPU, DEVICE = torch.device("cpu"), torch.device("cuda", 0)


class Residents:
    """The storages on the device; a weak reference keeps the address of each from being given to another."""

    def __init__(self) -> None:
        self._held: dict[int, StorageWeakRef] = {}
        self._room = 1000

    def __contains__(self, tensor: Tensor) -> bool:
        storage = storage_of(tensor)
        return storage is not None and self.holds(storage)

    def holds(self, storage: torch.UntypedStorage) -> bool:
        """Whether a storage lies on the device."""
        return storage._cdata in self._held

    def put(self, storage: torch.UntypedStorage | None, place: torch.device) -> None:
        """Let a storage lie on the device, or on the CPU."""
        if storage is None:
            return
        if place != DEVICE:
            self._held.pop(storage._cdata, None)
            return
        if self.holds(storage):
            return
        self._held[storage._cdata] = StorageWeakRef(storage)
        if len(self._held) > self._room:
            self._held = {address: held for address, held in self._held.items() if not held.expired()}
            self._room = max(1000, 2 * len(self._held))


def storage_of(tensor: Tensor) -> torch.UntypedStorage | None:
    """Return what a tensor is a view of, if it has numbers."""
    with torch._C.DisableTorchFunction():
        assert tensor.layout == torch.strided, "only dense tensors are pretended"
        return None if tensor.is_meta else tensor.untyped_storage()


def wanted(func: Callable[..., Any], options: dict[str, Any]) -> torch.device | None:
    """Return the place that a call names, or that a ``with torch.device(...)`` around it does."""
    named = options.get("device")
    if named is None and func in default._device_constructors():
        named = default.CURRENT_DEVICE
    return None if named is None else known(named)


def known(named: Any) -> torch.device | None:
    """Return the CPU or the device by any of its names, and None for what is neither.

    Raises:
        RuntimeError: it is a device of this kind, but another one.
    """
    device = torch.device(named)
    if device.type not in (CPU.type, DEVICE.type):
        return None
    if device.index:
        raise RuntimeError(f"CUDA error: invalid device ordinal: {device}")
    return torch.device(device.type, 0) if device.type == DEVICE.type else CPU
