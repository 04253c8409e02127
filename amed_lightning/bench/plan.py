"""From a suite to the cells that it describes, before anything is loaded.

An entry says network runs; a sampler needs intervals. Between them stand the solver's evaluations per interval, which
do not depend on a predictor's weights, and the model's network runs per evaluation.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from inspect import signature
from itertools import product
from typing import Any

from amed_lightning.bench.suite import Dataset, Entry, Suite
from amed_lightning.config import InputError, Spec, build, complete
from amed_lightning.noise.schedules import SCHEDULES
from amed_lightning.sampling.sampler import SamplerConfig, without_placer
from amed_lightning.solvers.placement import FixedPlacement
from amed_lightning.solvers.registry import SOLVERS, evaluations_for, intervals_for


@dataclass(frozen=True)
class Planned:
    """A cell that is to be computed.

    Attributes:
        dataset: its name.
        config: the sampler.
        nfe: network runs per sample.
        is_reference: whether the dataset's other cells are measured against it.
    """

    dataset: str
    config: SamplerConfig
    nfe: int
    is_reference: bool

    @property
    def label(self) -> str:
        """The solver as a table names it: with its order, its options that are not the default, and its placer."""
        spec = complete("solver", SOLVERS, without_placer(self.config.solver), hidden=["placer"])
        label = "-".join([spec["name"], *_told(SOLVERS, spec, always=("order",))])
        match self.config.solver.get("placer"):
            case {"fixed": ratio}:
                return f"{label} + fixed {ratio:g}"
            case {"predictor": _} if spec["name"] != "amed":
                return f"{label} + plugin"
        return label

    @property
    def schedule(self) -> str:
        """The schedule as a table names it: with the options that are not the default."""
        spec = complete("schedule", SCHEDULES, self.config.schedule)
        return "-".join([spec["name"], *_told(SCHEDULES, spec)])


def _told(registry: Any, spec: Spec, always: tuple[str, ...] = ()) -> Iterator[str]:
    """Yield the numbers and short words among a part's options that are not the default."""
    factory = registry.get(spec["name"])
    defaults = {} if factory is None else {key: value.default for key, value in signature(factory).parameters.items()}
    for key, value in spec.items():
        if key == "name" or (value == defaults.get(key) and key not in always):
            continue
        if isinstance(value, bool):
            yield key if value else f"no {key}"
        elif isinstance(value, int | float):
            yield f"{value:g}"
        elif isinstance(value, str) and value.isidentifier():
            yield value


def expand(suite: Suite, dataset: Dataset, cost: int) -> list[Planned]:
    """Return a dataset's cells, the reference first.

    Args:
        suite: the suite.
        dataset: one of its datasets.
        cost: the model's network runs per evaluation.

    Raises:
        InputError: a reference that is not one cell, or an NFE that a solver cannot have.
    """
    references = [] if dataset.reference is None else list(_cells(dataset, dataset.reference, cost, True))
    if dataset.reference is not None and len(references) != 1:
        raise InputError(f"the reference of '{dataset.name}' is one cell, and this one describes {len(references)}")
    entries = [entry for entry in suite.entries if not entry.datasets or dataset.name in entry.datasets]
    return [*references, *(cell for entry in entries for cell in _cells(dataset, entry, cost, False))]


def _cells(dataset: Dataset, entry: Entry, cost: int, is_reference: bool) -> Iterator[Planned]:
    for schedule, afs, nfe in product(entry.schedules, entry.afs, entry.nfe):
        solver = {key: _fill_in(value, {"nfe": nfe, "dataset": dataset.name}) for key, value in entry.solver.items()}
        # A placer doubles a one-evaluation solver's cost, but a predictor cannot be loaded before N is known.
        stand_in = None if solver.get("placer") in (None, "none") else FixedPlacement(0.5)
        try:
            evaluations = evaluations_for(nfe, cost) - entry.denoise_to_zero
            num_intervals = intervals_for(
                build("solver", SOLVERS, without_placer(solver), placer=stand_in), evaluations, afs
            )
        except ValueError as error:
            raise InputError(f"solver '{solver.get('name')}' at {nfe} NFE: {error}") from error
        config = SamplerConfig(dataset.model, solver, schedule, num_intervals, afs, entry.denoise_to_zero)
        yield Planned(dataset.name, config, nfe, is_reference)


def _fill_in(value: Any, facts: dict[str, Any]) -> Any:
    """Replace ``{nfe}`` and ``{dataset}`` in a predictor's path."""
    if isinstance(value, dict):
        return {key: _fill_in(inner, facts) for key, inner in value.items()}
    if not isinstance(value, str):
        return value
    for name, fact in facts.items():
        value = value.replace(f"{{{name}}}", str(fact))
    return value
