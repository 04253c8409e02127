"""Golden rows, the figures that a night's rows have to reproduce, what is found by them, and its report.

There is one file of them per hardware and suite; the report is Markdown for a person, JUnit XML for a CI server.

The same seeds give the same images, so on the same kind of hardware a figure may move by rounding alone, a stated
relative bound. Rows of a predictor are stochastic, because a fit that starts from other rounding ends elsewhere: they
are compared within standard errors of the difference on equal seeds. On hardware without golden rows, those of a named
base are compared within wider bounds, which ``tolerances.yaml`` states. A row of another protocol is never compared.
"""

import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from amed_lightning.bench.jackknife import Estimate
from amed_lightning.bench.row import Row
from amed_lightning.bench.table import known_scores
from amed_lightning.config import InputError, checked, content_of, load_dataclass
from amed_lightning.metrics.scores import SCORES
from amed_lightning.runtime.json_text import parse_json

_TOLERANCES = {name: score.tolerance for name, score in SCORES.items() if score.tolerance is not None}
CURE = "run `amed-lightning bench nightly` with --update-golden and commit what it writes"


@dataclass(frozen=True)
class Bounds:
    """How far a figure may lie from its golden value.

    Attributes:
        relative: of each score, where all is deterministic.
        standard_errors: of the difference on equal seeds, for rows of a predictor.
        slowdown: ratio of the seconds per image above which a warning is printed; None does not look at time.
    """

    relative: dict[str, float] = field(default_factory=_TOLERANCES.copy)
    standard_errors: float = 3.0
    slowdown: float | None = 1.5


@dataclass(frozen=True)
class _Tolerances:
    """What ``tolerances.yaml`` says about hardware without golden rows.

    Attributes:
        base: the hardware whose golden rows stand in.
        relative: bound of each score.
    """

    base: str
    relative: dict[str, float]


@dataclass(frozen=True)
class GoldenRow:
    """A figure to reproduce.

    Attributes:
        protocol: digest of the protocol under which it was taken.
        learned: whether it is a predictor's.
        values: each score's value.
        seconds_per_image: of one process.
        leave_one_out: of a predictor's scores: the values without each block of seeds.
    """

    protocol: str
    learned: bool
    values: dict[str, float]
    seconds_per_image: float
    leave_one_out: dict[str, list[float]] = field(default_factory=dict)

    def estimate(self, score: str) -> Estimate:
        """Return a score with what it takes to compare it."""
        return Estimate(self.values[score], self.leave_one_out.get(score, ()))


@dataclass(frozen=True)
class Golden:
    """Golden rows and the bounds that they are held to.

    Attributes:
        rows: by name.
        bounds: for the hardware at hand.
        origin: which rows these are, for the report.
    """

    rows: dict[str, GoldenRow]
    bounds: Bounds
    origin: str


def golden_row(row: Row) -> GoldenRow:
    """Keep of a row what the next nights are compared with."""
    values = {score: row.values[score] for score in known_scores([row]) if score in row.values}
    learned = is_learned(row)
    leave_one_out = row.leave_one_out if learned else {}
    return GoldenRow(row.protocol, learned, values, row.seconds / row.n, leave_one_out)


def is_learned(row: Row) -> bool:
    """Whether a row's placer is a predictor, which a row identifies by its digest."""
    return isinstance(row.identity["solver"].get("placer"), str)


def golden_path(folder: Path, hardware: str, suite: str) -> Path:
    """Return where the golden rows of a suite on a kind of hardware are."""
    return folder / hardware / f"{suite}.json"


def golden_text(rows: Iterable[Row], hardware: str, source: Mapping[str, Any]) -> str:
    """Write golden rows as JSON, one figure a line, sorted, so that a diff can be reviewed."""
    content = {
        "hardware": hardware,
        "versions": source["versions"],
        "rows": {str(row.id): asdict(golden_row(row)) for row in rows},
    }
    return json.dumps(content, indent=2, sort_keys=True) + "\n"


def load_golden(folder: Path, hardware: str, suite: str, bounds: Bounds) -> Golden | None:
    """Find what a night on this hardware is compared with.

    Args:
        folder: of all golden rows.
        hardware: at hand.
        suite: its name.
        bounds: on hardware that has golden rows.

    Returns:
        The golden rows, or None if there are neither any for this hardware nor for a base that stands in.

    Raises:
        InputError: a file there is not what it should be.
    """
    own, tolerances = golden_path(folder, hardware, suite), folder / "tolerances.yaml"
    if own.is_file():
        return Golden(_read_rows(own), bounds, str(own))
    if not tolerances.is_file():
        return None
    stated = load_dataclass(tolerances, _Tolerances)
    base = golden_path(folder, stated.base, suite)
    if not base.is_file():
        return None
    wider = Bounds(stated.relative, bounds.standard_errors, slowdown=None)
    return Golden(_read_rows(base), wider, f"{base}, within {tolerances}: there are no rows for {hardware}")


def _read_rows(path: Path) -> dict[str, GoldenRow]:
    try:
        return {
            name: GoldenRow(**checked(GoldenRow, row)) for name, row in parse_json(content_of(path))["rows"].items()
        }
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise InputError(f"{path}: not a file of golden rows ({error!r}); {CURE}") from error


class Verdict(StrEnum):
    """What is said of one figure."""

    fine = "fine"
    warning = "warning"
    undecided = "undecided"
    regression = "regression"


@dataclass(frozen=True)
class Check:
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


