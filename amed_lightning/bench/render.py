"""Tables as Markdown, LaTeX, CSV, and on a terminal."""

import csv
import io
import re
from collections.abc import Iterable, Iterator
from typing import Any

from rich import text
from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions
from rich.segment import Segment
from rich.table import Table as TerminalTable

from amed_lightning.bench.published import NOTHING, Published
from amed_lightning.bench.results import Line
from amed_lightning.bench.table import Table, known_scores, ordered
from amed_lightning.metrics.scores import MAIN

LEFT = ("solver", "schedule", "AFS")
NAMES = 4
"""Columns that name a cell; the one behind them has its first score."""
TIGHT: dict[str, Any] = {"padding": 0, "show_edge": False}
"""One space between columns."""
STATISTICS = ("", "_error", "_mean", "_min")
_IN_LATEX = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    **{"±": r"$\pm$", "†": r"$^\dagger$", "‡": r"$^\ddagger$", "§": r"\S{}", "°": r"$^\circ$", "—": "---"},
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": "$<$", ">": "$>$"},
}


def markdown(tables: Iterable[Table]) -> str:
    """Return Markdown, with a heading per dataset where there are several."""
    tables = list(tables)
    return "\n".join((f"## {table.dataset}\n\n" if len(tables) > 1 else "") + _markdown(table) for table in tables)


def _markdown(table: Table) -> str:
    shown = [[f"**{cell.text}**" if cell.is_best else cell.text for cell in line] for line in table.lines]
    lines = [table.header, ["---"] * len(table.header), *shown]
    notes = "".join(f"\n{number}. {note}" for number, note in enumerate(table.notes, 1))
    rows = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"{rows}\n\n{table.caption}\n" + (f"{notes}\n" if notes else "")


def latex(tables: Iterable[Table]) -> str:
    """Return LaTeX tables for the packages booktabs and longtable."""
    return "\n".join(map(_latex, tables))


def _latex(table: Table) -> str:
    columns = "".join("l" if title in LEFT else "r" for title in table.header)
    lines = []
    for group, following, line in zip(table.groups, [*table.groups[1:], None], table.lines, strict=True):
        cells = [rf"\textbf{{{_escaped(cell.text)}}}" if cell.is_best else _escaped(cell.text) for cell in line]
        lines.append(" & ".join(cells) + r" \\")
        if following is not None and following != group:
            lines.append(r"\midrule")
    notes = " ".join(f"[{number}] {note}." for number, note in enumerate(table.notes, 1))
    caption = f"{table.dataset}: {table.caption}. {notes}".strip()
    header = [r"\toprule", " & ".join(map(_escaped, table.header)) + r" \\", r"\midrule"]
    parts = [
        rf"\begin{{longtable}}{{{columns}}}",
        rf"\caption{{{_escaped(caption)}}}\label{{{_label(table.dataset)}}}\\",
        *(*header, r"\endfirsthead", *header, r"\endhead", r"\bottomrule", r"\endfoot"),
        *lines,
        r"\end{longtable}",
    ]
    return "\n".join(parts) + "\n"


def _label(dataset: str) -> str:
    """Return what text refers to a table by: letters, digits and hyphens."""
    return f"tab:{re.sub('[^A-Za-z0-9]+', '-', dataset).strip('-')}"


def _escaped(words: str) -> str:
    return "".join(_IN_LATEX.get(character, character) for character in words)


def comma_separated(lines: Iterable[Line], published: Published = NOTHING) -> str:
    """Return CSV with plain numbers: a line per cell, whatever became of it."""
    lines = list(lines)
    scores = known_scores(line.row for line in lines if line.row is not None)
    numbers = [f"{score}{statistic}" for score in scores for statistic in STATISTICS]
    facts = ["n", "seconds", "images_per_second", "key", "protocol"]
    names = ["dataset", "nfe", "label", "schedule", "afs"]
    output = io.StringIO()
    writer = csv.writer(output, lineterminator="\n")
    columns = [*names, "is_reference", "state", "reason", *numbers, *facts]
    writer.writerow([*columns, "published", "published_source", "published_quality"])
    for dataset in dict.fromkeys(line.id.dataset for line in lines):
        for line in ordered(each for each in lines if each.id.dataset == dataset):
            values = {} if line.row is None else line.row.values
            figure = next((each for each in published.beside(line) if each.metric == MAIN), None)
            quality = "secondary" if figure and figure.is_secondary else "primary"
            writer.writerow(
                [getattr(line.id, name) for name in names]
                + [line.is_reference, line.gap or "finished", line.reason]
                + [values.get(name) for name in numbers]
                + [getattr(line.row, name, None) for name in facts]
                + ([figure.value, figure.source, quality] if figure else [None] * 3)
            )
    return output.getvalue()


class Square(text.Text):
    """Text of a table's square; what fits in a line is not broken into lines, which takes rich most of its time."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Segment]:
        """Fill the square."""
        words = self.plain
        space = " " * (options.max_width - cell_len(words))
        if cell_len(words) > options.max_width or not words.isprintable():
            yield from super().__rich_console__(console, options)
        else:
            filled = space + words if options.justify == "right" else words + space
            yield Segment(filled, console.get_style(self.style))


def terminal(table: Table, width: int | None = None) -> TerminalTable:
    """Return a table for rich.

    Args:
        table: to show.
        width: into which it has to fit: an empty column is left out, then scores from the right, but for the first;
            the caption names them. None leaves nothing out.
    """
    shown = _fitting(table, width)
    left_out = [title for number, title in enumerate(table.header) if number not in shown and number >= NAMES]
    notes = "".join(f"\n[{number}] {note}" for number, note in enumerate(table.notes, 1))
    caption = table.caption + (f"; not shown: {', '.join(left_out)}" if left_out else "")
    drawn = TerminalTable(title=table.dataset, caption=text.Text(caption + notes), box=SIMPLE_HEAD, **TIGHT)
    for title in (table.header[number] for number in shown):
        drawn.add_column(title, justify="left" if title in LEFT else "right")
    for group, following, line in zip(table.groups, [*table.groups[1:], None], table.lines, strict=True):
        cells = [Square(line[number].text, "bold" if line[number].is_best else "") for number in shown]
        drawn.add_row(*cells, end_section=following != group)
    return drawn


def _fitting(table: Table, width: int | None) -> list[int]:
    """Return the columns that fit."""
    columns = list(range(len(table.header)))
    if width is None:
        return columns
    widths = [max(map(cell_len, [title, *texts])) + 1 for title, texts in _columns(table)]
    columns = [number for number in columns if number > NAMES or any(line[number].text for line in table.lines)]
    while sum(widths[number] for number in columns) > width + 1 and columns[-1] > NAMES:
        columns.pop()
    return columns


def _columns(table: Table) -> list[tuple[str, list[str]]]:
    return [(title, [line[number].text for line in table.lines]) for number, title in enumerate(table.header)]
