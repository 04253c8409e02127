"""Tables from rows: terminal, Markdown, CSV. Nothing here computes a score.

Within one number of network runs, the best score and every score that lies within the spread of it are marked:
differences below the spread are not called better. The reference is never ranked.
"""

import csv
import io
from collections.abc import Iterable, Sequence

from rich.table import Table

from amed_lightning.bench.results import Row

SCORES = {"fid": ("FID", min), "is": ("IS", max), "rmse": ("RMSE", min)}
WARM_UP = " †"
COLUMNS = ("NFE", "solver", "schedule", "AFS", *(title for title, _ in SCORES.values()))


def ordered(rows: Iterable[Row]) -> list[Row]:
    """Sort by dataset, network runs and FID."""
    return sorted(rows, key=lambda row: (row["dataset"], row["nfe"], row["values"]["fid"]))


def best(rows: Sequence[Row]) -> set[tuple[str, str]]:
    """Return (key, score) of every entry that no other of its NFE beats by more than the spread."""
    winners = set()
    ranked = [row for row in rows if not row["is_reference"]]
    for nfe in {row["nfe"] for row in ranked}:
        rivals = [row for row in ranked if row["nfe"] == nfe]
        for score, (_, better) in SCORES.items():
            top = better(rivals, key=lambda row: row["values"][score])
            for row in rivals:
                spread = max(entry["values"].get(f"{score}_spread", 0.0) for entry in (row, top))
                if abs(row["values"][score] - top["values"][score]) <= spread:
                    winners.add((row["key"], score))
    return winners


def cells(row: Row, marked: set[tuple[str, str]], mark: str) -> list[str]:
    """Write one row as text, the best scores between a pair of ``mark``."""
    name = row["label"] + (WARM_UP if row["stays_in_warm_up"] else "")
    texts = [str(row["nfe"]), name, row["schedule"], "yes" if row["afs"] else ""]
    for score in SCORES:
        value, spread = row["values"].get(score), row["values"].get(f"{score}_spread")
        text = "" if value is None else f"{value:.3f}" if score == "rmse" else f"{value:.2f}"
        if spread is not None:
            text += f" ± {spread:.3f}" if score == "rmse" else f" ± {spread:.2f}"
        texts.append(f"{mark}{text}{mark}" if (row["key"], score) in marked else text)
    return texts


def caption(rows: Sequence[Row]) -> str:
    """Say under which protocol the scores were taken."""
    sizes = sorted({row["n"] for row in rows})
    protocols = sorted({row["protocol"][:12] for row in rows})
    warming = f"; {WARM_UP.strip()} too few intervals for its order: it stays in its warm-up"
    return (
        f"n = {', '.join(map(str, sizes))} samples per cell, ± deviation over its seed blocks, "
        f"protocol {', '.join(protocols)}; bold: the best of its NFE, and what lies within the spread of it"
    ) + (warming if any(row["stays_in_warm_up"] for row in rows) else "")


def markdown(rows: Iterable[Row]) -> str:
    """Return a Markdown table."""
    rows = ordered(rows)
    marked = best(rows)
    lines = [COLUMNS, ["---"] * len(COLUMNS), *(cells(row, marked, "**") for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + f"\n\n{caption(rows)}\n"


def comma_separated(rows: Iterable[Row]) -> str:
    """Return CSV with plain numbers, spreads in columns of their own."""
    numbers = [name for score in SCORES for name in (score, f"{score}_spread")]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["nfe", "solver", "schedule", "afs", *numbers, "n", "seconds", "key", "protocol"])
    for row in ordered(rows):
        values = [row["values"].get(name) for name in numbers]
        known = [row["nfe"], row["label"], row["schedule"], row["afs"]]
        writer.writerow([*known, *values, row["n"], row["seconds"], row["key"], row["protocol"]])
    return text.getvalue()


def terminal(rows: Iterable[Row], title: str) -> Table:
    """Return a table for rich."""
    rows = ordered(rows)
    marked = best(rows)
    table = Table(title=title, caption=caption(rows))
    for column in COLUMNS:
        table.add_column(column, justify="left" if column in ("solver", "schedule", "AFS") else "right")
    for row, following in zip(rows, [*rows[1:], None], strict=True):
        texts = [text.replace("**", "[bold]", 1).replace("**", "[/bold]") for text in cells(row, marked, "**")]
        table.add_row(*texts, end_section=following is None or following["nfe"] != row["nfe"])
    return table
