"""The cells that a suite describes: datasets x entries, each entry the product of its solver, schedules, AFS and NFE.

They are planned before anything is loaded. The path of a predictor or of a found schedule may contain ``{dataset}`` and
``{nfe}``.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from inspect import signature
from itertools import count, product
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

from amed_lightning.amed.files import form_of
from amed_lightning.bench.suite import Dataset, Entry, Exclusion, Suite
from amed_lightning.config import InputError, Spec, build, canonical_json, complete, digest
from amed_lightning.denoisers.registry import DENOISERS
from amed_lightning.metrics.files import DETECTORS
from amed_lightning.metrics.reference import REFERENCES
from amed_lightning.noise.found import Found
from amed_lightning.noise.schedules import SCHEDULES
from amed_lightning.sampling.config import SamplerConfig
from amed_lightning.sampling.parts import intervals_of_config, learned_path, rule_of
from amed_lightning.sampling.sampler import Sampler, require_planned_runs
from amed_lightning.solvers.registry import SOLVERS
from amed_lightning.teacher.wanted import FINE_INTERVALS, FINE_SCHEDULE, TEACHER

THRESHOLDED = "thresholded"
"""The wrapper's name among ``DENOISERS``, and the word of labels."""
WORDS = {"predictor": "plugin"}
"""What tables of results call what was learned, where it is not the file's own word."""
SCORED = "detector", "real_images", "n"
"""What rows and plans say of how a cell is scored: the detector, the real images, and the number of samples."""
TABLES = ("table", "constants", "coefficients")
"""Names that fits give to tables."""


class CellId(NamedTuple):
    """A cell's place in a table: the same when weights or code have changed.

    >>> str(CellId("digits", "amed", "time_uniform", True, 5))
    'digits amed time_uniform afs 5 NFE'
    """

    dataset: str
    label: str
    schedule: str
    afs: bool
    nfe: int

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> "CellId":
        """Return the one that a row's file or a plan says."""
        return cls(*(content[name] for name in cls._fields))

    def __str__(self) -> str:
        return f"{self.dataset} {self.label} {self.schedule}{' afs' if self.afs else ''} {self.nfe} NFE"


@dataclass(frozen=True)
class Planned:
    """A cell that a suite describes.

    Attributes:
        dataset: its name.
        model: name and options of the denoiser, ``thresholded`` around it included.
        solver: name and options, placer included.
        schedule: name and options.
        nfe: network runs per sample.
        afs: replace the first evaluation by the analytic one.
        denoise_to_zero: end with the denoiser's answer at sigma_min.
        is_reference: whether the dataset's other cells are measured against it.
        scored: with which detector, against which real images, and how many samples, see ``SCORED``.
        written: solver and schedule as the suite has them for every number of network runs.
        excluded: why it is not computed, if it is not.
        solver_number: among the suite's solvers that would have its place and label, from 0.
        schedule_number: likewise.
    """

    dataset: str
    model: Spec
    solver: Spec
    schedule: Spec
    nfe: int
    afs: bool
    denoise_to_zero: bool
    is_reference: bool
    scored: dict[str, Any]
    written: tuple[Spec, Spec]
    excluded: str | None = None
    solver_number: int = 0
    schedule_number: int = 0

    @cached_property
    def rule(self) -> Spec:
        """The solver's own options, every one spelled out."""
        return rule_of(self.solver)

    @cached_property
    def learned(self) -> Path | None:
        """The file of what was learned for it, if there is one."""
        return learned_path(self.solver)

    @property
    def files(self) -> list[Path]:
        """What has to be learned or found before the cell can be computed."""
        found = self.schedule.get("path")
        return ([] if self.learned is None else [self.learned]) + ([] if found is None else [Path(found)])

    @cached_property
    def label(self) -> str:
        """The solver as a table names it: its order, options that are not the default, placer, and what else it has."""
        parts = [_named(SOLVERS, self.rule)]
        match self.solver.get("placer"):
            case {"fixed": ratio}:
                parts.append(f"fixed {ratio:g}")
        if self.learned is not None:
            form = form_of(self.learned) if self.learned.is_file() else self._expected_form
            parts += [] if (form, self.rule["name"]) == ("predictor", "amed") else [WORDS.get(form, form)]
        parts += [_named(DENOISERS, self.thresholding)] if self.thresholding else []
        parts += ["denoised"] if self.denoise_to_zero else []
        return _numbered(" + ".join(parts), self.solver_number)

    @property
    def _expected_form(self) -> str:
        """What a file that is not there yet will hold, by the name that a fit gives it."""
        stem = "" if self.learned is None else self.learned.stem
        return stem if stem in TABLES else "predictor"

    @cached_property
    def schedule_label(self) -> str:
        """The schedule as a table names it: options that are not the default, and what a found one's file holds."""
        spec = complete("schedule", SCHEDULES, self.schedule)
        words = [_named(SCHEDULES, spec)]
        if "path" in spec and Path(spec["path"]).is_file():
            found = getattr(build("schedule", SCHEDULES, spec), "found", None)
            words += [] if found is None else _found(found, self.rule)
        return _numbered("-".join(words), self.schedule_number)

    @cached_property
    def thresholding(self) -> Spec | None:
        """The dynamic thresholding around the model, every option spelled out, if there is one."""
        return _thresholding(self.model)

    @property
    def lacks_thresholding(self) -> bool:
        """Whether it is data prediction in the published form without the thresholding of the published tools."""
        is_published = self.rule.get("form", "published") == "published"
        return self.rule.get("prediction") == "data" and is_published and self.thresholding is None

    @cached_property
    def id(self) -> CellId:
        """Its place in a table."""
        return CellId(self.dataset, self.label, self.schedule_label, self.afs, self.nfe)

    @property
    def config(self) -> SamplerConfig:
        """The sampler, but for how it computes."""
        parts = self.model, self.solver, self.schedule
        return SamplerConfig(*parts, afs=self.afs, denoise_to_zero=self.denoise_to_zero, nfe=self.nfe)

    def intervals(self, cost: int) -> int:
        """Return the number of intervals that its network runs allow, before anything is loaded.

        Args:
            cost: the model's network runs per evaluation.

        Raises:
            InputError: no number of intervals takes so many.
        """
        if self.learned is None or self.learned.is_file():
            return intervals_of_config(self.config, cost)
        not_there = replace(self.config, solver=self.rule)
        return intervals_of_config(not_there, cost, placed=self._expected_form != "table")


