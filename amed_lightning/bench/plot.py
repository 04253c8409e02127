"""Pictures of rows: scores against network runs, and sample grids on equal seeds, a column per seed, a row per solver.

A curve is a solver on one schedule and with one setting of AFS: where it took others at every number of network runs,
its kinks would be theirs. They are the best of those that it ran on at the most NFE, or on that which is asked for.
The first two scores are drawn, FID and IS, if nothing else was asked for.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from io import BytesIO
from itertools import chain
from pathlib import Path
from statistics import fmean
from typing import Any

import matplotlib
import torch
from jaxtyping import UInt8
from torch import Tensor

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from amed_lightning.bench.plan import TABLES, WORDS
from amed_lightning.bench.results import Results
from amed_lightning.bench.row import Row
from amed_lightning.bench.table import goodness, scores_of, usual_protocol
from amed_lightning.config import write_atomically
from amed_lightning.metrics.metric import Score
from amed_lightning.tensors import Bytes

FORMATS = (".png", ".pdf", ".svg")
"""Endings of pictures."""
_PANELS = 2
"""Scores that are drawn."""
COLOURS = ("C0", "C1", "C2", "C3", "C4", "C5", "C6", "C9")
"""Of the best curves; the rest is grey."""
GREY = "0.75"
LEARNED = (*WORDS.values(), *TABLES)
"""Words of the labels of what was learned."""
_MARGIN = 1.2
"""Factor between the extreme values of a distance and the panel's ends."""
_TO_ZERO = 0.1
"""An error bar that ends below this part of its value counts as one that reaches zero, which no logarithm shows."""
WIDTH, HEIGHT = 13.0, 4.5
"""Of a dataset's row of panels, in inches."""
AS_WRITTEN = matplotlib.rc_context({"text.parse_math": False, "svg.fonttype": "none", "svg.hashsalt": "amed-lightning"})
"""Names are no formulas, an SVG's text stays text, and equal rows are equal bytes."""


@dataclass(frozen=True)
class Curve:
    """A solver run in one way.

    Attributes:
        label: of the solver.
        schedule: that all rows have.
        afs: whether their first step is the analytic one.
        rows: by number of network runs, the lowest first.
    """

    label: str
    schedule: str
    afs: bool
    rows: dict[int, Row]

    @property
    def title(self) -> str:
        """What a legend calls it."""
        return f"{self.label}, {self.schedule}{', AFS' if self.afs else ''}"

    @property
    def is_learned(self) -> bool:
        """Whether something was learned for it."""
        return self.label.startswith("amed") or any(word in self.label for word in LEARNED)


def curves(rows: Sequence[Row], schedule: str | None = None) -> list[Curve]:
    """Return a dataset's curves, one per solver, the best first; references and unusual protocols are in none.

    Args:
        rows: of a dataset.
        schedule: that all are on; None for each solver's best of those that it ran on at the most NFE.
    """
    usual, found = usual_protocol(rows), defaultdict[str, dict[tuple[str, bool], Curve]](dict)
    for row in sorted(rows, key=lambda row: (row.id.nfe, -goodness(row))):
        if not row.is_reference and row.protocol == usual and schedule in (None, row.id.schedule):
            label, way = row.id.label, (row.id.schedule, row.id.afs)
            found[label].setdefault(way, Curve(label, *way, {})).rows[row.id.nfe] = row
    drawn = [_best([*ways.values()]) for ways in found.values()]
    return sorted(drawn, key=lambda curve: (_rank(curve, drawn), curve.label))


def _best(rivals: Sequence[Curve]) -> Curve:
    """Return the best of the curves that have the most NFE."""
    most = max(len(curve.rows) for curve in rivals)
    complete = [curve for curve in rivals if len(curve.rows) == most]
    return min(complete, key=lambda curve: (_rank(curve, complete), curve.schedule, curve.afs))


def _rank(curve: Curve, rivals: Sequence[Curve]) -> float:
    """Return how large a part of its rivals is better, on average over its NFE."""

    def better(nfe: int) -> float:
        others = [goodness(rival.rows[nfe]) for rival in rivals if nfe in rival.rows]
        return fmean(other < goodness(curve.rows[nfe]) for other in others)

    return fmean(map(better, curve.rows))


