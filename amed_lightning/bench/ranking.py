"""Which scores are the best: within a dataset, a number of network runs and a protocol.

Rows of another protocol than most of their dataset's (another micro-batch, for want of memory) are never ranked with
the others. The best score is a winner, and so is every score that a paired test on the same seeds cannot tell from it.
The reference is never ranked.
"""

from collections import Counter
from collections.abc import Sequence

from amed_lightning.bench.jackknife import Estimate
from amed_lightning.bench.results import Row

SCORES = {
    "fid": ("FID", min, 2),
    "is": ("IS", max, 2),
    "kid": ("KID", min, 5),
    "precision": ("precision", max, 3),
    "recall": ("recall", max, 3),
    "rmse": ("RMSE", min, 3),
    "psnr": ("PSNR", max, 2),
}
"""Title, which of two is better, and digits after the point."""
IMPLIED = ("psnr",)
"""Scores that say what another one says; CSV has them, tables do not."""


def scores_of(rows: Sequence[Row]) -> list[str]:
    """Return the names of the scores that any row has and a table shows."""
    return [name for name in SCORES if name not in IMPLIED and any(name in row["values"] for row in rows)]


def estimate(row: Row, score: str) -> Estimate:
    """Return a score that a row has, with what it takes to compare it; rows that older code wrote lack that."""
    return Estimate(row["values"][score], row.get("leave_one_out", {}).get(score, ()))


def goodness(row: Row) -> float:
    """Return a row's first score as a number that is lower the better it is: its FID, if it has one."""
    name = next(score for score in SCORES if score in row["values"])
    value: float = row["values"][name]
    return value if SCORES[name][1] is min else -value


def usual_protocol(rows: Sequence[Row]) -> str | None:
    """Return the protocol of most of a dataset's rows."""
    return Counter(row["protocol"] for row in rows).most_common(1)[0][0] if rows else None


def winners(rows: Sequence[Row]) -> set[tuple[str, str]]:
    """Return (key, score) of every score of a dataset that no test tells from the best of its NFE."""
    usual = usual_protocol(rows)
    ranked = [row for row in rows if not row["is_reference"] and row["protocol"] == usual]
    best = set()
    for nfe in {row["nfe"] for row in ranked}:
        for score in scores_of(rows):
            rivals = [row for row in ranked if row["nfe"] == nfe and score in row["values"]]
            best |= {(row["key"], score) for row in _untold(rivals, score)}
    return best


def _untold(rivals: Sequence[Row], score: str) -> list[Row]:
    """Return the best of some rows, and those that cannot be told from it."""
    if not rivals:
        return []
    _, better, _ = SCORES[score]
    top = better((estimate(row, score) for row in rivals), key=lambda best: best.value)
    return [row for row in rivals if not (estimate(row, score) - top).is_told_from_zero]
