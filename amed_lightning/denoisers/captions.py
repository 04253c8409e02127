"""Files of captions. Evaluation seed k has caption k, so a file is read whole or refused: none is dropped.

| ending | what is read |
|---|---|
| ``.txt`` | one caption per line, no header |
| ``.csv`` | the column ``caption``, ``text`` or ``prompt`` of a table with a header; commas, semicolons or tabs |
| ``.tsv`` | the same, tabs |
| ``.json`` | a list of texts or of objects with one of these keys, or COCO's object with such ``annotations`` |
| ``.jsonl`` | one text or object per line |

Endings, columns and keys may be in any case. Text is UTF-8, UTF-16 or UTF-32, with or without a byte-order mark, and
lines end as on any system. What stands around a caption is not part of it. Empty lines at the end are none; elsewhere
they are refused as an empty caption is, and so are a row of more or fewer fields than the header and a text whose
first line is a header. A caption that comes twice is two captions.
"""

import csv
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

from amed_lightning.config import InputError
from amed_lightning.runtime.json_text import parse_json

COLUMNS = ("caption", "text", "prompt")
"""How a table or an object may call its captions; the published MS-COCO list says ``text``, PartiPrompts ``Prompt``."""
_HEADERS = {*COLUMNS, *(f"{column}s" for column in COLUMNS)}
NAMED = "caption, text or prompt"
ANNOTATIONS = "annotations"
Captions: TypeAlias = Iterator[tuple[str, str]]
"""Where a caption stands, and the caption."""


def read_captions(path: Path) -> tuple[str, ...]:
    """Read the captions of a file, in its order.

    Raises:
        InputError: a file that is missing, of another kind, without captions, or where one cannot be told.
    """
    read = READERS.get(path.suffix.lower())
    if read is None:
        raise InputError(f"{path}: a file of prompts is called {', '.join(READERS)}")
    try:
        return checked(read(_decoded(path.read_bytes())))
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not a readable file of prompts: {error}; save it as UTF-8") from error
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"{path}: not a readable file of prompts: {error}") from error


def checked(captions: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    """Return captions without what stands around them.

    Args:
        captions: where each stands, and itself.

    Raises:
        ValueError: one is empty, or there is none.
    """
    found = []
    for place, caption in captions:
        if not caption.strip():
            raise ValueError(f"{place} is empty; as seed k takes prompt k, fill it or take it out")
        found.append(caption.strip())
    if not found:
        raise ValueError("there are no prompts")
    return tuple(found)


def _decoded(content: bytes) -> str:
    text = content.decode(json.detect_encoding(content))
    if "\0" in text:
        raise ValueError("it is not text; save it as UTF-8")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _lines(text: str) -> Iterator[tuple[str, str]]:
    """Number the lines up to the last that is not empty."""
    for number, line in enumerate(text.rstrip().split("\n") if text.strip() else [], 1):
        yield f"line {number}", line


def _text(text: str) -> Captions:
    for place, line in _lines(text):
        if "\t" in line.strip():
            raise ValueError(f"{place} has a tab in it, as a table has; call a table .tsv, with a header")
        if place == "line 1" and (_is_header(line) or _is_json(line) or _is_json(text)):
            raise ValueError(f"{place} is {line.strip()[:40]!r}, which is no prompt; call tables .csv, and JSON .json")
        yield place, line


def _is_header(line: str) -> bool:
    names = [name.strip(' "').casefold() for name in re.split("[,;]", line)]
    return not _HEADERS.isdisjoint(names) and all(name.isidentifier() for name in names)


def _is_json(text: str) -> bool:
    try:
        return isinstance(parse_json(text), dict | list)
    except ValueError:
        return False


def _table(delimiters: str) -> Callable[[str], Captions]:
    """Return a reader of tables; the first delimiter that parts off a column of captions is the file's."""

    def read(text: str) -> Captions:
        headers = {delimiter: next(_rows(text, delimiter), []) for delimiter in delimiters}
        delimiter = next((each for each in delimiters if _named(headers[each])), delimiters[0])
        header, rows = headers[delimiter], _rows(text, delimiter)
        column = _only_column(header)
        for number, row in enumerate(rows, 1):
            if len(row) not in (0, len(header)):
                raise ValueError(
                    f"row {number} has {len(row)} fields and the header {len(header)}; put texts in quotes"
                )
            if number > 1:
                yield f"row {number}", row[column] if row else ""

    return read


def _rows(text: str, delimiter: str) -> Iterator[list[str]]:
    return csv.reader(io.StringIO(text.rstrip("\n")), delimiter=delimiter, strict=True)


def _only_column(header: list[str]) -> int:
    columns = _named(header)
    if len(columns) != 1:
        found = "several columns" if columns else "no column"
        raise ValueError(f"{found} {NAMED}, and one is needed; there are {', '.join(header) or 'none'}")
    return columns[0]


def _named(names: Iterable[str]) -> list[int]:
    """Return the positions of the names that captions may have."""
    return [number for number, name in enumerate(names) if name.strip().casefold() in COLUMNS]


def _json(text: str) -> Captions:
    content = parse_json(text)
    if isinstance(content, dict):
        content = content.get(ANNOTATIONS)
    if not isinstance(content, list):
        raise ValueError(f"neither a JSON list nor an object with a list '{ANNOTATIONS}'")
    for number, item in enumerate(content, 1):
        yield f"item {number}", _caption(f"item {number}", item)


def _json_lines(text: str) -> Captions:
    for place, line in _lines(text):
        try:
            item = parse_json(line) if line.strip() else ""
        except ValueError as error:
            raise ValueError(f"{place}: {error}") from error
        yield place, _caption(place, item)


def _caption(place: str, item: Any) -> str:
    """Return the caption of an object, or the text that it is."""
    if isinstance(item, dict):
        values = list(item.values())
        found = [values[number] for number in _named(item)]
        item = found[0] if len(found) == 1 else None
    if not isinstance(item, str):
        raise ValueError(f"{place} is neither a text nor an object with one text {NAMED}")
    return item


READERS: dict[str, Callable[[str], Captions]] = {
    ".txt": _text,
    ".csv": _table(",;\t"),
    ".tsv": _table("\t"),
    ".json": _json,
    ".jsonl": _json_lines,
}
