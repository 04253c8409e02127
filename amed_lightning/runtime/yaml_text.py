"""One reader of YAML for everything: configurations, values on a command line, suites, cards.

PyYAML follows YAML 1.1 and jsonargparse half of 1.2, so that one file had two readings. Here a number is what both
versions and Python take for it: ``1e-3`` and ``1_000`` are numbers, ``0o17`` is 15; ``12:30:00`` and ``2026-01-01`` are
text. ``017``, which is 15 in one version and 17 in the other, is refused, and so is a key that stands twice.
"""

import re
from collections.abc import Iterable
from typing import Any

import jsonargparse
import yaml
from jsonargparse import _loaders_dumpers

from amed_lightning.runtime.json_text import TOO_DEEP

INT, FLOAT, TIMESTAMP = (f"tag:yaml.org,2002:{kind}" for kind in ("int", "float", "timestamp"))
NAMELESS = ' in "<unicode string>"'
"""What PyYAML calls a text that it has not read from a file itself."""
MOST_VALUES = 100_000
"""What a document may stand for when every alias is written out; a few lines of them can double it each."""
FORMS = {
    INT: re.compile(r"[-+]?(?:[0-9][0-9_]*|0o[0-7_]+|0x[0-9a-fA-F_]+|0b[01_]+)"),
    FLOAT: re.compile(
        r"[-+]?(?:[0-9][0-9_]*\.[0-9_]*(?:[eE][-+]?[0-9]+)?|[0-9][0-9_]*[eE][-+]?[0-9]+|\.[0-9][0-9_]*(?:[eE][-+]?[0-9]+)?)"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
    ),
}


PARTS = ("model", "solver", "schedule", "schedules", "detector", "dataset", "of", "route")
"""Keys whose value is a part, which may be its name alone: ``model: digits`` is ``model: {name: digits}``."""
NAME = re.compile("[a-z][a-z0-9_]*")
"""Of a part in a registry; the name of a class begins with a capital or has a dot."""


class Reader(yaml.SafeLoader):
    """PyYAML's safe loader with numbers that are read in one way, and without keys that stand twice.

    libyaml's would be quicker, and ends the process where brackets are nested a hundred thousand deep.
    """

    yaml_implicit_resolvers = {  # noqa: RUF012  # as its base declares it
        first: [(tag, form) for tag, form in forms if tag not in (*FORMS, TIMESTAMP)]
        for first, forms in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def get_single_node(self) -> yaml.Node | None:
        """Read the document.

        Raises:
            yaml.constructor.ConstructorError: a key stands twice, aliases stand for more than ``MOST_VALUES``, or
                brackets are nested too deeply.
        """
        try:
            node = super().get_single_node()
            _refuse_twins([] if node is None else [node])
            _count_values(node, {})
        except RecursionError:
            raise yaml.constructor.ConstructorError(None, None, TOO_DEEP, None) from None
        return node

    def get_mark(self) -> yaml.Mark:
        """Tell the line and column, without the text that stands there."""
        return yaml.Mark(self.name, self.index, self.line, self.column, None, 0)

    def construct_whole_number(self, node: yaml.ScalarNode) -> int:
        """Read a whole number.

        Raises:
            yaml.constructor.ConstructorError: it begins with a zero.
        """
        try:
            return int(node.value.replace("_", ""), base=0)
        except ValueError:
            other = node.value.replace("_", "").lstrip("+-0")
            raise yaml.constructor.ConstructorError(
                None,
                None,
                f"{node.value} may be decimal or octal; write {other}, or 0o{other} if it is octal, or quote it if it "
                "is text",
                node.start_mark,
            ) from None


class Configuration(Reader):
    """The reader of what users write, who may name a part in place of describing it."""

    def construct_document(self, node: yaml.Node) -> Any:
        """Build what the document says."""
        return spelled_out(super().construct_document(node))


class _Writer(yaml.SafeDumper):
    """PyYAML's, which also quotes a text that the reader would take for a number."""


def _write_yaml(data: Any) -> str:
    """Write a document that reads as ``data``."""
    return yaml.dump(data, Dumper=_Writer, default_flow_style=False, allow_unicode=True, sort_keys=False)


Reader.add_constructor(INT, Reader.construct_whole_number)
for tag, form in FORMS.items():
    for either in (Reader, _Writer):
        either.add_implicit_resolver(tag, re.compile(f"(?:{form.pattern})$"), list("-+0123456789."))
jsonargparse.set_dumper("yaml", _write_yaml)
# Behind every parser, also where it reads a value inside another, which no public setting reaches.
_loaders_dumpers.yaml_default_loader = Configuration  # type: ignore[assignment]


def read_yaml(text: str) -> Any:
    """Read a document.

    Raises:
        yaml.YAMLError: it is none, or has a key twice, or a number that YAML's versions read differently.

    >>> read_yaml("[1e-3, 1_000, 0o17, 12:30:00, on]")
    [0.001, 1000, 15, '12:30:00', True]
    """
    return yaml.load(text, Loader=Reader)


def spelled_out(value: Any, key: str = "") -> Any:
    """Put a part in the place of its name alone, at any depth of a configuration; a part's own options stay.

    >>> spelled_out({"model": "digits", "nfe": 5})
    {'model': {'name': 'digits'}, 'nfe': 5}
    >>> spelled_out({"dataset": {"name": "shipped", "dataset": "digits"}})
    {'dataset': {'name': 'shipped', 'dataset': 'digits'}}
    """
    if isinstance(value, dict):
        own = key in PARTS  # texts in it are options of a part
        texts = {name for name, inner in value.items() if own and isinstance(inner, str)}
        return {name: inner if name in texts else spelled_out(inner, str(name)) for name, inner in value.items()}
    if isinstance(value, list):
        return [spelled_out(inner, key) for inner in value]
    return {"name": value} if key in PARTS and isinstance(value, str) and NAME.fullmatch(value) else value


def _refuse_twins(nodes: Iterable[yaml.Node]) -> None:
    """Look for keys that stand twice in a mapping; each node is visited once, however often it is referred to."""
    left, seen = list(nodes), set()
    while left:
        node = left.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            left += node.value
        elif isinstance(node, yaml.MappingNode):
            keys = set()
            for key, value in node.value:
                left += [key, value]
                name = (key.tag, str(key.value))
                if name in keys:
                    problem = f"the key '{key.value}' stands twice; delete one"
                    raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
                keys.add(name)


def _count_values(node: yaml.Node | None, counted: dict[int, int]) -> int:
    """Return what a node stands for in values.

    Args:
        node: of a document.
        counted: of the nodes that were met before; 0 of those that hold this one.

    Raises:
        yaml.constructor.ConstructorError: too many, or a node inside itself.
    """
    if not isinstance(node, yaml.CollectionNode):
        return 1
    if id(node) not in counted:
        counted[id(node)] = 0
        inner = [part for entry in node.value for part in (entry if isinstance(entry, tuple) else (entry,))]
        counted[id(node)] = 1 + sum(_count_values(part, counted) for part in inner)
    if not 0 < counted[id(node)] <= MOST_VALUES:
        problem = f"by its aliases it stands for more than {MOST_VALUES} values"
        raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)
    return counted[id(node)]
