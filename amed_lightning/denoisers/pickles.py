"""Foreign pickles, read without running them.

A pickle is a program: unpickling imports what it names and calls what it likes. Here its instructions act on a stack of
plain values alone. What the program would import is looked up in a list of names and stands for itself; what it would
call becomes a :class:`Record` of the name and the arguments. Nothing is imported, called or given attributes, whatever
a file says, so the list decides what is understood, not what is dangerous.

Lengths in a file never exceed the file, because it is read through a memory map; the number of instructions is
limited; and keys are plain, because hashing a tuple of tuples of the same tuple takes for ever.
"""

import mmap
import pickletools
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from amed_lightning.config import InputError

MAX_INSTRUCTIONS = 1_000_000
"""The largest of EDM's networks takes some 60,000."""

NAMES = frozenset(
    {
        "collections.OrderedDict",
        "dnnlib.util.EasyDict",
        "numpy.dtype",
        "numpy._core.multiarray.scalar",
        "numpy.core.multiarray.scalar",
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
"""What EDM's and AMED's pickles name, as far as it is known."""
SAMPLER = re.compile(r"solvers_amed\.\w+_sampler")
"""AMED's loss names its student's and its teacher's function."""
MAPPINGS = {"collections.OrderedDict", "dnnlib.util.EasyDict"}


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


@runtime_checkable
class Stream(Protocol):
    """A file, a memory map or bytes in memory."""

    def read(self, size: int = ..., /) -> bytes: ...

    def readline(self) -> bytes: ...


def read_pickle(path: Path) -> Any:
    """Return what a pickle holds: plain values, and records in place of everything else.

    Raises:
        InputError: a missing or damaged file, one that names what is not on the list, or one with an instruction that
            no network's file needs.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    if not path.stat().st_size:
        raise InputError(f"{path}: empty")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        try:
            return interpret(content)
        except InputError as error:
            raise InputError(f"{path}: {error}") from error


def interpret(stream: Stream) -> Any:
    """Return what the next pickle of a stream holds; the stream stands behind it then.

    Raises:
        InputError: it is damaged, names what is not on the list, or has an instruction that no such file needs.
    """
    machine = Machine()
    try:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(stream)):  # type: ignore[arg-type]
            if count == MAX_INSTRUCTIONS:
                raise InputError(f"a pickle of more than {MAX_INSTRUCTIONS} instructions")
            if opcode.name == "STOP":
                return machine.stack.pop()
            if opcode.name not in INSTRUCTIONS:
                raise InputError(f"a pickle with {opcode.name}, which no network's file needs")
            INSTRUCTIONS[opcode.name](machine, argument)
    except InputError:
        raise
    except (ValueError, IndexError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"not a pickle, or a damaged one: {error}") from error
    raise InputError("a pickle without an end")


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

    def push(self, value: Any) -> None:
        """Put a value on the stack."""
        self.stack.append(value)

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

    def mark(self, _: None) -> None:
        """Start a new stack."""
        self.below.append(self.stack)
        self.stack = []

    def since_mark(self) -> list[Any]:
        """Take all values since the last mark."""
        taken, self.stack = self.stack, self.below.pop()
        return taken

    def extend(self, values: list[Any]) -> None:
        """Append to the list on top."""
        target = self.stack[-1]
        _require(target, list)
        target.extend(values)

    def add(self, values: list[Any]) -> None:
        """Add to the set on top."""
        target = self.stack[-1]
        _require(target, set)
        target.update(_plain(value) for value in values)

    def assign(self, values: list[Any]) -> None:
        """Set items of the mapping on top; keys and values alternate."""
        target = self.stack[-1]
        _require(target, dict)
        for key, value in zip(values[::2], values[1::2], strict=True):
            target[_plain(key)] = value

    def name(self, path: str) -> None:
        """Look up what the pickle would import.

        Raises:
            InputError: it is not on the list.
        """
        if path not in NAMES and not SAMPLER.fullmatch(path):
            raise InputError(f"a pickle that names {path[:80]!r}, which no network's file needs; nothing was run")
        self.push(Name(path))

    def call(self, _: None) -> None:
        """Note what the pickle would call, or of which class it would make an instance."""
        function, arguments = self.pop(2)
        _require(function, Name)
        _require(arguments, tuple)
        is_mapping = function.path in MAPPINGS and not arguments
        self.push({} if is_mapping else Record(function.path, arguments))

    def build(self, _: None) -> None:
        """Note what the pickle would set on an object."""
        target, state = self.pop(2)
        _require(target, Record)
        target.state = state
        self.push(target)


def _require(value: Any, kind: type) -> None:
    if not isinstance(value, kind):
        raise TypeError(f"{kind.__name__} expected, not {type(value).__name__}")


def _plain(key: Any) -> Any:
    """Return a key whose hash takes no time."""
    if not isinstance(key, str | int | float | None):
        raise TypeError(f"a key is plain, not a {type(key).__name__}")
    return key


def _memoize(machine: Machine, index: int | None) -> None:
    machine.memo[len(machine.memo) if index is None else index] = machine.stack[-1]


def _constant(value: Any) -> Callable[[Machine, Any], None]:
    return lambda machine, _: machine.push(value)


def _argument(machine: Machine, argument: Any) -> None:
    machine.push(argument)


def _nothing(machine: Machine, argument: Any) -> None:
    """Versions and frames mean nothing here."""


INSTRUCTIONS: dict[str, Callable[[Machine, Any], None]] = {
    **dict.fromkeys(("PROTO", "FRAME"), _nothing),
    **dict.fromkeys(("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"), _argument),
    **dict.fromkeys(("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"), _argument),
    **dict.fromkeys(("BINBYTES", "SHORT_BINBYTES", "BINBYTES8"), _argument),
    **dict.fromkeys(("BINPUT", "LONG_BINPUT", "MEMOIZE"), _memoize),
    **dict.fromkeys(("BINGET", "LONG_BINGET"), lambda machine, index: machine.push(machine.memo[index])),
    "NONE": _constant(None),
    "NEWTRUE": _constant(True),
    "NEWFALSE": _constant(False),
    "EMPTY_TUPLE": _constant(()),
    "EMPTY_LIST": lambda machine, _: machine.push([]),
    "EMPTY_DICT": lambda machine, _: machine.push({}),
    "EMPTY_SET": lambda machine, _: machine.push(set()),
    "MARK": Machine.mark,
    "TUPLE": lambda machine, _: machine.push(tuple(machine.since_mark())),
    "TUPLE1": lambda machine, _: machine.push(tuple(machine.pop(1))),
    "TUPLE2": lambda machine, _: machine.push(tuple(machine.pop(2))),
    "TUPLE3": lambda machine, _: machine.push(tuple(machine.pop(3))),
    "APPEND": lambda machine, _: machine.extend(machine.pop(1)),
    "APPENDS": lambda machine, _: machine.extend(machine.since_mark()),
    "ADDITEMS": lambda machine, _: machine.add(machine.since_mark()),
    "SETITEM": lambda machine, _: machine.assign(machine.pop(2)),
    "SETITEMS": lambda machine, _: machine.assign(machine.since_mark()),
    "GLOBAL": lambda machine, path: machine.name(path.replace(" ", ".", 1)),
    "STACK_GLOBAL": lambda machine, _: machine.name(".".join(machine.pop(2))),
    "REDUCE": Machine.call,
    "NEWOBJ": Machine.call,
    "BUILD": Machine.build,
    "BINPERSID": lambda machine, _: machine.push(Record("persistent", tuple(machine.pop(1)))),
}
"""What a pickle's instructions do; what a network's file does not need is not here."""
