"""Modules and tensors in pickles of EDM's persistent classes, from the records that a pickle was read into.

An object of such a class is pickled as one mapping: the source of its class, which is ignored here, the name of the
class, and the object's attributes. Joining names through ``_modules`` gives the names of a state dict.

A tensor is a view of a storage; a storage is bytes that ``torch.save`` wrote in its first format: a magic number, a
version, the system, a reference that says type and length, the list of references, then the length and the numbers.
"""

import io
import math
import struct
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from amed_lightning.config import InputError
from amed_lightning.denoisers.pickle_machine import Name, Record
from amed_lightning.denoisers.pickles import interpret

RECONSTRUCT = "torch_utils.persistence._reconstruct_persistent_obj"
MAGIC, VERSION = 0x1950A86A20F9469CFC6C, 1001
LENGTH = struct.Struct("<q")
MAX_DEPTH, MAX_MODULES = 32, 20_000
"""Modules inside one another, and in all; one that a pickle names twice counts twice."""
_INSTRUCTIONS_OF_STORAGE = 100
"""Of each of the five pickles before a storage's numbers, which have ten or so."""
_DTYPES = {
    "torch.BFloat16Storage": torch.bfloat16,
    "torch.DoubleStorage": torch.float64,
    "torch.FloatStorage": torch.float32,
    "torch.HalfStorage": torch.float16,
    "torch.LongStorage": torch.int64,
}


def persistent(value: Any) -> tuple[str, dict[str, Any]]:
    """Return the class and the attributes of an object of a persistent class.

    Raises:
        InputError: it is something else.
    """
    match value:
        case Record(name=path, arguments=({"type": "class", "class_name": str() as kind, "state": dict() as state},)):
            if path == RECONSTRUCT:
                return kind, state
    raise InputError("not an object of a persistent class where one is expected")


def held(content: Any, key: str, kinds: Collection[str], otherwise: str) -> tuple[Any, str, dict[str, Any]]:
    """Return an object that a pickle's mapping holds, its class and its attributes.

    Args:
        content: of the pickle.
        key: of the object in the mapping.
        kinds: the classes that it may be of.
        otherwise: what to conclude where there is no such key.

    Raises:
        InputError: there is no such key, or an object of another class.
    """
    if not isinstance(content, dict) or key not in content:
        raise InputError(f"there is no '{key}', so it is {otherwise}")
    found, state = persistent(content[key])
    if found not in kinds:
        raise InputError(f"a {found!r:.80} where an {' or '.join(kinds)} is expected")
    return content[key], found, state


@dataclass
class TensorReader:
    """Makes tensors of records.

    Attributes:
        left: bytes that its tensors may still take; a file that is smaller than its tensors repeats them.
        modules: how many may still come; each may be inside another twice, and those that it holds so four times.
    """

    left: int
    modules: int = MAX_MODULES

    def tensors(self, module: Any, prefix: str = "", depth: int = 0) -> Iterator[tuple[str, Tensor]]:
        """Yield the parameters and buffers of a module and the modules inside it, as in a state dict.

        Raises:
            InputError: something is no module or no tensor.
        """
        if depth > MAX_DEPTH:
            raise InputError(f"modules inside modules inside modules, more than {MAX_DEPTH} deep")
        self.modules -= 1
        if self.modules < 0:
            raise InputError(f"more than {MAX_MODULES} modules, counted as often as they are named")
        state = module.state if isinstance(module, Record) and module.state else persistent(module)[1]
        for kind in ("_parameters", "_buffers"):
            for name, value in _mapping(state, kind).items():
                if value is not None:
                    yield f"{prefix}{name}", self.tensor(value)
        for name, child in _mapping(state, "_modules").items():
            if child is not None:
                yield from self.tensors(child, f"{prefix}{name}.", depth + 1)

    def tensor(self, value: Any) -> Tensor:
        """Return the tensor of a record.

        Raises:
            InputError: it is none, or reaches beyond its storage.
        """
        match value:
            case Record(name="torch._utils._rebuild_parameter", arguments=(Record() as inner, *_)):
                value = inner
        match value:
            case Record(
                name="torch._utils._rebuild_tensor_v2",
                arguments=(Record(name="torch.storage._load_from_bytes", arguments=(bytes() as saved,)), *view),
            ):
                return _view(self._storage(saved), *view[:3])
        raise InputError("not a tensor where one is expected")

    def _storage(self, saved: bytes) -> Tensor:
        """Return all numbers of a storage."""
        self.left -= len(saved)
        if self.left < 0:
            raise InputError("tensors that take more room than the file")
        stream = io.BytesIO(saved)
        magic, version, _, reference, _ = (interpret(stream, _INSTRUCTIONS_OF_STORAGE) for _ in range(5))
        start = stream.tell() + LENGTH.size
        match reference:
            case Record(name="persistent", arguments=(("storage", Name(path=kind), _, _, int() as count, None),)) if (
                (magic, version) == (MAGIC, VERSION)
                and kind in _DTYPES
                and count > 0
                and len(saved) == start + count * _DTYPES[kind].itemsize
                and LENGTH.unpack_from(saved, start - LENGTH.size) == (count,)
            ):
                return torch.frombuffer(bytearray(saved), dtype=_DTYPES[kind], offset=start, count=count)
        raise InputError("a damaged storage of a tensor")


def _view(flat: Tensor, offset: Any, size: Any, stride: Any) -> Tensor:
    """Return the part of a storage that a tensor is."""
    match offset, size, stride:
        case int(), tuple(), tuple() if len(size) == len(stride):
            plain = all(isinstance(number, int) and number >= 0 for number in (offset, *size, *stride))
            if plain and math.prod(size) <= len(flat):
                last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
                if last < len(flat):
                    return flat.as_strided(size, stride, offset)
    raise InputError("a tensor that reaches beyond its storage")


def _mapping(state: Any, name: str) -> dict[str, Any]:
    value = state.get(name, {}) if isinstance(state, dict) else None
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise InputError(f"not a module: its {name} are no mapping of names")
    return value
