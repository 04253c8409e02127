"""What the verbs' parsers share: options, and errors of one line."""

from typing import Any, NoReturn

import jsonargparse

from amed_lightning.config import InputError, at_home

PLAIN_WIDTH = 160
"""Columns of a table where there is no terminal."""
NOISE = ("Does not validate against", "Subtypes:", "Errors:", "Given value", "- Expected a <class 'NoneType'>")
"""How the lines begin that a parser adds around the one that names the key."""


class OneLineErrors:
    """A parser that ends bad input with one line instead of its usage and a report."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise the error.

        Raises:
            InputError: always.
        """
        lines = (line.strip() for line in message.splitlines())
        raise InputError(" ".join(line for line in lines if line and not line.startswith(NOISE))) from ex


class Parser(OneLineErrors, jsonargparse.ArgumentParser):
    """A parser of a verb's options, whose paths may begin at the home folder."""

    def parse_args(self, *arguments: Any, **options: Any) -> jsonargparse.Namespace:
        """Parse the command line and the configurations that it names."""
        return at_home(super().parse_args(*arguments, **options))


def parser_for(verb: str, description: str) -> Parser:
    """Return a parser that says where to compute.

    Args:
        verb: as it is typed.
        description: of what it does.
    """
    parser = Parser(prog=f"amed-lightning {verb}", description=description)
    parser.add_argument("--accelerator", default="auto", help="cpu, gpu, or auto")
    return parser


def seed_range(text: str) -> range:
    """Read ``first-last`` or one number.

    Raises:
        InputError: it is neither, or there is no such seed.

    >>> seed_range("0-63")
    range(0, 64)
    """
    from amed_lightning.seeds import SEEDS_PER_STREAM  # brings torch, which not every verb needs

    first, _, last = text.partition("-")
    if not first.isdigit() or not (last or first).isdigit() or int(last or first) < int(first):
        raise InputError(f"--seeds {text}: write a first and a last seed, like 0-63")
    if int(last or first) >= SEEDS_PER_STREAM:
        raise InputError(f"--seeds {text}: the last seed there is is {SEEDS_PER_STREAM - 1}")
    return range(int(first), int(last or first) + 1)
