"""Judge a night: every figure of its rows against the golden ones."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from amed_lightning.bench.golden import CURE, Bounds, Golden, GoldenRow, golden_row
from amed_lightning.bench.plan import CellId
from amed_lightning.bench.results import Row


class Verdict(StrEnum):
    """What is said of one figure."""

    fine = "fine"
    warning = "warning"
    undecided = "undecided"
    regression = "regression"


@dataclass(frozen=True)
class Judgement:
    """One figure of one row, and what is said of it.

    Attributes:
        row: its name.
        figure: a score, ``time``, or ``row`` for all of it.
        verdict: fine, warning, undecided, regression.
        message: with both numbers and the bound.
    """

    row: str
    figure: str
    verdict: Verdict
    message: str


def judge(
    rows: Sequence[Row], failures: Mapping[str, str], golden: Golden | None, troubles: Collection[str] = ()
) -> list[Judgement]:
    """Compare a night with the golden rows.

    Args:
        rows: finished tonight.
        failures: name and error of each cell that failed.
        golden: what to compare with, if there is anything.
        troubles: those of them for which the machine is to blame: nothing is said of the code.

    Returns:
        Judgements, in the order of the golden rows and then of those that have none.
    """
    tonight = {str(CellId.of(row)): golden_row(row) for row in rows}
    failed = [
        Judgement(name, "row", Verdict.undecided if name in troubles else Verdict.regression, f"failed: {error}")
        for name, error in failures.items()
    ]
    expected = {} if golden is None else golden.rows
    judgements = list(failed)
    for name, wanted in expected.items():
        if name in tonight and golden is not None:
            judgements += _judge_row(name, tonight[name], wanted, golden.bounds)
        elif name not in failures:
            judgements.append(Judgement(name, "row", Verdict.undecided, "the suite has no such cell any more"))
    new = (name for name in tonight if name not in expected)
    return judgements + [Judgement(name, "row", Verdict.undecided, f"no golden row; {CURE}") for name in new]


def outcome(judgements: Sequence[Judgement]) -> Verdict:
    """Sum a night up: one regression makes it one; otherwise one figure that could not be judged leaves it open."""
    verdicts = {judgement.verdict for judgement in judgements}
    grave = (verdict for verdict in (Verdict.regression, Verdict.undecided) if verdict in verdicts)
    return next(grave, Verdict.fine)


def _judge_row(name: str, row: GoldenRow, golden: GoldenRow, bounds: Bounds) -> Iterator[Judgement]:
    if unlike := _unlike(row, golden):
        yield Judgement(name, "row", Verdict.undecided, f"{unlike}; {CURE}")
        return
    for score, bound in bounds.relative.items():
        if score in golden.values:
            yield _judge_score(name, score, row, golden, bound * abs(golden.values[score]), bounds.standard_errors)
    if bounds.slowdown is not None:
        ratio = row.seconds_per_image / golden.seconds_per_image
        verdict = Verdict.warning if ratio > bounds.slowdown else Verdict.fine
        yield Judgement(name, "time", verdict, f"{ratio:.2f} times the golden seconds per image")


def _unlike(row: GoldenRow, golden: GoldenRow) -> str | None:
    """Say why two rows cannot be compared, if they cannot."""
    if row.protocol != golden.protocol:
        return f"protocol {row.protocol[:12]}, golden {golden.protocol[:12]}"
    if bool(row.leave_one_out) != bool(golden.leave_one_out):
        return "only one of the two has its scores without each block, which a predictor's rows are compared by"
    return None


def _judge_score(
    name: str, score: str, row: GoldenRow, golden: GoldenRow, bound: float, standard_errors: float
) -> Judgement:
    if score not in row.values:
        return Judgement(name, score, Verdict.regression, "the score is missing")
    difference, why = row.estimate(score) - golden.estimate(score), "the stated bound"
    if difference.error is not None and standard_errors * difference.error > bound:
        bound, why = standard_errors * difference.error, f"{standard_errors:g} standard errors of the difference"
    is_near = abs(difference.value) <= bound  # False for a value that is not a number
    values = f"{row.values[score]:.8g}, golden {golden.values[score]:.8g}, difference {difference.value:+.3g}"
    message = f"{values}, {why} {bound:.3g}"
    return Judgement(name, score, Verdict.fine if is_near else Verdict.regression, message)
