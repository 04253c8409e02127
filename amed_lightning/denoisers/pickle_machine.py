"""A machine that follows a pickle's instructions without importing or calling anything.

The instructions act on a stack of plain values alone. What the pickle would import is looked up in a list of names and
stands for itself; what it would call becomes a :class:`Record` of the name and the arguments. So the list decides what
is understood, not what is dangerous.

Keys are words, because tuples inside tuples hash for ever and numbers can be made to collide.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from amed_lightning.config import InputError

NAMES = frozenset(
    {
        "collections.OrderedDict",
        "dnnlib.util.EasyDict",
        "numpy.dtype",
        "numpy._core.multiarray.scalar",
        "numpy.core.multiarray.scalar",
        "numpy._core.multiarray._reconstruct",
        "numpy.core.multiarray._reconstruct",
        "numpy.ndarray",
        "torch.BFloat16Storage",
        "torch.DoubleStorage",
        "torch.FloatStorage",
        "torch.HalfStorage",
        "torch.LongStorage",
        "torch._utils._rebuild_parameter",
        "torch._utils._rebuild_tensor_v2",
        "torch.nn.modules.activation.Sigmoid",
        "torch.nn.modules.container.ModuleDict",
        "torch.storage._load_from_bytes",
        "torch_utils.persistence._reconstruct_persistent_obj",
    }
)
"""What EDM's, EDM2's and AMED's pickles name, as far as it is known."""
SAMPLER = re.compile(r"solvers_amed\.\w+_sampler")
"""AMED's loss names its student's and its teacher's function."""
_MAPPINGS = {"collections.OrderedDict", "dnnlib.util.EasyDict"}


@dataclass(frozen=True)
class Name:
    """What a pickle would import."""

    path: str


@dataclass(eq=False)
class Record:
    """What a pickle would make of a call or a class.

    Attributes:
        name: import path of the function or class.
        arguments: of the call.
        state: what the pickle would set on the result.
    """

    name: str
    arguments: tuple[Any, ...]
    state: Any = None


@dataclass
class Machine:
    """The state of a running pickle.

    Attributes:
        stack: values since the last mark.
        below: the stacks before each mark.
        memo: values that the pickle comes back to.
    """

    stack: list[Any] = field(default_factory=list)
    below: list[list[Any]] = field(default_factory=list)
    memo: dict[int, Any] = field(default_factory=dict)

    def pop(self, count: int) -> list[Any]:
        """Take that many values off the stack, oldest first.

        Raises:
            IndexError: there are fewer.
        """
        if len(self.stack) < count:
            raise IndexError("the stack is too short")
        taken = self.stack[len(self.stack) - count :]
        del self.stack[len(self.stack) - count :]
        return taken

    def mark(self) -> None:
        """Start a new stack."""
        self.below.append(self.stack)
        self.stack = []

    def since_mark(self) -> list[Any]:
        """Take all values since the last mark."""
        taken, self.stack = self.stack, self.below.pop()
        return taken

    def enclose(self) -> None:
        """Put all values since the last mark on the stack, as a tuple."""
        values = tuple(self.since_mark())
        self.stack.append(values)

    def extend(self, values: list[Any]) -> None:
        """Append to the list on top."""
        target = self.stack[-1]
        _require(target, list)
        target.extend(values)

    def add(self, values: list[Any]) -> None:
        """Add to the set on top."""
        target = self.stack[-1]
        _require(target, set)
        for value in values:
            _require(value, str)
            target.add(value)

    def assign(self, values: list[Any]) -> None:
        """Set items of the mapping on top; keys and values alternate."""
        target = self.stack[-1]
        _require(target, dict)
        for key, value in zip(values[::2], values[1::2], strict=True):
            _require(key, str)
            target[key] = value

    def name(self, path: str) -> None:
        """Look up what the pickle would import.

        Raises:
            InputError: it is not on the list.
        """
        if path not in NAMES and not SAMPLER.fullmatch(path):
            raise InputError(f"a pickle that names {path[:80]!r}, which no network's file needs; nothing was run")
        self.stack.append(Name(path))

    def call(self) -> None:
        """Note what the pickle would call, or of which class it would make an instance."""
        function, arguments = self.pop(2)
        _require(function, Name)
        _require(arguments, tuple)
        is_mapping = function.path in _MAPPINGS and not arguments
        self.stack.append({} if is_mapping else Record(function.path, arguments))

    def build(self) -> None:
        """Note what the pickle would set on an object."""
        target, state = self.pop(2)
        _require(target, Record)
        target.state = state
        self.stack.append(target)


def _require(value: Any, kind: type) -> None:
    if not isinstance(value, kind):
        raise TypeError(f"{kind.__name__} expected, not {type(value).__name__}")


INSTRUCTIONS: dict[str, Callable[[Machine, Any], object]] = {
    **dict.fromkeys(("PROTO", "FRAME"), lambda machine, _: None),  # versions and frames mean nothing here
    **dict.fromkeys(("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"), lambda m, value: m.stack.append(value)),
    **dict.fromkeys(("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"), lambda m, value: m.stack.append(value)),
    **dict.fromkeys(("BINBYTES", "SHORT_BINBYTES", "BINBYTES8"), lambda m, value: m.stack.append(value)),
    **dict.fromkeys(("BINPUT", "LONG_BINPUT"), lambda m, index: m.memo.update({index: m.stack[-1]})),
    **dict.fromkeys(("BINGET", "LONG_BINGET"), lambda m, index: m.stack.append(m.memo[index])),
    "MEMOIZE": lambda m, _: m.memo.update({len(m.memo): m.stack[-1]}),
    "NONE": lambda m, _: m.stack.append(None),
    "NEWTRUE": lambda m, _: m.stack.append(True),
    "NEWFALSE": lambda m, _: m.stack.append(False),
    "EMPTY_TUPLE": lambda m, _: m.stack.append(()),
    "EMPTY_LIST": lambda m, _: m.stack.append([]),
    "EMPTY_DICT": lambda m, _: m.stack.append({}),
    "EMPTY_SET": lambda m, _: m.stack.append(set()),
    "MARK": lambda m, _: m.mark(),
    "TUPLE": lambda m, _: m.enclose(),
    "TUPLE1": lambda m, _: m.stack.append(tuple(m.pop(1))),
    "TUPLE2": lambda m, _: m.stack.append(tuple(m.pop(2))),
    "TUPLE3": lambda m, _: m.stack.append(tuple(m.pop(3))),
    "APPEND": lambda m, _: m.extend(m.pop(1)),
    "APPENDS": lambda m, _: m.extend(m.since_mark()),
    "ADDITEMS": lambda m, _: m.add(m.since_mark()),
    "SETITEM": lambda m, _: m.assign(m.pop(2)),
    "SETITEMS": lambda m, _: m.assign(m.since_mark()),
    "GLOBAL": lambda m, path: m.name(path.replace(" ", ".", 1)),
    "STACK_GLOBAL": lambda m, _: m.name(".".join(m.pop(2))),
    "REDUCE": lambda m, _: m.call(),
    "NEWOBJ": lambda m, _: m.call(),
    "BUILD": lambda m, _: m.build(),
    "BINPERSID": lambda m, _: m.stack.append(Record("persistent", tuple(m.pop(1)))),
}
"""What a pickle's instructions do; what a network's file does not need is not here."""
