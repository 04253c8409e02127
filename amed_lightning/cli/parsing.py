"""What the verbs' parsers share: options, and errors of one line."""

import re
from pathlib import Path
from typing import Any, NoReturn

import jsonargparse

from amed_lightning.config import InputError, at_home
from amed_lightning.runtime.yaml_text import NAMELESS

PLAIN_WIDTH = 160
"""Columns of a table where there is no terminal."""
SEED_RANGE = re.compile("([0-9]{1,20})(?:-([0-9]{1,20}))?")
NOISE = ("Does not validate against", "Subtypes:", "Errors:", "Given value", "- Expected a <class 'NoneType'>")
"""How the lines begin that a parser adds around the one that names the key."""


class OneLineErrors:
    """A parser that ends bad input with one line instead of its usage and a report."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise the error.

        Raises:
            InputError: always.
        """
        lines = (line.strip() for line in message.replace(NAMELESS, "").splitlines())
        raise InputError(" ".join(line for line in lines if line and not line.startswith(NOISE))) from ex

    def parse_path(self, path: str | Path, *arguments: Any, **options: Any) -> jsonargparse.Namespace:
        """Parse a configuration.

        Raises:
            InputError: what is wrong with it, behind its name.
        """
        try:
            return super().parse_path(path, *arguments, **options)  # type: ignore[misc]  # of the parser beside this
        except UnicodeDecodeError as error:
            raise InputError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start})") from error
        except InputError as error:
            raise InputError(f"{path}: {error}") from error


class Parser(OneLineErrors, jsonargparse.ArgumentParser):
    """A parser of a verb's options, whose paths may begin at the home folder."""

    def parse_args(self, *arguments: Any, **options: Any) -> jsonargparse.Namespace:  # type: ignore[override]
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


def seed_range(seeds: object) -> range:
    """Read ``first-last`` or one number, from a command line or a YAML file.

    Raises:
        InputError: it is neither, or there is no such seed.

    >>> seed_range("0-63"), seed_range(7)
    (range(0, 64), range(7, 8))
    """
    from amed_lightning.seeds import SEEDS_PER_STREAM  # brings torch, which not every verb needs

    written = SEED_RANGE.fullmatch(str(seeds))
    first, last = (int(seed) for seed in (written[1], written[2] or written[1])) if written else (1, 0)
    if last < first:
        raise InputError(f"--seeds {seeds}: write a first and a last seed, like 0-63")
    if last >= SEEDS_PER_STREAM:
        raise InputError(f"--seeds {seeds}: the last seed there is is {SEEDS_PER_STREAM - 1}")
    return range(first, last + 1)
