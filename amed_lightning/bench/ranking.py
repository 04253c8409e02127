"""Which scores are the best: within a dataset, a number of network runs and a protocol.

Rows of another protocol than most of their dataset's (another micro-batch, for want of memory) are never ranked with
the others. The best score and every score that lies within the spread of it are winners: differences below the spread
are not called better. The reference is never ranked.
"""

from collections import Counter
from collections.abc import Sequence

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


def goodness(row: Row) -> float:
    """Return a row's first score as a number that is lower the better it is: its FID, if it has one."""
    name = next(score for score in SCORES if score in row["values"])
    value: float = row["values"][name]
    return value if SCORES[name][1] is min else -value


def usual_protocol(rows: Sequence[Row]) -> str | None:
    """Return the protocol of most of a dataset's rows."""
    return Counter(row["protocol"] for row in rows).most_common(1)[0][0] if rows else None


def winners(rows: Sequence[Row]) -> set[tuple[str, str]]:
    """Return (key, score) of every score of a dataset that no other of its NFE beats by more than the spread."""
    usual = usual_protocol(rows)
    ranked = [row for row in rows if not row["is_reference"] and row["protocol"] == usual]
    best = set()
    for nfe in {row["nfe"] for row in ranked}:
        for score in scores_of(rows):
            rivals = [row for row in ranked if row["nfe"] == nfe and score in row["values"]]
            best |= {(row["key"], score) for row in _within_spread(rivals, score)}
    return best


def _within_spread(rivals: Sequence[Row], score: str) -> list[Row]:
    if not rivals:
        return []
    _, better, _ = SCORES[score]
    top = better(rivals, key=lambda row: row["values"][score])

    def is_as_good(row: Row) -> bool:
        spread = max(entry["values"].get(f"{score}_spread", 0.0) for entry in (row, top))
        return bool(abs(row["values"][score] - top["values"][score]) <= spread)

    return [row for row in rivals if is_as_good(row)]
