"""From what stands behind a verb, in its files and in the environment to the verb's options.

A file behind the verb is its ``--config``, or several: ``fit digits/amed-5`` is a recipe's, of a method and a data set;
behind ``sample`` it may be what a fit has learned, or the name of such a file that ships. An option can also be told
by the environment: ``AMED_SAMPLE__SEEDS=0-15`` is ``sample --seeds 0-15``.
"""

import json
import os
import re
from collections.abc import Sequence
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

from jsonargparse import Namespace, dict_to_namespace

from amed_lightning.cli.parsers import ACTIONS, ALL, CONFIG, PARSERS, SHORT, TRAINING
from amed_lightning.cli.parsing import Parser, parts_spelled_out, variable
from amed_lightning.config import InputError, load_yaml
from amed_lightning.runtime.shipped import CONFIGS, found, recipe, samplers
from amed_lightning.runtime.wording import meant

_EXAMPLES = {CONFIGS: "digits/amed-5", "benchmarks": "digits", "bench nightly": "nightly"}
_LISTING = "list"
"""The verb that does nothing without an action."""
CONFIG_OF = dict.fromkeys(("fit", "validate", "precompute", "sample", "evaluate", "reference", "schedule"), CONFIGS)
CONFIG_OF |= dict.fromkeys(
    ("bench run", "bench table", "bench plot", "bench report", "bench recipes", "bench nightly"), "benchmarks"
)
"""Commands whose first word may be a configuration, and the folder in which it is looked for by name."""
SECTIONS = (
    *("seed_everything", "model", "data", "trainer", "checkpoint"),
    *("optimizer", "lr_scheduler", "ckpt_path", "weights_only"),
)
"""Of such a YAML."""


def parsed(verb: str, arguments: Sequence[str]) -> Namespace:
    """Read a verb's arguments.

    Returns:
        Its options, and ``action`` where it has several; of a training, its ``verb`` and ``arguments``.

    Raises:
        InputError: an option or a value that it does not take, or a file that is not there.
    """
    action, rest = _action(verb, arguments)
    command = f"{verb} {action}" if action else verb
    parser = PARSERS[command](command)
    if {"-h", "--help"} & {*rest}:
        parser.parse_args(["--help"])
    files, told = _located(command, rest)
    rest = [*files, *_of_environment(command, None if verb in TRAINING else parser), *told]
    if verb in TRAINING:
        return dict_to_namespace({"verb": verb, "arguments": ["--help"] if ALL in rest else _glanced_at(rest)})
    options = parser.instantiate(parser.parse_args(rest))
    options.action = action
    return options


def _action(verb: str, arguments: Sequence[str]) -> tuple[str, list[str]]:
    """Tell the action from what follows; none is named by what is an option or a file.

    Raises:
        InputError: it is misspelt, or the verb does nothing without one.
    """
    first, *rest = [*arguments] or [""]
    if verb not in ACTIONS:
        return "", [*arguments]
    actions = ACTIONS[verb]
    if first in actions:
        return first, rest
    near = meant(first, actions) if not Path(first).is_file() else ""
    if near or (verb == _LISTING and not first.startswith("-")):
        raise InputError(f"{verb} {first}: use one of {', '.join(f'{verb} {action}' for action in actions)}{near}")
    return actions[0], [*arguments]


def _learned_options(name: str) -> list[str]:
    """Return the options that a learned file, or the name of a shipped one, stands for; none where it is neither.

    Raises:
        InputError: no such file, or one that describes no sampler of the package's parts.
    """
    learned = Path(name) if name.endswith(".json") else samplers().get(name)
    if learned is None:
        return []
    from amed_lightning.sampling.parts import learned_config  # brings torch, which sampling needs anyway

    return [f"--sampler.{key}={json.dumps(value)}" for key, value in asdict(learned_config(learned)).items()]