def check(
    rows: Sequence[Row], failures: Mapping[str, str], golden: Golden | None, troubles: Collection[str] = ()
) -> list[Check]:
    """Compare a night with the golden rows.

    Args:
        rows: finished tonight.
        failures: name and error of each cell that failed.
        golden: what to compare with, if there is anything.
        troubles: those of them for which the machine is to blame: nothing is said of the code.

    Returns:
        Judgements, in the order of the golden rows and then of those that have none.
    """
    tonight = {str(row.id): golden_row(row) for row in rows}
    failed = [
        Check(name, "row", Verdict.undecided if name in troubles else Verdict.regression, f"failed: {error}")
        for name, error in failures.items()
    ]
    expected = {} if golden is None else golden.rows
    checks = list(failed)
    for name, wanted in expected.items():
        if name in tonight and golden is not None:
            checks += _check_row(name, tonight[name], wanted, golden.bounds)
        elif name not in failures:
            checks.append(Check(name, "row", Verdict.undecided, "the suite has no such cell any more"))
    new = (name for name in tonight if name not in expected)
    return checks + [Check(name, "row", Verdict.undecided, f"no golden row; {CURE}") for name in new]


def outcome(checks: Sequence[Check]) -> Verdict:
    """Sum a night up: one regression makes it one; otherwise one figure that could not be judged leaves it open."""
    verdicts = {each.verdict for each in checks}
    grave = (verdict for verdict in (Verdict.regression, Verdict.undecided) if verdict in verdicts)
    return next(grave, Verdict.fine)


def _check_row(name: str, row: GoldenRow, golden: GoldenRow, bounds: Bounds) -> Iterator[Check]:
    if unlike := _unlike(row, golden):
        yield Check(name, "row", Verdict.undecided, f"{unlike}; {CURE}")
        return
    judged = {score: bound for score, bound in bounds.relative.items() if score in golden.values}
    if not judged:
        yield Check(name, "row", Verdict.undecided, f"no bound for any of its scores, {', '.join(golden.values)}")
    for score, bound in judged.items():
        yield _judge_score(name, score, row, golden, bound * abs(golden.values[score]), bounds.standard_errors)
    if bounds.slowdown is not None:
        ratio = row.seconds_per_image / golden.seconds_per_image
        verdict = Verdict.warning if ratio > bounds.slowdown else Verdict.fine
        yield Check(name, "time", verdict, f"{ratio:.2f} times the golden seconds per image")


def _unlike(row: GoldenRow, golden: GoldenRow) -> str | None:
    """Say why two rows cannot be compared, if they cannot."""
    if row.protocol != golden.protocol:
        return f"protocol {row.protocol[:12]}, golden {golden.protocol[:12]}"
    if bool(row.leave_one_out) != bool(golden.leave_one_out):
        return "only one of the two has its scores without each block, which a predictor's rows are compared by"
    return None


def _judge_score(
    name: str, score: str, row: GoldenRow, golden: GoldenRow, bound: float, standard_errors: float
) -> Check:
    if score not in row.values:
        return Check(name, score, Verdict.regression, "the score is missing")
    difference, why = row.estimate(score) - golden.estimate(score), "the stated bound"
    if difference.error is not None and standard_errors * difference.error > bound:
        bound, why = standard_errors * difference.error, f"{standard_errors:g} standard errors of the difference"
    is_near = abs(difference.value) <= bound  # False for a value that is not a number
    values = f"{row.values[score]:.8g}, golden {golden.values[score]:.8g}, difference {difference.value:+.3g}"
    message = f"{values}, {why} {bound:.3g}"
    return Check(name, score, Verdict.fine if is_near else Verdict.regression, message)


def nightly_markdown(title: str, checks: Sequence[Check], origin: str, table: str) -> str:
    """Write what was found: the outcome, everything that is not fine, and the night's table.

    Args:
        title: of the report.
        checks: all of them.
        origin: what the rows were compared with.
        table: the night's scores in Markdown.
    """
    counts = Counter(each.verdict for each in checks)
    summary = ", ".join(f"{counts[verdict]} {verdict}" for verdict in Verdict if counts[verdict])
    found = [each for each in checks if each.verdict != Verdict.fine]
    lines = [f"# {title}", "", f"Outcome: **{outcome(checks)}** ({summary or 'nothing to check'}).", ""]
    lines += [f"Compared with: {origin}", ""]
    if found:
        lines += ["| verdict | row | figure | what |", "| --- | --- | --- | --- |"]
        lines += [f"| {entry.verdict} | {entry.row} | {entry.figure} | {entry.message} |" for entry in found]
        lines.append("")
    return "\n".join([*lines, table])


def junit_xml(suite: str, checks: Iterable[Check]) -> bytes:
    """Write a test case per figure: a regression fails it, an undecided one is skipped, a warning is its output."""
    cases = []
    for each in checks:
        case = ElementTree.Element("testcase", classname=f"{suite}.{each.row}", name=each.figure)
        if each.verdict == Verdict.regression:
            ElementTree.SubElement(case, "failure", message=each.message)
        elif each.verdict == Verdict.undecided:
            ElementTree.SubElement(case, "skipped", message=each.message)
        elif each.verdict == Verdict.warning:
            ElementTree.SubElement(case, "system-out").text = each.message
        cases.append(case)
    root = ElementTree.Element("testsuite", name=suite, tests=str(len(cases)))
    for attribute, child in (("failures", "failure"), ("skipped", "skipped")):
        root.set(attribute, str(sum(case.find(child) is not None for case in cases)))
    root.extend(cases)
    return ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
