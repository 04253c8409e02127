"""Foreign pickles, read without running them.

A pickle is a program: unpickling imports what it names and calls what it likes. Here its instructions are told apart by
pickletools and followed by the :class:`~amed_lightning.denoisers.pickle_machine.Machine`, which does neither. Lengths
never exceed the file, because it is read through a memory map, and the number of instructions is limited.
"""

import mmap
import pickletools
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from amed_lightning.config import InputError
from amed_lightning.denoisers.pickle_machine import INSTRUCTIONS, Machine

MAX_INSTRUCTIONS = 200_000
"""The largest of EDM's networks takes some 60,000; these take a third of a second."""


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


def interpret(stream: Stream, most: int | None = None) -> Any:
    """Return what the next pickle of a stream holds; the stream stands behind it then.

    Args:
        stream: to read from.
        most: instructions that it may have; ``MAX_INSTRUCTIONS`` if it is not said.

    Raises:
        InputError: it is damaged, names what is not on the list, or has an instruction that no such file needs.
    """
    machine, most = Machine(), most or MAX_INSTRUCTIONS
    try:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(stream)):  # type: ignore[arg-type]
            if count == most:
                raise InputError(f"a pickle of more than {most} instructions")
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
