"""From a suite to the cells that it describes, before anything is loaded."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from inspect import signature
from itertools import product
from typing import Any

from amed_lightning.bench.suite import Dataset, Entry, Exclusion, Suite
from amed_lightning.config import InputError, Spec, build, canonical_json, complete
from amed_lightning.metrics.files import DETECTORS
from amed_lightning.metrics.reference import REFERENCES
from amed_lightning.noise.schedules import SCHEDULES
from amed_lightning.sampling.sampler import SamplerConfig, without_placer
from amed_lightning.solvers.placement import FixedPlacement
from amed_lightning.solvers.registry import SOLVERS, evaluations_for, intervals_for


@dataclass(frozen=True)
class Planned:
    """A cell that a suite describes.

    Attributes:
        dataset: its name.
        model: name and options of the denoiser, thresholding included.
        solver: name and options, placer included.
        schedule: name and options.
        nfe: network runs per sample.
        afs: replace the first evaluation by the analytic one.
        denoise_to_zero: end with the denoiser's answer at sigma_min.
        thresholding: whether the model is the dataset's under dynamic thresholding.
        is_reference: whether the dataset's other cells are measured against it.
        scored: with which detector, against which real images, and how many samples (``n``), as rows say it.
        excluded: why it is not computed, if it is not.
    """

    dataset: str
    model: Spec
    solver: Spec
    schedule: Spec
    nfe: int
    afs: bool
    denoise_to_zero: bool
    thresholding: bool
    is_reference: bool
    scored: dict[str, Any]
    excluded: str | None = None

    @cached_property
    def rule(self) -> Spec:
        """The solver without its placer, every option spelled out."""
        return complete("solver", SOLVERS, without_placer(self.solver), hidden=["placer"])

    @cached_property
    def label(self) -> str:
        """The solver as a table names it: its order, options that are not the default, placer, and what else it has."""
        parts = ["-".join([self.rule["name"], *_told(SOLVERS, self.rule, always=("order",))])]
        match self.solver.get("placer"):
            case {"fixed": ratio}:
                parts.append(f"fixed {ratio:g}")
            case {"predictor": _} if self.rule["name"] != "amed":
                parts.append("plugin")
            case {"constants": _}:
                parts.append("constants")
            case {"coefficients": _}:
                parts.append("coefficients")
        flags = {"thresholded": self.thresholding, "denoised": self.denoise_to_zero}
        return " + ".join([*parts, *(name for name, is_set in flags.items() if is_set)])

    @cached_property
    def square(self) -> dict[str, Any]:
        """Where the cell stands in a table and how it is scored, as rows say it."""
        schedule = complete("schedule", SCHEDULES, self.schedule)
        return {
            "dataset": self.dataset,
            "label": self.label,
            "schedule": "-".join([schedule["name"], *_told(SCHEDULES, schedule)]),
            "afs": self.afs,
            "nfe": self.nfe,
            "is_reference": self.is_reference,
            **self.scored,
        }

    def config(self, cost: int) -> SamplerConfig:
        """Return the sampler, with as many intervals as its network runs allow.

        Args:
            cost: the model's network runs per evaluation.

        Raises:
            InputError: no number of intervals takes so many.
        """
        # A placer doubles a one-evaluation solver's cost, but a predictor cannot be loaded before N is known.
        stand_in = None if self.solver.get("placer") in (None, "none") else FixedPlacement(0.5)
        try:
            evaluations = evaluations_for(self.nfe, cost) - self.denoise_to_zero
            intervals = intervals_for(build("solver", SOLVERS, self.rule, placer=stand_in), evaluations, self.afs)
        except ValueError as error:
            raise InputError(f"solver '{self.rule['name']}' at {self.nfe} NFE: {error}") from error
        return SamplerConfig(self.model, self.solver, self.schedule, intervals, self.afs, self.denoise_to_zero)


def _told(registry: Any, spec: Spec, always: tuple[str, ...] = ()) -> Iterator[str]:
    """Yield the numbers and short words among a part's options that are not the default."""
    factory = registry.get(spec["name"])
    defaults = {} if factory is None else {key: value.default for key, value in signature(factory).parameters.items()}
    for key, value in spec.items():
        if key in ("name", "path") or (value == defaults.get(key) and key not in always):
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
    cells = [cell for dataset in suite.datasets for cell in _planned(suite, dataset)]
    for exclusion in suite.excluded:
        if not any(cell.excluded == exclusion.reason for cell in cells):
            raise InputError(f"the exclusion '{exclusion.reason}' excludes no cell of suite '{suite.name}'")
    return cells


def _planned(suite: Suite, dataset: Dataset) -> Iterator[Planned]:
    scored = _scored(suite, dataset)
    references = [] if dataset.reference is None else list(_cells(dataset, dataset.reference, scored))
    if dataset.reference is not None and len(references) != 1:
        raise InputError(f"the reference of '{dataset.name}' is one cell, and this one describes {len(references)}")
    yield from (replace(cell, is_reference=True) for cell in references)
    for entry in suite.entries:
        if not entry.datasets or dataset.name in entry.datasets:
            for cell in _cells(dataset, entry, scored):
                reasons = [exclusion.reason for exclusion in suite.excluded if _covers(exclusion, cell)]
                yield replace(cell, excluded=reasons[0]) if reasons else cell


def _scored(suite: Suite, dataset: Dataset) -> dict[str, Any]:
    """Say how a dataset's cells are scored, every option spelled out."""
    scored = {
        "detector": complete("detector", DETECTORS, dataset.detector),
        "real_images": complete("dataset", REFERENCES, dataset.dataset),
        "n": suite.num_blocks * suite.block_size,
    }
    plain: dict[str, Any] = json.loads(canonical_json(scored))
    return plain


def _cells(dataset: Dataset, entry: Entry, scored: dict[str, Any]) -> Iterator[Planned]:
    model = {"name": "thresholded", "of": dataset.model} if entry.thresholding else dataset.model
    for schedule, afs, nfe in product(entry.schedules, entry.afs, entry.nfe):
        solver, times = (_fill_in(part, {"nfe": nfe, "dataset": dataset.name}) for part in (entry.solver, schedule))
        flags = (afs, entry.denoise_to_zero, entry.thresholding, False)
        yield Planned(dataset.name, model, solver, times, nfe, *flags, scored)


def _covers(exclusion: Exclusion, cell: Planned) -> bool:
    solver = {**cell.rule, "placer": cell.solver.get("placer", "none")}
    return (
        (not exclusion.datasets or cell.dataset in exclusion.datasets)
        and (not exclusion.nfe or cell.nfe in exclusion.nfe)
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
