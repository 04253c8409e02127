"""A sweep as one page of HTML that a browser shows without a network: scores, pictures, cost, and where all came from.

Names, reasons and sources come from files that others may have written, so the template escapes whatever it is given;
pictures alone are put in as they are, and their text was escaped when they were drawn. The page's own policy forbids it
to load anything, and to run any script but its own, which sorts tables.
"""

import base64
import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from matplotlib import pyplot as plt
from PIL import Image

from amed_lightning.bench.plot import (
    AS_WRITTEN,
    colour_of,
    content_of,
    curves,
    draw,
    drawn_scores,
    strip,
    strips_of,
    what_is_drawn,
)
from amed_lightning.bench.published import NOTHING, Published
from amed_lightning.bench.results import Line, Results, lines_of
from amed_lightning.bench.row import Row
from amed_lightning.bench.table import Table, ordered, scores_of, tables
from amed_lightning.metrics.metric import Score
from amed_lightning.tensors import Bytes

_TEMPLATES = Path(__file__).parents[1] / "assets" / "report"
SIZE = (4.8, 4.4)
"""Of a picture, in inches: its text is read on a telephone too."""
SHOWN = 8
"""Images of a strip."""
TALLEST = 96
"""Pixels of an image's longer side; larger ones are shrunk."""


@dataclass(frozen=True)
class Square:
    """What one square of the page's table shows.

    Attributes:
        text: the words.
        key: what it is sorted by: a number or words; nothing comes last.
        is_best: whether it is among the best of its NFE.
    """

    text: str
    key: int | float | str | None
    is_best: bool = False


def page(results: Results, published: Published = NOTHING, schedule: str | None = None) -> str:
    """Return the page of whatever a sweep has finished.

    Args:
        results: the suite's folder.
        published: figures beside the cells that they belong to.
        schedule: that all curves are on; None for each solver's best, see :func:`amed_lightning.bench.plot.curves`.

    Raises:
        InputError: no sweep has begun there.
    """
    lines = lines_of(results)
    shown = [_dataset(table, lines, results, schedule) for table in tables(lines, published)]
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    script = (_TEMPLATES / "sort.js").read_text(encoding="utf-8")
    facts = {
        "suite": results.folder.name,
        "datasets": shown,
        "drawn": what_is_drawn(schedule),
        "tallest": TALLEST,
        "script": Markup(script),
        "digest": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    }
    return environment.get_template("page.html").render(facts) + "\n"


def _dataset(table: Table, lines: Sequence[Line], results: Results, schedule: str | None) -> dict[str, Any]:
    """Return what the page shows of a dataset."""
    its_lines = ordered(line for line in lines if line.id.dataset == table.dataset)
    rows = [line.row for line in its_lines if line.row is not None]
    scores = scores_of(rows)
    squares = [_squares(*each, scores) for each in zip(its_lines, table.lines, strict=True)]
    grids = strips_of(rows, results, schedule).items()
    return {
        "table": table,
        "header": [*table.header, "network runs", "seconds"],
        "groups": zip(table.groups, squares, strict=True),
        "gaps": Counter(line.gap for line in its_lines if line.gap),
        "pictures": [_picture(rows, *each, schedule) for each in drawn_scores(rows).items()],
        "legend": [(colour_of(number), curve.title) for number, curve in enumerate(curves(rows, schedule))],
        "grids": [(nfe, [(title, data_uri(images)) for title, images in strips.items()]) for nfe, strips in grids],
        "cost": (sum(row.n * row.id.nfe for row in rows), sum(row.seconds for row in rows)),
        "facts": {name: _told(values) for name, values in _facts(rows).items()},
    }


def _squares(line: Line, texts: Sequence[Any], scores: Mapping[str, Score]) -> list[Square]:
    """Return a line's squares and its cost."""
    row, names = line.row, list(scores)
    keys: list[int | float | str | None] = [line.id.nfe, *(text.text for text in texts[1:4])]
    keys += [None if row is None else row.values.get(name) for name in names]
    keys += [text.text for text in texts[len(keys) :]]
    shown = [Square(text.text, key, text.is_best) for text, key in zip(texts, keys[: len(texts)], strict=True)]
    if row is None:
        return [*shown, Square("", None), Square("", None)]
    runs = row.n * row.id.nfe
    return [*shown, Square(f"{runs:,}", runs), Square(f"{row.seconds:.3g}", row.seconds)]


@AS_WRITTEN
def _picture(rows: Sequence[Row], name: str, score: Score, schedule: str | None) -> tuple[str, Markup]:
    """Return a score's title and its picture as SVG, without the legend."""
    figure, panel = plt.subplots(figsize=SIZE, layout="constrained")
    draw(panel, rows, name, score, schedule)
    text = content_of(figure, "svg").decode()
    return score.title, Markup(text[text.index("<svg") :])  # Matplotlib has escaped its text


def data_uri(images: Bytes) -> str:
    """Return the first images, side by side, as a PNG file in an address."""
    pixels = strip(images[:SHOWN]).numpy()
    picture = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    if images.shape[-2] > TALLEST:
        ratio = TALLEST / images.shape[-2]
        picture = picture.resize((round(picture.width * ratio), TALLEST), Image.Resampling.BOX)
    content = BytesIO()
    picture.save(content, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}"


def _facts(rows: Sequence[Row]) -> dict[str, Counter[str]]:
    """Return what rows say of where they came from: each fact's values, and how many rows have each."""
    found: dict[str, Counter[str]] = {}
    for row in rows:
        for name, value in _facts_of(row):
            found.setdefault(name, Counter())[value] += 1
    return found


def _facts_of(row: Row) -> Iterator[tuple[str, str]]:
    yield "protocol", str(row.protocol)
    yield "samples per cell", str(row.n)
    for name, part in (("detector", row.detector), ("real images", row.real_images)):
        yield from [] if part is None else [(name, str(part["name"]))]
    for name, value in row.identity["protocol"].items():
        parts = value.items() if isinstance(value, dict) else [("", value)]
        yield from ((f"{name} {part}".strip().replace("_", " "), str(inner)) for part, inner in parts)
    source = row.provenance
    for name in ("commit", "device", "world_size"):
        if name in source:
            changed = " with changes" if name == "commit" and source.get("dirty") else ""
            yield name.replace("_", " "), f"{source[name]}{changed}"
    yield from source.get("versions", {}).items()
    if "time" in source:
        yield "day", str(source["time"])[:10]


def _told(values: Counter[str]) -> str:
    """Say a fact's values, with the number of rows of each where they differ."""
    if len(values) == 1:
        return next(iter(values))
    return "; ".join(f"{value} ({count} cells)" for value, count in values.most_common())
