"""Two sweeps beside each other: what changed in each cell, and whether a paired test tells it from nothing.

Cells are matched by their place in a table: a retrained predictor or changed code is another result in the same place.
Scores of unlike protocols are not compared.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from operator import attrgetter
from typing import Any

from amed_lightning.bench.jackknife import TEST
from amed_lightning.bench.plan import CellId
from amed_lightning.bench.row import Row
from amed_lightning.bench.table import Table, Text, estimate, scores_of
from amed_lightning.metrics.metric import Score

IN_ORDER = attrgetter("dataset", "nfe", "label", "schedule", "afs")
"""How cells are listed."""


def compare(before: Iterable[Row], after: Iterable[Row]) -> list[Table]:
    """Return a table of differences per dataset; cells that cannot be compared are in its notes.

    Seeds are the same on both sides, so what both sides share cancels in a difference and in its error. A difference
    that a paired test tells from zero is marked.
    """
    old, new = _placed(before), _placed(after)
    datasets = dict.fromkeys(place.dataset for place in (*old, *new))
    return [
        _table(
            dataset, *({place: row for place, row in rows.items() if place.dataset == dataset} for rows in (old, new))
        )
        for dataset in datasets
    ]


def _placed(rows: Iterable[Row]) -> dict[CellId, Row]:
    """Give each row its place; those that share one, because their predictors differ, are told apart by their keys."""
    rows = list(rows)
    shared = Counter(map(_place, rows))
    return {_place(row, f" {row.key[:8]}" if shared[_place(row)] > 1 else ""): row for row in rows}


def _place(row: Row, mark: str = "") -> CellId:
    place = row.id
    return place._replace(label=place.label + mark)


def _table(dataset: str, old: dict[CellId, Row], new: dict[CellId, Row]) -> Table:
    common = sorted(set(old) & set(new), key=IN_ORDER)
    alike = [place for place in common if old[place].protocol == new[place].protocol]
    scores = scores_of([old[place] for place in alike])
    lines = []
    for place in alike:
        _, label, schedule, afs, nfe = place
        named = [Text(str(nfe)), Text(label), Text(schedule), Text("yes" if afs else "")]
        changes = [_change(old[place], new[place], *score) for score in scores.items()]
        speed = new[place].images_per_second / old[place].images_per_second
        lines.append([*named, *changes, Text(f"{speed:.2f}")])
    header = ["NFE", "solver", "schedule", "AFS", *(score.title for score in scores.values()), "speed B/A"]
    caption = f"A → B (difference ± its standard error); bold: {TEST} tells it from zero"
    return Table(dataset, header, lines, [place.nfe for place in alike], caption, _notes(old, new, alike))


def _change(old: Row, new: Row, name: str, score: Score) -> Text:
    """Show a score's two values and their difference."""
    values = [row.values.get(name) for row in (old, new)]
    like_references = old.identity["reference"] == new.identity["reference"]
    if None in values or ("pairs" in score.needs and not like_references):
        return Text("")
    digits, difference = score.digits, estimate(new, name) - estimate(old, name)
    error = "" if difference.error is None else f" ± {difference.error:.{digits}f}"
    text = f"{values[0]:.{digits}f} → {values[1]:.{digits}f} ({difference.value:+.{digits}f}{error})"
    return Text(text, difference.is_told_from_zero)


def _notes(old: dict[CellId, Row], new: dict[CellId, Row], alike: Sequence[CellId]) -> list[str]:
    """Name the cells that are not compared, and why."""
    notes = [f"only A has {_words(place)}" for place in sorted(set(old) - set(new), key=IN_ORDER)]
    notes += [f"only B has {_words(place)}" for place in sorted(set(new) - set(old), key=IN_ORDER)]
    for place in sorted(set(old) & set(new) - set(alike), key=IN_ORDER):
        facts = [_protocol(rows[place]) for rows in (old, new)]
        unlike = ", ".join(
            f"{name} {facts[0].get(name)} against {facts[1].get(name)}"
            for name in sorted(facts[0] | facts[1])
            if facts[0].get(name) != facts[1].get(name)
        )
        notes.append(f"unlike protocols of {_words(place)}: {unlike}")
    return notes


def _protocol(row: Row) -> dict[str, Any]:
    return row.identity["protocol"] | {"batch_sizes": row.batch_sizes}


def _words(place: CellId) -> str:
    return f"{place.label} on {place.schedule}{' with AFS' if place.afs else ''} at {place.nfe} NFE"
