"""A parser's report as one line for whoever wrote what it refuses: the key, what was expected, what is near."""

import difflib
import inspect
import re
import sys
from collections.abc import Callable, Iterable

LEFT_OUT = (
    *("Does not validate against", "Subtypes:", "Errors:", "Given value type"),
    *("Expected a path but", "Expected a <class 'NoneType'>"),
)
"""How the lines begin that a parser adds where a value may be of several types."""
KINDS = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "a text",
    "list": "a list, like [a, b]",
    "tuple": "a list, like [a, b]",
    "dict": "a mapping, like {name: ...}",
    "Path": "a path",
}


def _kind(found: re.Match[str]) -> str:
    return f"expected {KINDS.get(found[1], found[1])}"


def _choices(found: re.Match[str]) -> str:
    return f"expected one of {found[1]}".replace("'", "")


_A_CLASS = "amed_lightning.training.distillation.AMEDDistillation"
_POSITIVE = r"Not of type PositiveInt: (?:invalid .*: )?'?(.*?)'?(?: does not conform.*)?$"
_REWRITTEN: tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...] = (
    (r"Parser key \"([^\"]+)\":", r"\1:"),
    (_POSITIVE, r"expected a whole number above 0, got \1"),
    (r"Expected an? <class '(?:\w+\.)*(\w+)'>", _kind),
    (r"Expected an? typing\.Literal\[([^]]*)\]", _choices),
    (r"Not of type (\w+): .*?(?= Given value:|$)", _kind),
    (r"(?<=[\w\]}]) expected (?:one of )?(?=.*(?:Got|Given) value)", ", or "),
    (r"\.? (?:Got|Given) value: ", ", got "),
    (r"Expected a dot import path string: (\w+)", r"no class '\1': write its import path, like " + _A_CLASS),
    (r"argument (\S+): expected one argument", r"\1: a value is missing"),
    (r"argument (\S+): invalid choice: ('[^']*') \(choose from (.*?)\)", r"\1: \2 is none of \3"),
    (r"[Tt]he following arguments are required: ", "missing: "),
    (r"[Uu]nrecognized arguments: (-\S+).*", r"unknown option \1"),
    (r"[Uu]nrecognized arguments: ", "too much: "),
)
UNKNOWN = re.compile(
    r"(?:(?:Group '(?P<group>[^']+)'|Subcommand '\w+') does not accept option|Option) '(?P<key>[^']+)'.*"
)
CLASS = re.compile(r"Problem with given class_path '((?:\w+\.)+\w+)': ?")


def meant(word: str, words: Iterable[str]) -> str:
    """Ask for the nearest of some words, if one is near; for the end of a message.

    >>> meant("eluer", ["euler", "heun"]), meant("x", ["euler"])
    ("; did you mean 'euler'?", '')
    """
    near = difflib.get_close_matches(word, list(words), n=1)
    return f"; did you mean '{near[0]}'?" if near else ""


def worded(message: str, keys: Iterable[str] = (), prefix: str = "") -> str:
    r"""Return a parser's report as one line.

    Args:
        message: of the parser.
        keys: what it takes, with dots between a group and its keys.
        prefix: of keys that the reader has not written.

    >>> worded('Parser key "half":\n  Expected a <class \'float\'>. Got value: x')
    'half: expected a number, got x'
    >>> worded("Parser key \"a\":\n Expected a <class 'bool'>\n Expected a typing.Literal['b']. Got value: x")
    'a: expected true or false, or b, got x'
    >>> worded("Option 'hlaf' is not accepted", ["half", "of"])
    "unknown key 'hlaf': use one of half, of; did you mean 'half'?"
    """
    lines = (line.strip().removeprefix("- ") for line in message.splitlines())
    text = " ".join(line for line in lines if line and not line.startswith(LEFT_OUT))
    takes = [key.removeprefix(prefix) for key in keys]
    if classes := CLASS.findall(text):
        takes, text = _options_of(classes[-1]), CLASS.sub("", text)
    for pattern, words in _REWRITTEN:
        text = re.sub(pattern, words, text)
    if (unknown := UNKNOWN.search(text)) is not None:
        group = (unknown["group"] or "").removeprefix(prefix[:-1])
        written = f"{group}.{unknown['key']}".removeprefix(".")
        text = f"{text[: unknown.start()]}unknown key '{written}'{_instead(written, takes)}"
    if "unknown key " in text:
        text = text.partition(", got {")[0]
    text = ", got ".join(text.split(", got ")[:2])  # the value, and not also what it stands in
    if text.startswith("unknown option "):
        text += _instead(text.split()[2].partition("=")[0], [f"--{key}" for key in takes])
    return text.replace(prefix, "") if prefix else text


def _instead(written: str, keys: Iterable[str]) -> str:
    """List what stands beside a key, and the nearest of it."""
    start = "".join(written.rpartition(".")[:2])
    beside = list(dict.fromkeys(start + key[len(start) :].split(".")[0] for key in keys if key.startswith(start)))
    dashes = "--" if written.startswith("--") else ""
    near = meant(written.removeprefix(dashes), [key.removeprefix(dashes) for key in beside])
    return f": use one of {', '.join(beside)}{near.replace(chr(39), chr(39) + dashes, 1)}" if beside else ""


def _options_of(class_path: str) -> list[str]:
    """Return what a class takes, that the parser has imported."""
    module, _, name = class_path.rpartition(".")
    made = getattr(sys.modules.get(module), name, None)
    return list(inspect.signature(made).parameters) if callable(made) else []