def _located(command: str, arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Part what files say, in their order, from the options that are told, which are stronger wherever they stand.

    Returns:
        The options that names of configurations or of a learned file stand for; all others.

    Raises:
        InputError: there is no file of that name, or none is named where one is needed.
    """
    if command not in CONFIG_OF:
        return [], [*arguments]
    files: list[str] = []
    told: list[str] = []
    words = [*arguments]
    if words and not words[0].startswith("-"):
        files = _learned_options(words[0]) if command == "sample" else []
        words = words[1:] if files else [CONFIG, *words]
    rest = iter(words)
    for word in rest:
        option, is_assigned, value = word.partition("=")
        if option in (CONFIG, SHORT):
            files += configurations(value if is_assigned else next(rest, ""), command)
        else:
            told.append(word)
    if command.startswith((*TRAINING, "bench")) and not {*files, *told} & {CONFIG, "--model", ALL}:
        example = _EXAMPLES.get(command, _EXAMPLES[CONFIG_OF[command]])
        raise InputError(f"{command}: name a YAML file, like `amed-lightning {command} {example}`")
    return files, told


def configurations(name: str, command: str = "fit") -> list[str]:
    """Return the options that a configuration's name stands for.

    Args:
        name: of a file or, where the command is a training, of a recipe.
        command: that takes them.

    Raises:
        InputError: there is none of that name.
    """
    if not name:
        raise InputError(f"{CONFIG}: a value is missing")
    parts = recipe(name) if command in TRAINING else []
    return [word for part in parts or [f"{CONFIG}={found(name, CONFIG_OF[command])}"] for word in part.split("=", 1)]


def _of_environment(command: str, parser: Parser | None) -> list[str]:
    """Return the options that the environment tells.

    Raises:
        InputError: a variable of this command that is none of its options.
    """
    prefix = variable(command, "")
    known = None if parser is None else {variable(command, key): key for key in parser.keys}
    told = []
    for name in sorted(name for name in os.environ if name.startswith(prefix)):
        if known is not None and name not in known:
            raise InputError(f"{name}: no option of {command}: use one of {', '.join(known)}{meant(name, known)}")
        key = name.removeprefix(prefix).lower().replace("__", ".") if known is None else known[name]
        told.append(f"--{key}={os.environ[name]}")
    return told


def _glanced_at(arguments: list[str]) -> list[str]:
    """Look whether the configurations of a training can be one, before Lightning is imported; return the arguments.

    Raises:
        InputError: what is wrong with one.
    """
    configs = [Path(value) for option, value in pairwise(arguments) if option == CONFIG]
    for path in configs:
        written = load_yaml(path)
        for key in written:
            if key not in SECTIONS:
                near = meant(str(key), SECTIONS)
                raise InputError(f"{path}: unknown key '{key}': use one of {', '.join(SECTIONS)}{near}")
        for section in ("model", "data"):
            part = written.get(section, {})
            if not isinstance(part, dict | str):
                raise InputError(f"{path}: {section}: expected a mapping with a class_path, got {part!r}")
            if len(configs) == 1 and part and "class_path" not in part and f"--{section}" not in arguments:
                raise InputError(
                    f"{path}: {section}.class_path is missing: name the class of the {section}, or, where this is the "
                    "file of a data set, a recipe: cifar10/amed-5"
                )
        student = _inside(written, "model", "init_args", "student")
        if len(configs) == 1 and isinstance(student, dict) and "model" not in student | _told_of_student(arguments):
            raise InputError(f"{path}: model.init_args.student.model is missing: name it, or a recipe: digits/amed-5")
    return parts_spelled_out(arguments)


def _inside(content: Any, *keys: str) -> Any:
    """Return what stands in mappings inside mappings; nothing, where one of them is none."""
    for key in keys:
        content = content.get(key) if isinstance(content, dict) else None
    return content


def _told_of_student(arguments: Sequence[str]) -> dict[str, str]:
    """Return what options say of the student, by their first words."""
    words = (argument.partition("student.")[2] for argument in arguments if argument.startswith("--model."))
    return {re.split("[.=]", word)[0]: word for word in words}