def _placement(cell: Planned) -> Spec:
    """Return what a cell's solver says besides its own options; the same whichever way it is spelled."""
    if cell.learned is not None:
        return {"learned": str(cell.learned)}
    return {"placer": cell.solver.get("placer") or "none"}


def _named(registry: Any, spec: Spec) -> str:
    """Name a part: its order, and the numbers and short words among its options that are not the default."""
    return "-".join([spec["name"], *_told(registry, spec)])


def _numbered(label: str, number: int) -> str:
    return f"{label} ({number + 1})" if number else label


def _found(found: Found, rule: Spec) -> Iterator[str]:
    """Yield how levels were found, and what is unlike the published search or the solver that runs on them."""
    yield found.metric
    yield f"{found.gamma:g}"
    if found.teacher != complete("solver", SOLVERS, TEACHER, hidden=["placer"]):
        yield f"of {_named(SOLVERS, dict(found.teacher))}"
    if found.schedule != complete("schedule", SCHEDULES, FINE_SCHEDULE):
        yield f"on {_named(SCHEDULES, dict(found.schedule))}"
    if found.fine_intervals != FINE_INTERVALS:
        yield f"among {found.fine_intervals}"
    if found.solver != rule:
        yield f"for {_named(SOLVERS, dict(found.solver))}"


def _told(registry: Any, spec: Spec) -> Iterator[str]:
    """Yield a part's order, and the numbers and short words among its other options that are not the default."""
    factory = registry.get(spec["name"])
    defaults = {} if factory is None else {key: value.default for key, value in signature(factory).parameters.items()}
    for key, value in spec.items():
        if key in ("name", "path") or (value == defaults.get(key) and key != "order"):
            continue
        if isinstance(value, bool):
            yield key if value else f"no {key}"
        elif isinstance(value, int | float):
            yield f"{value:g}"
        elif isinstance(value, str) and value.isidentifier():
            yield value


def plan(suite: Suite) -> list[Planned]:
    """Return a suite's cells, dataset by dataset, the references first.

    Raises:
        InputError: a part that does not exist, a reference that is not one cell, an exclusion that excludes nothing.
    """
    told = (cell for dataset in suite.datasets for cell in _told_apart(_planned(suite, dataset)))
    cells = [_excluded(cell, suite.excluded) for cell in told]
    for exclusion in suite.excluded:
        if not any(cell.excluded == exclusion.reason for cell in cells):
            raise InputError(f"the exclusion '{exclusion.reason}' excludes no cell of suite '{suite.name}'")
    return cells


def require_runs(cell: Planned, sampler: Sampler) -> None:
    """Refuse a cell that makes fewer network runs than its place in a table says.

    Raises:
        InputError: naming the cell.
    """
    try:
        require_planned_runs(sampler)
    except InputError as error:
        raise InputError(f"{cell.id}: {error}") from error


