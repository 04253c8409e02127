"""Published figures beside our own: the CSV's rows, joined by rules that say what its spellings are with us.

A row that the rules call not ours is never joined, and the reason stands in the rules' file. NFE are turned into our
unit, network runs per sample. A figure stands only beside a cell that is scored as it was: by the same detector,
against the same real images, with as many samples.
"""

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amed_lightning.bench.plan import SCORED, CellId, Planned
from amed_lightning.bench.results import Line
from amed_lightning.config import InputError, Spec, load_yaml
from amed_lightning.runtime.json_text import finite

FIGURES, KEYS = "published-figures.csv", "published_keys.yaml"
COLUMNS = ("dataset", "guidance", "solver", "nfe", "metric", "value", "source", "quality")
Rule = dict[str, Any]


@dataclass(frozen=True)
class Figure:
    """A published number.

    Attributes:
        metric: fid, is, ...
        value: as printed.
        source: paper and table.
        is_secondary: quoted by somebody else.
    """

    metric: str
    value: float
    source: str
    is_secondary: bool


@dataclass(frozen=True)
class Scoring:
    """How the figures of a dataset were scored.

    Attributes:
        detectors: options of each detector that is theirs.
        real_images: options of what they refer to.
        n: samples per figure.
    """

    detectors: list[Spec]
    real_images: Spec
    n: int

    def unlike(self, scored: dict[str, Any]) -> str:
        """Say in what a cell is scored otherwise; nothing if it is not. What is not known of it is another thing."""
        detector, real_images, n = map(scored.get, SCORED)
        differences = {
            "another detector": not any(_has(detector, options) for options in self.detectors),
            "other real images": not _has(real_images, self.real_images),
            f"n = {n} instead of {self.n}": n != self.n,
        }
        return ", ".join(words for words, is_so in differences.items() if is_so)


@dataclass(frozen=True)
class Published:
    """All figures of a file.

    Attributes:
        figures: those that are joined, by the place in our tables that they belong to.
        left_out: rows that are not ours, with the reason.
        unmapped: rows that no rule speaks of.
        scored: how the figures of each dataset were.
    """

    figures: dict[CellId, list[Figure]]
    left_out: list[tuple[dict[str, str], str]]
    unmapped: list[dict[str, str]]
    scored: dict[str, Scoring]

    def beside(self, cell: Planned | Line) -> list[Figure]:
        """Return the figures that belong beside a cell, primary sources first."""
        return [] if self.unlike(cell) else self._of(cell.id)

    def unlike(self, cell: Planned | Line) -> str:
        """Say in what a cell that could have figures beside it is scored otherwise than they were, if it is."""
        return self.scored[cell.id.dataset].unlike(cell.scored) if self._of(cell.id) else ""

    def _of(self, place: CellId) -> list[Figure]:
        return sorted(self.figures.get(place, []), key=lambda figure: figure.is_secondary)


NOTHING = Published({}, [], [], {})


def read_published(folder: Path) -> Published:
    """Read the figures and the rules of a folder.

    Raises:
        InputError: a file is missing or is not what it should be.
    """
    rules = load_yaml(folder / KEYS)
    scored = {name: Scoring(rules["detectors"], **rule) for name, rule in rules["scored"].items()}
    published = Published({}, [], [], scored)
    for row in _rows(folder / FIGURES):
        square, reason = _square(row, rules)
        if square is not None:
            figure = Figure(rules["metrics"][row["metric"]], _value(folder, row), row["source"], _is_secondary(row))
            published.figures.setdefault(square, []).append(figure)
        elif reason is not None:
            published.left_out.append((row, reason))
        else:
            published.unmapped.append(row)
    if unknown := {dataset for dataset, *_ in published.figures} - scored.keys():
        raise InputError(f"{folder / KEYS}: `scored` does not say how the figures of {', '.join(sorted(unknown))} were")
    return published


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    if not rows or (missing := [name for name in COLUMNS if name not in rows[0]]):
        raise InputError(f"{path}: no column {', '.join(missing) if rows else 'at all'}; it needs {', '.join(COLUMNS)}")
    return rows


def _value(folder: Path, row: dict[str, str]) -> float:
    """Return a row's figure.

    Raises:
        InputError: it is no finite number.
    """
    try:
        return finite(row["value"])
    except ValueError as error:
        what = " ".join(row[name] for name in COLUMNS if name not in ("value", "quality"))
        raise InputError(f"{folder / FIGURES}: {what}: {error}") from error


def _has(spec: Spec | None, options: Spec) -> bool:
    return spec is not None and options.items() <= spec.items()


def _is_secondary(row: dict[str, str]) -> bool:
    return row["quality"] != "primary"


def _square(row: dict[str, str], rules: Rule) -> tuple[CellId | None, str | None]:
    """Return where a row belongs in our tables, or why it does not."""
    dataset = _first(rules["datasets"], row, row["dataset"], None)
    name = None if dataset is None else dataset.get("ours")
    solver = _first(rules["solvers"], row, row["solver"], name)
    reasons = [rule["not_ours"] for rule in (dataset, solver) if rule is not None and "not_ours" in rule]
    if row["metric"] not in rules["metrics"]:
        reasons += [rules["metrics_not_ours"][row["metric"]]] if row["metric"] in rules["metrics_not_ours"] else []
    elif dataset is not None and solver is not None and not reasons:
        nfe, ours = int(row["nfe"]) * dataset.get("network_runs", 1), solver["ours"]
        afs = ours.get("afs", False)
        return CellId(str(name), ours["label"], ours["schedule"], nfe % 2 == 1 if afs == "odd" else afs, nfe), None
    return None, reasons[0] if reasons else None


def _first(rules: Sequence[Rule], row: dict[str, str], spelled: str, dataset: str | None) -> Rule | None:
    """Return the first rule that fits a row."""
    for rule in rules:
        fits = (
            any(_is_like(spelled, pattern) for pattern in rule.get("spelled", ["*"]))
            and rule.get("guidance", row["guidance"]) == row["guidance"]
            and dataset in rule.get("datasets", [dataset])
            and any(row["source"].startswith(start) for start in rule.get("sources", [""]))
        )
        if fits:
            return rule
    return None


def _is_like(spelled: str, pattern: str) -> bool:
    """Whether a spelling is a pattern's, where ``*`` stands for anything and brackets for themselves."""
    return re.fullmatch(re.escape(pattern).replace(r"\*", ".*"), spelled) is not None