@AS_WRITTEN
def plot(rows: Iterable[Row], path: Path, schedule: str | None = None) -> None:
    """Draw a row of panels per dataset: a curve per solver, at most eight of them coloured, the reference as a line.

    Args:
        rows: finished cells; those of an unusual protocol are left out.
        path: of the picture; its ending decides the format.
        schedule: see :func:`curves`.
    """
    rows = list(rows)
    scores, by_dataset = drawn_scores(rows), _of_datasets(rows)
    size = (WIDTH, HEIGHT * len(by_dataset))
    figure, grid = plt.subplots(len(by_dataset), len(scores), figsize=size, layout="constrained", squeeze=False)
    for panels, (dataset, its_rows) in zip(grid, by_dataset.items(), strict=True):
        for panel, (name, score) in zip(panels, scores.items(), strict=True):
            draw(panel, its_rows, name, score, schedule)
            panel.set_title(dataset)
        panels[-1].legend(*_legend_of(panels[-1]), fontsize="small", loc="center left", bbox_to_anchor=(1.02, 0.5))
    figure.suptitle(f"{what_is_drawn(schedule)}; bars: standard errors")
    save(figure, path)


def what_is_drawn(schedule: str | None) -> str:
    """Say which schedules curves are on."""
    best = "Each solver in one way, the best of the schedules and AFS settings that it ran with at the most NFE"
    return best if schedule is None else f"All solvers on {schedule}"


def colour_of(number: int) -> str:
    """Return a curve's colour, by its place among all."""
    return to_hex(COLOURS[number] if number < len(COLOURS) else GREY)


