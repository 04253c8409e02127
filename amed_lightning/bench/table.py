"""From lines to tables of text, one per dataset, and which scores are the best; nothing here computes a score.

Every cell of the suite has its line: a missing, failed or excluded one says so. Published figures stand beside the
cells that they belong to, with their source. Rows of another protocol than most of their dataset's (another
micro-batch, for want of memory) are never ranked with the others. The best score is a winner within its number of
network runs, and so is every score that a paired test on the same seeds cannot tell from it. The reference is never
ranked.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from amed_lightning.bench.jackknife import TEST, Estimate
from amed_lightning.bench.published import NOTHING, Figure, Published
from amed_lightning.bench.results import Line
from amed_lightning.bench.row import Row
from amed_lightning.metrics.metric import Score
from amed_lightning.metrics.scores import MAIN, SCORES


def known_scores(rows: Iterable[Row]) -> dict[str, Score]:
    """Return all scores of the package, and those that rows have of a user's own metrics, which they describe."""
    return SCORES | {name: Score(**told) for row in rows for name, told in row.own_scores.items()}


def scores_of(rows: Sequence[Row]) -> dict[str, Score]:
    """Return the scores that any row has and a table shows."""
    had = {name for row in rows for name in row.values}
    return {name: score for name, score in known_scores(rows).items() if not score.is_implied and name in had}


def estimate(row: Row, score: str) -> Estimate:
    """Return a score that a row has, with what it takes to compare it; rows that older code wrote lack that."""
    return Estimate(row.values[score], row.leave_one_out.get(score, ()))


def goodness(row: Row) -> float:
    """Return a row's first score as a number that is lower the better it is: its FID, if it has one."""
    name, score = next(item for item in known_scores([row]).items() if item[0] in row.values)
    value: float = row.values[name]
    return value if score.better == "lower" else -value


def usual_protocol(rows: Sequence[Row]) -> str | None:
    """Return the protocol of most of a dataset's rows."""
    return Counter(row.protocol for row in rows).most_common(1)[0][0] if rows else None


def winners(rows: Sequence[Row]) -> set[tuple[str, str]]:
    """Return (key, score) of every score of a dataset that no test tells from the best of its NFE."""
    usual = usual_protocol(rows)
    ranked = [row for row in rows if not row.is_reference and row.protocol == usual]
    best, scores, groups = set(), scores_of(rows), defaultdict[int, list[Row]](list)
    for row in ranked:
        groups[row.id.nfe].append(row)
    for group in groups.values():
        for name, score in scores.items():
            rivals = [row for row in group if name in row.values]
            best |= {(row.key, name) for row in _untold(rivals, name, min if score.better == "lower" else max)}
    return best


def _untold(rivals: Sequence[Row], score: str, better: Callable[..., Estimate]) -> list[Row]:
    """Return the best of some rows, and those that cannot be told from it."""
    if not rivals:
        return []
    top = better((estimate(row, score) for row in rivals), key=lambda best: best.value)
    return [row for row in rivals if not (estimate(row, score) - top).is_told_from_zero]


_NOTHING_YET = "scores"
"""Heads the one column of a table without a row."""
WARM_UP, UNLIKE, UNTHRESHOLDED, SECONDARY, GAP = "†", "‡", "§", "°", "—"


@dataclass(frozen=True)
class Text:
    """What one square of a table shows.

    Attributes:
        text: the words.
        is_best: whether it is among the best of its NFE.
    """

    text: str
    is_best: bool = False


@dataclass
class _Notes:
    """Footnotes, numbered as they come up."""

    texts: list[str] = field(default_factory=list)

    def mark(self, text: str) -> str:
        """Return the mark of a note, which is new unless the text has been noted already."""
        if text not in self.texts:
            self.texts.append(text)
        return f"[{self.texts.index(text) + 1}]"


@dataclass(frozen=True)
class Table:
    """A dataset's table.

    Attributes:
        dataset: its name.
        header: titles of the columns, of which the first four name the cell.
        lines: one per cell.
        groups: number of network runs of each line.
        caption: protocol and marks.
        notes: numbered reasons and sources.
    """

    dataset: str
    header: list[str]
    lines: list[list[Text]]
    groups: list[int]
    caption: str
    notes: list[str]


def tables(lines: Iterable[Line], published: Published = NOTHING) -> list[Table]:
    """Return a table per dataset, in the order of the lines."""
    lines = list(lines)
    datasets = dict.fromkeys(line.id.dataset for line in lines)
    return [_table([line for line in lines if line.id.dataset == name], published) for name in datasets]


def ordered(lines: Iterable[Line]) -> list[Line]:
    """Sort a dataset's lines by network runs and their first score; gaps come last."""

    def place(line: Line) -> tuple[int, bool, float]:
        return line.id.nfe, line.row is None, 0.0 if line.row is None else goodness(line.row)

    return sorted(lines, key=place)


