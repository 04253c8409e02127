"""What the verbs' parsers share: options, errors of one line, and pages of help without types."""

import re
from argparse import SUPPRESS, Action
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, NoReturn, get_args

import jsonargparse

from amed_lightning.config import InputError, at_home, not_utf_8
from amed_lightning.runtime.wording import worded
from amed_lightning.runtime.yaml_text import NAME, NAMELESS, PARTS

PLAIN_WIDTH = 160
"""Columns of a table where there is no terminal."""
_SEED_RANGE = re.compile("([0-9]{1,20})(?:-([0-9]{1,20}))?")
ENVIRONMENT = "AMED_"


class OneLineErrors:
    """A parser that ends bad input with one line instead of its usage and a report."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise the error.

        Raises:
            InputError: always.
        """
        raise InputError(worded(message.replace(NAMELESS, ""), _keys(self))) from ex

    def parse_path(self, path: str | Path, *arguments: Any, **options: Any) -> jsonargparse.Namespace:
        """Parse a configuration.

        Raises:
            InputError: what is wrong with it, behind its name.
        """
        try:
            return super().parse_path(path, *arguments, **options)  # type: ignore[misc]  # of the parser beside this
        except UnicodeDecodeError as error:
            raise not_utf_8(path, error) from error
        except InputError as error:
            raise InputError(f"{path}: {error}") from error


class _Page(jsonargparse.DefaultHelpFormatter):
    """A page of help that says what an option is for, and its default, and nothing of types."""

    def _format_args(self, action: Action, default_metavar: str | None) -> str:
        """Return what an option's value looks like."""
        return super()._format_args(action, default_metavar or "").replace(",null}", "}")

    def _get_help_string(self, action: Action) -> str:
        """Return an option's line."""
        text = (action.help or "").replace("``", "`")
        if action.required:
            return f"{text} (required)"
        if not action.option_strings or action.default in (None, False, SUPPRESS, [], ""):
            return text
        return text if "default" in text else f"{text} (default: %(default)s)"


class Parser(OneLineErrors, jsonargparse.ArgumentParser):
    """A parser of a verb's options, whose paths may begin at the home folder.

    Args:
        options: of jsonargparse's.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(formatter_class=_Page, allow_abbrev=False, **options)

    def parse_args(self, args: Sequence[str], **options: Any) -> jsonargparse.Namespace:  # type: ignore[override]
        """Parse the command line and the configurations that it names."""
        return at_home(super().parse_args(parts_spelled_out(args), **options))

    @property
    def keys(self) -> list[str]:
        """What it takes, with dots between a group and its keys."""
        return _keys(self)


def variable(command: str, key: str) -> str:
    """Return the name of the variable that sets an option.

    >>> variable("bench run", "num_nodes"), variable("sample", "sampler.nfe")
    ('AMED_BENCH_RUN__NUM_NODES', 'AMED_SAMPLE__SAMPLER__NFE')
    """
    return f"{ENVIRONMENT}{command.replace(' ', '_')}__{key.replace('.', '__').replace('-', '_')}".upper()


def parts_spelled_out(arguments: Sequence[str]) -> list[str]:
    """Put a part in the place of its name where an option takes one; another name has none of the last one's options.

    >>> parts_spelled_out(["--sampler.model", "digits", "--detector=digits"])
    ['--sampler.model', '{name: digits}', '--detector={name: digits}']
    >>> parts_spelled_out(["--schedule.rho", "5", "--schedule.name", "polynomial"])
    ['--schedule={name: polynomial}', '--schedule.rho', '5']
    """
    done: list[str] = []
    for argument in _names_first(arguments):
        option, is_assigned, value = argument.partition("=")
        if is_assigned and _takes_part(option) and NAME.fullmatch(value):
            argument = f"{option}={{name: {value}}}"
        elif done and _takes_part(done[-1]) and NAME.fullmatch(argument):
            argument = f"{{name: {argument}}}"
        done.append(argument)
    return done


def _names_first(arguments: Sequence[str]) -> list[str]:
    """Put the name of a part, told as an option of its own, before its options: it begins the part anew."""
    done: list[str] = []
    words = iter(arguments)
    for word in words:
        option, is_assigned, value = word.partition("=")
        part = option.removesuffix(".name")
        if part == option or not _takes_part(part) or not (name := value if is_assigned else next(words, "")):
            done.append(word)
            continue
        place = next((index for index, told in enumerate(done) if told.startswith(f"{part}.")), len(done))
        done.insert(place, f"{part}={{name: {name}}}")
    return done


def _takes_part(option: str) -> bool:
    return option.startswith("--") and option.lstrip("-").rpartition(".")[2] in PARTS


def _keys(parser: Any) -> list[str]:
    """Return what a parser takes, groups' keys with dots, those of a group that is read as one value included."""
    keys = []
    if (verbs := getattr(parser, "_subcommands_action", None)) is not None:  # LightningCLI's
        return list(dict.fromkeys(key for each in verbs._name_parser_map.values() for key in _keys(each)))
    for action in parser._actions:
        names = [name[2:] for name in action.option_strings if name.startswith("--") and not name.endswith("+")]
        keys += [] if action.dest.startswith(("help", "print_")) else names
        for form in get_args(getattr(action, "_typehint", None)):
            keys += [field.name for field in fields(form)] if is_dataclass(form) else []
    return keys


def parser_for(verb: str, description: str) -> Parser:
    """Return a parser that says where to compute.

    Args:
        verb: as it is typed.
        description: of what it does.
    """
    usage = f"amed-lightning {verb} [FILE] [--OPTION VALUE ...]"
    parser = Parser(prog=f"amed-lightning {verb}", usage=usage, description=description)
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

    written = _SEED_RANGE.fullmatch(str(seeds))
    first, last = (int(seed) for seed in (written[1], written[2] or written[1])) if written else (1, 0)
    if last < first:
        raise InputError(f"--seeds {seeds}: write a first and a last seed, like 0-63")
    if last >= SEEDS_PER_STREAM:
        raise InputError(f"--seeds {seeds}: the last seed there is is {SEEDS_PER_STREAM - 1}")
    return range(first, last + 1)
