"""Configuration: named parts, digests, and the error that bad input ends in.

A part of a run (solver, schedule, detector, ...) is written in YAML as ``{name: <name>, <option>: <value>, ...}``. The
name is a key of the part's registry, one readable dict, or the import path of a user's own class. Options are checked
against the signature of what the name stands for before anything is built; a class that is more than the part has a
``maker``, which returns what is called in its place.

What others wrote (cards, predictors, checkpoints, statistics, ...) is data: its readers take names of registries alone
(:func:`registered`), no file is larger, deeper or longer by aliases than it says here, and nothing in one is imported.

A digest is the SHA-256 of canonical JSON. It names stores, predictors and benchmark cells, so that a result can only
be found by the configuration that made it.
"""

import hashlib
import importlib
import inspect
import json
import math
import os
import sys
from collections.abc import Callable, Collection, Mapping
from copy import deepcopy
from dataclasses import asdict, is_dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import jsonargparse
import yaml

from amed_lightning.runtime.json_text import require_shallow
from amed_lightning.runtime.unfinished import unfinished
from amed_lightning.runtime.wording import meant, worded
from amed_lightning.runtime.yaml_text import NAMELESS, read_yaml, spelled_out

Part = TypeVar("Part")
Spec = dict[str, Any]

LARGEST = 16 << 20
"""Bytes of a JSON, unless its reader knows better; the largest that is written here has a few hundred thousand."""
_LARGEST_YAML = 128 << 10
"""Bytes of a YAML, which takes ten seconds per megabyte to read."""
IMPORTING = "class_path"
"""The key by which jsonargparse imports; a part here is named by ``name``."""


class InputError(ValueError):
    """Something the user wrote or named is wrong; the message names it and the cure. Commands exit with 2."""


def input_error_of(error: BaseException | None) -> InputError | None:
    """Find the input error that another was raised from, if any; jsonargparse wraps what a constructor raises."""
    while error is not None and not isinstance(error, InputError):
        error = error.__cause__
    return error