def _of_datasets(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Return the rows of each dataset."""
    found = defaultdict[str, list[Row]](list)
    for row in rows:
        found[row.id.dataset].append(row)
    return found


def drawn_scores(rows: Sequence[Row]) -> dict[str, Score]:
    """Return the scores that are drawn."""
    return dict(list(scores_of(rows).items())[:_PANELS])


def save(figure: Figure, path: Path, **options: Any) -> None:
    """Write a figure, whole or not at all, and close it.

    Args:
        figure: to write.
        path: of the picture; its ending decides the format.
        options: of matplotlib's.
    """
    write_atomically(path, content_of(figure, path.suffix.removeprefix("."), **options))


def content_of(figure: Figure, ending: str, **options: Any) -> bytes:
    """Return a figure's file, without the time in it, and close it."""
    content, dated = BytesIO(), {"svg": "Date", "pdf": "CreationDate"}
    metadata = {dated[ending]: None} if ending in dated else None
    figure.savefig(content, format=ending, dpi=120, metadata=metadata, **options)
    plt.close(figure)
    return content.getvalue()


def draw(panel: Any, rows: Sequence[Row], name: str, score: Score, schedule: str | None = None) -> None:
    """Draw a dataset's score; every error bar ends inside the axes, unless it reaches zero on a logarithmic one."""
    shown = curves(rows, schedule)
    for number, curve in enumerate(shown):
        _draw_curve(panel, number, curve, name)
    if len(shown) > len(COLOURS):
        panel.plot([], [], color=GREY, label=f"{len(shown) - len(COLOURS)} others")
    references = [row for row in rows if row.is_reference and name in row.values]
    for row in references:
        panel.axhline(row.values[name], color="black", linestyle=":", label=f"{row.id.label}, {row.id.nfe} NFE")
    panel.set(xlabel="network runs per sample (NFE)", ylabel=score.title)
    if nfes := sorted({nfe for curve in shown for nfe in curve.rows}):
        panel.set_xticks(nfes)
    ends = [end for row in [*references, *chain(*(curve.rows.values() for curve in shown))] for end in _ends(row, name)]
    if score.better == "lower" and ends and min(ends) > 0:
        panel.set(yscale="log", ylim=(min(ends) / _MARGIN, max(ends) * _MARGIN))
        panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        panel.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        panel.yaxis.set_minor_formatter(NullFormatter())


def _legend_of(panel: Any) -> tuple[list[Any], list[str]]:
    """Return what a legend shows, the curves before plain lines."""
    pairs = sorted(zip(*panel.get_legend_handles_labels(), strict=True), key=lambda pair: isinstance(pair[0], Line2D))
    return [handle for handle, _ in pairs], [label for _, label in pairs]


def _ends(row: Row, score: str) -> list[float]:
    """Return a value's error bar's ends, but for a lower one that is next to nothing."""
    value, error = row.values.get(score), row.values.get(f"{score}_error", 0.0)
    if value is None:
        return []
    return [value, value + error, *([value - error] if value - error > _TO_ZERO * value else [])]


def _draw_curve(panel: Any, number: int, curve: Curve, score: str) -> None:
    """Draw a solver's scores with their standard errors, if it has any; what is learned is drawn bold."""
    rows = [row for row in curve.rows.values() if score in row.values]
    values = [row.values[score] for row in rows]
    errors = [row.values.get(f"{score}_error", 0.0) for row in rows]
    nfes = [row.id.nfe for row in rows]
    look: dict[str, Any] = {"color": colour_of(number), "linewidth": 2.5 if curve.is_learned else 1.2}
    look |= {"label": curve.title, "zorder": 2.5} if number < len(COLOURS) else {"zorder": 1.5}
    panel.errorbar(nfes, values, errors, marker="o", markersize=4, capsize=3, elinewidth=1.2, **look)


_INCHES_PER_IMAGE = 0.8


@AS_WRITTEN
def write_grids(rows: Sequence[Row], results: Results, schedule: str | None = None) -> list[Path]:
    """Write a picture per dataset and number of network runs, a row per curve.

    Returns:
        The pictures' paths.
    """
    written = []
    for dataset, its_rows in _of_datasets(rows).items():
        for nfe, strips in strips_of(its_rows, results, schedule).items():
            path = results.folder / f"samples-{dataset}-{nfe}.png"
            _write(path, f"{dataset}: the same seeds at {nfe} network runs", strips)
            written.append(path)
    return written


def strips_of(rows: Sequence[Row], results: Results, schedule: str | None = None) -> dict[int, dict[str, Bytes]]:
    """Return a dataset's images of the first seeds by NFE and title: the reference's before those of each curve."""
    references, drawn = [row for row in rows if row.is_reference], curves(rows, schedule)
    found = {}
    for nfe in sorted({nfe for curve in drawn for nfe in curve.rows}):
        shown = [*references, *(curve.rows[nfe] for curve in drawn if nfe in curve.rows)]
        found[nfe] = {_title(row): images for row in shown if (images := results.samples(row.key)) is not None}
    return {nfe: strips for nfe, strips in found.items() if strips}


def _title(row: Row) -> str:
    afs = ", AFS" if row.id.afs else ""
    nfe = f", {row.id.nfe} NFE" if row.is_reference else ""
    return f"{row.id.label}\n{row.id.schedule}{afs}{nfe}"


def _write(path: Path, title: str, strips: dict[str, Bytes]) -> None:
    """Draw a strip of images per title."""
    columns = max(map(len, strips.values()))
    size = (_INCHES_PER_IMAGE * columns + 2, _INCHES_PER_IMAGE * len(strips) + 0.5)
    figure, axes = plt.subplots(len(strips), 1, figsize=size, layout="constrained", squeeze=False)
    for axis, (name, images) in zip(axes[:, 0], strips.items(), strict=True):
        axis.imshow(strip(images).numpy(), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        axis.set_ylabel(name, rotation=0, ha="right", va="center", fontsize="small")
        axis.set(xticks=[], yticks=[])
    figure.suptitle(title, fontsize="medium")
    save(figure, path, bbox_inches="tight")


def strip(images: Bytes) -> UInt8[Tensor, "height strip_width channels"]:
    """Put images side by side, a white line after each."""
    padded = torch.nn.functional.pad(images, (0, 1), value=255)
    return padded.permute(2, 0, 3, 1).flatten(1, 2)
