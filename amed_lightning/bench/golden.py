"""Golden rows: the figures that a night's rows have to reproduce, one file per hardware and suite.

The same seeds give the same images, so on the same kind of hardware a figure may move by rounding alone, a stated
relative bound. Rows of a predictor are stochastic, because a fit that starts from other rounding ends elsewhere: they
are compared within standard errors of the difference on equal seeds. On hardware without golden rows, those of a named
base are compared within wider bounds, which ``tolerances.yaml`` states. A row of another protocol is never compared.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from amed_lightning.bench.jackknife import Estimate
from amed_lightning.bench.ranking import known_scores
from amed_lightning.bench.results import Row
from amed_lightning.config import InputError, checked, content_of, load_dataclass
from amed_lightning.metrics.scores import SCORES
from amed_lightning.runtime.json_text import parse_json

TOLERANCES = {name: score.tolerance for name, score in SCORES.items() if score.tolerance is not None}
CURE = "run `amed-lightning bench nightly` with --update-golden and commit what it writes"


@dataclass(frozen=True)
class Bounds:
    """How far a figure may lie from its golden value.

    Attributes:
        relative: of each score, where all is deterministic.
        standard_errors: of the difference on equal seeds, for rows of a predictor.
        slowdown: ratio of the seconds per image above which a warning is printed; None does not look at time.
    """

    relative: dict[str, float] = field(default_factory=TOLERANCES.copy)
    standard_errors: float = 3.0
    slowdown: float | None = 1.5


@dataclass(frozen=True)
class Tolerances:
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


def square_name(square: Mapping[str, Any]) -> str:
    """Name a row or a cell by what a suite says of it: it is found again when weights or code have changed."""
    afs = " afs" if square["afs"] else ""
    return f"{square['dataset']} {square['label']} {square['schedule']}{afs} {square['nfe']} NFE"


def golden_row(row: Row) -> GoldenRow:
    """Keep of a row what the next nights are compared with."""
    values = {score: row["values"][score] for score in known_scores([row]) if score in row["values"]}
    learned = is_learned(row)
    leave_one_out = row["leave_one_out"] if learned else {}
    return GoldenRow(row["protocol"], learned, values, row["seconds"] / row["n"], leave_one_out)


def is_learned(row: Row) -> bool:
    """Whether a row's placer is a predictor, which a row identifies by its digest."""
    return isinstance(row["identity"]["solver"].get("placer"), str)


def golden_path(folder: Path, hardware: str, suite: str) -> Path:
    """Return where the golden rows of a suite on a kind of hardware are."""
    return folder / hardware / f"{suite}.json"


def golden_text(rows: Iterable[Row], hardware: str, source: Mapping[str, Any]) -> str:
    """Write golden rows as JSON, one figure a line, sorted, so that a diff can be reviewed."""
    content = {
        "hardware": hardware,
        "versions": source["versions"],
        "rows": {square_name(row): asdict(golden_row(row)) for row in rows},
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
    stated = load_dataclass(tolerances, Tolerances)
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