def _told_apart(cells: Iterable[Planned]) -> list[Planned]:
    """Number what has one name and place and is not the same, files above all, so that no two rows look alike.

    The reference comes last: the others are called the same where there is none, as in a screening.
    """
    told = sorted(cells, key=attrgetter("is_reference"))
    solvers = _numbers([(cell.id, cell.written[0], cell.rule | _placement(cell)) for cell in told])
    schedules = _numbers([(cell.id, cell.written[1], complete("schedule", SCHEDULES, cell.schedule)) for cell in told])
    numbered = (
        replace(cell, solver_number=solver, schedule_number=schedule)
        for cell, solver, schedule in zip(told, solvers, schedules, strict=True)
    )
    return sorted(numbered, key=lambda cell: not cell.is_reference)


def _numbers(parts: Sequence[tuple[CellId, Spec, Spec]]) -> list[int]:
    """Return the smallest numbers by which parts of one place differ; a curve has one at all its network runs.

    Args:
        parts: the place of each, what the suite writes for all network runs, and what that is at these.
    """
    curves: dict[str, list[tuple[CellId, Spec]]] = defaultdict(list)
    named = [digest([place._replace(nfe=0), written]) for place, written, _ in parts]
    for curve, (place, _, part) in zip(named, parts, strict=True):
        curves[curve].append((place, part))
    taken: dict[tuple[CellId, int], Spec] = {}
    numbers = {}
    for curve, points in curves.items():
        free = (number for number in count() if all(taken.get((place, number), part) == part for place, part in points))
        numbers[curve] = number = next(free)
        taken |= {(place, number): part for place, part in points}
    return [numbers[curve] for curve in named]


def _planned(suite: Suite, dataset: Dataset) -> Iterator[Planned]:
    scored = _scored(suite, dataset)
    references = [] if dataset.reference is None else list(_cells(dataset, dataset.reference, scored))
    if dataset.reference is not None and len(references) != 1:
        raise InputError(f"the reference of '{dataset.name}' is one cell, and this one describes {len(references)}")
    yield from (replace(cell, is_reference=True) for cell in references)
    for entry in suite.entries:
        if not entry.datasets or dataset.name in entry.datasets:
            yield from _cells(dataset, entry, scored)


def _scored(suite: Suite, dataset: Dataset) -> dict[str, Any]:
    """Say how a dataset's cells are scored, every option spelled out."""
    detector = complete("detector", DETECTORS, dataset.detector)
    real_images = complete("dataset", REFERENCES, dataset.dataset)
    scored = dict(zip(SCORED, (detector, real_images, suite.num_blocks * suite.block_size), strict=True))
    plain: dict[str, Any] = json.loads(canonical_json(scored))
    return plain


def _cells(dataset: Dataset, entry: Entry, scored: dict[str, Any]) -> Iterator[Planned]:
    is_plain = entry.thresholded and _thresholding(dataset.model) is None
    model = {"name": THRESHOLDED, "of": dataset.model} if is_plain else dataset.model
    for schedule, afs, nfe in product(entry.schedules, entry.afs, entry.nfe):
        solver, times = (_fill_in(part, {"nfe": nfe, "dataset": dataset.name}) for part in (entry.solver, schedule))
        place = dataset.name, model, solver, times, nfe, afs
        yield Planned(*place, entry.denoise_to_zero, False, scored, (entry.solver, schedule))


def _thresholding(model: Any) -> Spec | None:
    """Return the outermost thresholding among a model's layers."""
    while isinstance(model, dict) and model.get("name") != THRESHOLDED:
        model = model.get("of")
    return None if model is None else complete("model", DENOISERS, model)


def _excluded(cell: Planned, exclusions: Sequence[Exclusion]) -> Planned:
    """Return a cell with the reason why it is not computed, if there is one; a reference always is."""
    reasons = [exclusion.reason for exclusion in exclusions if not cell.is_reference and _covers(exclusion, cell)]
    return replace(cell, excluded=reasons[0]) if reasons else cell


def _covers(exclusion: Exclusion, cell: Planned) -> bool:
    solver = cell.rule | _placement(cell)
    return (
        (not exclusion.datasets or cell.dataset in exclusion.datasets)
        and (not exclusion.nfe or cell.nfe in exclusion.nfe)
        and (not exclusion.cells or str(cell.id) in exclusion.cells)
        and (exclusion.solver is None or solver.items() >= exclusion.solver.items())
    )


def _fill_in(value: Any, facts: dict[str, Any]) -> Any:
    """Replace ``{nfe}`` and ``{dataset}`` in the paths of predictors and schedules."""
    if isinstance(value, dict):
        return {key: _fill_in(inner, facts) for key, inner in value.items()}
    if not isinstance(value, str):
        return value
    for name, fact in facts.items():
        value = value.replace(f"{{{name}}}", str(fact))
    return value