def _table(lines: Sequence[Line], published: Published) -> Table:
    lines = ordered(lines)
    rows = [line.row for line in lines if line.row is not None]
    scores, best, usual, notes = scores_of(rows), winners(rows), usual_protocol(rows), _Notes()
    figures = [published.beside(line) for line in lines]
    has_figures = any(figures)
    has_secondary = any(figure.is_secondary for beside in figures for figure in beside)
    caption = [_caption(rows, usual, has_secondary), *_unpublished(lines, published)]
    texts = []
    for line, beside in zip(lines, figures, strict=True):
        cell = _named(line, usual) + _scored(line, scores, best, notes)
        texts.append(cell + ([Text(_published(beside, notes))] if has_figures else []))
    titles = [score.title for score in scores.values()] or [_NOTHING_YET]
    header = ["NFE", "solver", "schedule", "AFS", *titles]
    return Table(
        lines[0].id.dataset,
        header + ([f"published {SCORES[MAIN].title}"] if has_figures else []),
        texts,
        [line.id.nfe for line in lines],
        "; ".join(filter(None, caption)),
        notes.texts,
    )


def _named(line: Line, usual: str | None) -> list[Text]:
    """Name the cell, with the marks of what is special about it."""
    marks = []
    if line.row is not None:
        marks += [WARM_UP] if line.row.stays_in_warm_up else []
        marks += [UNLIKE] if line.row.protocol != usual else []
        marks += [UNTHRESHOLDED] if line.row.lacks_thresholding else []
    label = " ".join([line.id.label, *marks])
    return [Text(str(line.id.nfe)), Text(label), Text(line.id.schedule), Text("yes" if line.id.afs else "")]


def _scored(line: Line, scores: dict[str, Score], best: set[tuple[str, str]], notes: _Notes) -> list[Text]:
    """Show the scores, or in their place why there are none."""
    if line.row is None:
        reason = f" {notes.mark(line.reason)}" if line.reason else ""
        return [Text(line.gap + reason), *[Text(GAP) for _ in list(scores)[1:]]]
    return [Text(_score(line.row, name, score.digits), (line.row.key, name) in best) for name, score in scores.items()]


def _score(row: Row, name: str, digits: int) -> str:
    value, error = row.values.get(name), row.values.get(f"{name}_error")
    shown = "" if value is None else f"{value:.{digits}f}"
    return shown if error is None else f"{shown} ± {error:.{digits}f}"


def _published(figures: Sequence[Figure], notes: _Notes) -> str:
    """Show each published figure once, with all its sources; one that is only quoted elsewhere is marked."""
    sources: dict[str, list[str]] = {}
    for figure in figures:
        if figure.metric == MAIN:
            shown = f"{figure.value:.2f}{SECONDARY if figure.is_secondary else ''}"
            sources.setdefault(shown, []).append(notes.mark(figure.source))
    return ", ".join(f"{value} {''.join(marks)}" for value, marks in sources.items())


def _caption(rows: Sequence[Row], usual: str | None, has_secondary: bool) -> str:
    """Say under which protocol the scores were taken, and what the marks mean."""
    parts = []
    if rows:
        first = next(row for row in rows if row.protocol == usual)
        protocol, has_errors = first.identity["protocol"], any(name.endswith("_error") for name in first.values)
        parts.append(f"n = {first.n} samples per cell, protocol {str(usual)[:12]}")
        if has_errors:
            blocks = f"{protocol['num_blocks']} blocks of {protocol['block_size']} seeds"
            parts.append(f"± standard error of the value, by the jackknife over {blocks}")
        parts.append(f"bold: the best of its NFE{f', and what {TEST} does not tell from it' if has_errors else ''}")
    parts += dict.fromkeys(caveat for row in rows for caveat in row.caveats)
    if any(row.stays_in_warm_up for row in rows):
        parts.append(f"{WARM_UP} too few intervals for its order: all are crossed at a lower one")
    if unlike := sorted({_unlike(row) for row in rows if row.protocol != usual}):
        parts.append(f"{UNLIKE} another protocol, not ranked with the others: {', '.join(unlike)}")
    if any(row.lacks_thresholding for row in rows):
        parts.append(f"{UNTHRESHOLDED} data prediction without the thresholding of the published tools")
    if has_secondary:
        parts.append(f"{SECONDARY} from a secondary source")
    return "; ".join(parts)


def _unlike(row: Row) -> str:
    sizes = ", ".join(map(str, row.batch_sizes))
    return f"{row.protocol[:12]} with n = {row.n} and micro-batches of {sizes}"


def _unpublished(lines: Sequence[Line], published: Published) -> list[str]:
    """Say why published figures of the cells' solvers do not stand beside them, if there are such."""
    reasons = dict.fromkeys(filter(None, (published.unlike(line) for line in lines)))
    return [f"no published figures, because these scores are of {reason}" for reason in reasons]
