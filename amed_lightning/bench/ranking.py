"""Which scores are the best: within a dataset, a number of network runs and a protocol.

Rows of another protocol than most of their dataset's (another micro-batch, for want of memory) are never ranked with
the others. The best score is a winner, and so is every score that a paired test on the same seeds cannot tell from it.
The reference is never ranked.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from amed_lightning.bench.jackknife import Estimate
from amed_lightning.bench.results import Row
from amed_lightning.metrics.metric import Score
from amed_lightning.metrics.scores import SCORES


def known_scores(rows: Iterable[Row]) -> dict[str, Score]:
    """Return all scores of the package, and those that rows have of a user's own metrics, which they describe."""
    return SCORES | {name: Score(**told) for row in rows for name, told in row.get("own_scores", {}).items()}


def scores_of(rows: Sequence[Row]) -> dict[str, Score]:
    """Return the scores that any row has and a table shows."""
    return {
        name: score
        for name, score in known_scores(rows).items()
        if not score.is_implied and any(name in row["values"] for row in rows)
    }


def estimate(row: Row, score: str) -> Estimate:
    """Return a score that a row has, with what it takes to compare it; rows that older code wrote lack that."""
    return Estimate(row["values"][score], row.get("leave_one_out", {}).get(score, ()))


def goodness(row: Row) -> float:
    """Return a row's first score as a number that is lower the better it is: its FID, if it has one."""
    name, score = next(item for item in known_scores([row]).items() if item[0] in row["values"])
    value: float = row["values"][name]
    return value if score.better == "lower" else -value


def usual_protocol(rows: Sequence[Row]) -> str | None:
    """Return the protocol of most of a dataset's rows."""
    return Counter(row["protocol"] for row in rows).most_common(1)[0][0] if rows else None


def winners(rows: Sequence[Row]) -> set[tuple[str, str]]:
    """Return (key, score) of every score of a dataset that no test tells from the best of its NFE."""
    usual = usual_protocol(rows)
    ranked = [row for row in rows if not row["is_reference"] and row["protocol"] == usual]
    best = set()
    for nfe in {row["nfe"] for row in ranked}:
        for name, score in scores_of(rows).items():
            rivals = [row for row in ranked if row["nfe"] == nfe and name in row["values"]]
            best |= {(row["key"], name) for row in _untold(rivals, name, min if score.better == "lower" else max)}
    return best


def _untold(rivals: Sequence[Row], score: str, better: Callable[..., Estimate]) -> list[Row]:
    """Return the best of some rows, and those that cannot be told from it."""
    if not rivals:
        return []
    top = better((estimate(row, score) for row in rivals), key=lambda best: best.value)
    return [row for row in rivals if not (estimate(row, score) - top).is_told_from_zero]
