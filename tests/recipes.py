"""Recipes by name, put together as a reader would."""

import functools
from pathlib import Path
from typing import Any

import yaml

from amed_lightning.runtime.shipped import recipe


@functools.cache
def content_of(name: str) -> dict[str, Any]:
    """Return what a recipe's configurations and options come to."""
    content: dict[str, Any] = {}
    for option, value in (argument.removeprefix("--").split("=", 1) for argument in recipe(name)):
        content = _over(content, yaml.safe_load(Path(value).read_text()) if option == "config" else _at(option, value))
    return content


def _at(option: str, value: str) -> dict[str, Any]:
    first, _, rest = option.replace("model.student", "model.init_args.student").partition(".")
    return {first: _at(rest, value) if rest else yaml.safe_load(value)}


def _over(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Put one mapping over another; a part, which has a name, is not mixed with another."""
    both = {key for key in below.keys() & above.keys() if isinstance(above[key], dict) and "name" not in above[key]}
    return below | above | {key: _over(below[key], above[key]) for key in both}