def canonical_json(value: object) -> str:
    """Serialise ``value`` so that equal values give equal text.

    Dataclasses become mappings, keys are sorted, and no white space is written.

    >>> canonical_json({"b": 1, "a": (2.0, None)})
    '{"a":[2.0,null],"b":1}'
    """

    def plain(obj: object) -> object:
        if is_dataclass(obj) and not isinstance(obj, type):
            return asdict(obj)
        if isinstance(obj, Path):
            return str(obj)
        raise TypeError(f"{type(obj).__name__} has no canonical JSON form")

    return json.dumps(value, default=plain, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(value: object) -> str:
    """Return the SHA-256 of the canonical JSON of ``value``, as 64 hexadecimal digits."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def not_finite_in(value: Any, place: str = "") -> str | None:
    """Return the place of the first number of nested mappings and lists that is a NaN or an infinity, and the number.

    >>> not_finite_in({"a": 1.0, "b": [{"c": math.inf}]})
    'b.0.c is inf'
    """
    if isinstance(value, float):
        return None if math.isfinite(value) else f"{place} is {value}"
    parts = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list | tuple) else ()
    found = (not_finite_in(part, f"{place}.{key}" if place else str(key)) for key, part in parts)
    return next((text for text in found if text), None)


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_atomically(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path`` so that a reader finds the whole file or what was there before.

    The bytes go to a name beside it (see :mod:`amed_lightning.runtime.unfinished`), reach the disk, are read back, and
    are renamed.

    Raises:
        OSError: they cannot be written, or what was read is something else.
    """
    with unfinished(path) as temporary:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if temporary.read_bytes() != content:
            raise OSError(f"{path}: what was read back is not what was written")
        temporary.replace(path)


def at_home(value: Any) -> Any:
    """Put the home folder in the place of ``~`` in every path of a nested configuration, where no shell has done it.

    >>> at_home({"path": "~/x", "rho": 7.0})["path"] == str(Path.home() / "x")
    True
    """
    if isinstance(value, Mapping | jsonargparse.Namespace):
        for key, inner in list(value.items() if isinstance(value, Mapping) else vars(value).items()):
            value[key] = at_home(inner)  # type: ignore[index]  # a mapping of a configuration is a dict
    elif isinstance(value, list | tuple):
        return type(value)(map(at_home, value))
    elif isinstance(value, str | Path) and str(value).startswith("~/"):
        return type(value)(Path(value).expanduser())
    return value


def content_of(path: Path, largest: int = LARGEST) -> bytes:
    """Read a file whole.

    Args:
        path: of the file.
        largest: bytes that it may have.

    Raises:
        InputError: there is no such file, it is none (a pipe would be waited for), or it is larger.
    """
    if not path.is_file():
        raise InputError(f"{path}: {'not a file' if path.exists() else 'no such file'}")
    try:
        with path.open("rb") as file:
            content = file.read(largest + 1)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from error
    if len(content) > largest:
        raise InputError(f"{path}: more than {largest} bytes, which no file of its kind has")
    return content


def not_utf_8(path: str | Path, error: UnicodeDecodeError) -> InputError:
    """Return the refusal of a file whose text is in another encoding."""
    return InputError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8")


def load_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping.

    Raises:
        InputError: the file is missing, is not YAML, does not hold a mapping, or has a number that is not finite; or it
            is larger, deeper or, by its aliases, longer than any configuration.
    """
    written = content_of(path, _LARGEST_YAML)
    try:
        content = read_yaml(written.decode())
        require_shallow(content)
    except UnicodeDecodeError as error:
        raise not_utf_8(path, error) from error
    except (yaml.YAMLError, ValueError) as error:
        raise InputError(f"{path}: not valid YAML: {' '.join(str(error).replace(NAMELESS, '').split())}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected a mapping of keys to values")
    if place := not_finite_in(content):
        raise InputError(f"{path}: {place}; give a finite number")
    return at_home(content)


def load_dataclass(path: Path, form: type[Part]) -> Part:
    """Read a YAML mapping into a dataclass.

    Args:
        path: of the file.
        form: the dataclass; its annotations are what is checked. The keys of its ``RENAMED``, if it has one, were those
            of an earlier version, and stand for what they are called now.

    Raises:
        InputError: a missing file, an unknown or missing key, or a value of another type.
    """
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(form, "content")
    written = spelled_out(load_yaml(path))
    for old, new in getattr(form, "RENAMED", {}).items():
        if old in written and new not in written:
            print(f"note: {path}: '{old}' is called '{new}' now", file=sys.stderr)
            written[new] = written.pop(old)
    try:
        _require_no_import(written)
        content: Part = parser.instantiate(parser.parse_object({"content": written})).content
    except (jsonargparse.ArgumentError, InputError) as error:
        raise InputError(f"{path}: {worded(str(error), parser.get_defaults().keys(), 'content.')}") from error
    return content


def checked(form: type[Any], content: Mapping[str, Any]) -> dict[str, Any]:
    """Check a mapping against a dataclass's annotations.

    Args:
        form: the dataclass.
        content: what its fields are to be.

    Returns:
        The fields, left-out ones included. Mappings stay as they are: a parser takes a word in one for a number.

    Raises:
        InputError: an unknown or missing key, or a value of another type.
    """
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(form, "content")
    _require_no_import(content)
    try:
        fields: dict[str, Any] = parser.parse_object({"content": deepcopy(dict(content))}).content.as_dict()
    except jsonargparse.ArgumentError as error:
        raise InputError(worded(str(error), parser.get_defaults().keys(), "content.")) from error
    return fields | {key: value for key, value in content.items() if isinstance(value, dict)}


def build(kind: str, registry: Mapping[str, Callable[..., Part]], spec: Spec, **extra: object) -> Part:
    """Build the part that ``spec`` describes.

    Args:
        kind: what the part is, for messages ("solver").
        registry: the parts that have a short name.
        spec: ``name`` (a key of the registry, or an import path) and the part's options.
        extra: arguments that the caller supplies, not the user.

    Raises:
        InputError: an unknown name, an unknown option, or an option that the part refuses.

    >>> build("fraction", {"half": lambda of=1.0: of / 2}, {"name": "half", "of": 3})
    1.5
    """
    options = complete(kind, registry, spec, hidden=extra)
    name = options.pop("name")
    try:
        return _factory(kind, registry, name)(**options, **extra)
    except (TypeError, ValueError) as error:
        raise InputError(f"{kind} '{name}': {error}") from error


def complete(kind: str, registry: Mapping[str, Callable[..., Part]], spec: Spec, hidden: Collection[str] = ()) -> Spec:
    """Check a part's description and write it out in full, so that equal parts have equal digests.

    Args:
        kind: what the part is, for messages.
        registry: the parts that have a short name.
        spec: name and options.
        hidden: options that the caller supplies, not the user.

    Raises:
        InputError: an unknown name or option, or a value of another type or that is not finite.

    >>> complete("fraction", {"half": lambda of=1.0: of / 2}, {"name": "half"})
    {'name': 'half', 'of': 1.0}
    """
    if not isinstance(spec, Mapping) or not isinstance(spec.get("name"), str):
        raise InputError(f"{kind}: expected a mapping with a 'name' (one of {', '.join(registry)}), got {spec!r}")
    name = spec["name"]
    factory = _factory(kind, registry, name)
    _require_no_import(spec)
    parser = _parser_of(factory, frozenset(hidden))
    try:
        given = {str(key): deepcopy(value) for key, value in spec.items() if key != "name"}  # lists change when parsed
        options = parser.parse_object(given)
    except jsonargparse.ArgumentError as error:
        takes = list(parser.get_defaults().as_dict())
        nothing = "" if takes else "; it takes no options"
        raise InputError(f"{kind} '{name}': {worded(str(error), takes)}{nothing}") from error
    found: Spec = deepcopy(options.as_dict())  # a default is the parser's own
    if place := not_finite_in(found):
        raise InputError(f"{kind} '{name}': {place}; give a finite number")
    return {"name": name, **found}


@lru_cache(maxsize=256)
def _parser_of(factory: Callable[..., Any], hidden: frozenset[str]) -> jsonargparse.ArgumentParser:
    """Return the parser of a factory's options, which takes longer to make than to use."""
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    add = parser.add_class_arguments if isinstance(factory, type) else parser.add_function_arguments
    add(factory, fail_untyped=False, skip=set(hidden))
    return parser


def options_of(kind: str, registry: Mapping[str, Callable[..., Part]], name: str) -> Collection[str]:
    """Return the names of the options that a part takes.

    Raises:
        InputError: an unknown name.

    >>> list(options_of("fraction", {"half": lambda of=1.0: of / 2}, "half"))
    ['of']
    """
    return inspect.signature(_factory(kind, registry, name)).parameters.keys()


def registered(kind: str, registry: Mapping[str, Part], name: object) -> Part:
    """Find what a name stands for that a file says; the file may be anybody's, so an import path is none.

    Args:
        kind: what the part is, for messages.
        registry: the parts that there are.
        name: of one.

    Raises:
        InputError: there is no such part.

    >>> registered("fraction", {"half": 0.5}, "half")
    0.5
    """
    if not isinstance(name, str) or name not in registry:
        near = meant(name, registry) if isinstance(name, str) else ""
        raise InputError(f"unknown {kind} {shown(name)}: use one of {', '.join(registry)}{near}")
    return registry[name]


def shown(name: object) -> str:
    """Write a number or a name for a message; anything else may be endless when it is written out.

    >>> shown("amed"), shown([1])
    ("'amed'", 'of type list')
    """
    name = name[:80] if isinstance(name, str) else name
    return f"{name!r:.80}" if isinstance(name, str | int | float | None) else f"of type {type(name).__name__}"


def _require_no_import(content: Any) -> None:
    """Refuse the key that makes the parser import a class, at any depth.

    Raises:
        InputError: it is there.
    """
    if isinstance(content, Mapping):
        if IMPORTING in content:
            raise InputError(f"'{IMPORTING}' is not accepted here: nothing is imported; a part is named by 'name'")
        content = list(content.values())
    if isinstance(content, list | tuple):
        for inner in content:
            _require_no_import(inner)


def _factory(kind: str, registry: Mapping[str, Callable[..., Part]], name: str) -> Callable[..., Part]:
    """Find what a name stands for that a user says."""
    if name in registry:
        return registry[name]
    module, _, attribute = name.rpartition(".")
    unknown = f"unknown {kind} '{name}': use one of {', '.join(registry)}, or the import path of your own class"
    if not module:
        raise InputError(f"{unknown}{meant(name, registry)}")
    try:
        part: object = getattr(importlib.import_module(module), attribute)
    except Exception as error:  # importing runs the user's own code
        raise InputError(f"{unknown} ({type(error).__name__}: {error})") from error
    if not callable(part):
        raise InputError(f"{unknown} (it is no class and no function)")
    maker = getattr(part, "maker", None)
    return part if maker is None else maker()
