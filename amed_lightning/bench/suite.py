"""A suite: the YAML that says which solvers run on which schedules at how many network runs.

Each entry is the product of its solver, schedules, AFS settings and NFE. A predictor's path may contain ``{nfe}``.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import jsonargparse

from amed_lightning.bench.cell import Cell, Protocol
from amed_lightning.config import InputError, Spec, build, load_yaml
from amed_lightning.denoisers.registry import DENOISERS
from amed_lightning.flow.model import DiffusionModel
from amed_lightning.metrics.reference import Examiner, examiner
from amed_lightning.sampling.sampler import SamplerConfig, build_sampler, without_placer
from amed_lightning.solvers.placement import FixedPlacement
from amed_lightning.solvers.registry import SOLVERS, evaluations_for, intervals_for


@dataclass(frozen=True)
class Entry:
    """A solver and where it runs.

    Attributes:
        solver: name and options.
        schedules: names and options.
        nfe: numbers of network runs.
        afs: with or without the analytic first step, or both.
        denoise_to_zero: end with the denoiser's answer at sigma_min.
    """

    solver: Spec
    schedules: list[Spec]
    nfe: list[int]
    afs: tuple[bool, ...] = (False,)
    denoise_to_zero: bool = False


@dataclass(frozen=True)
class Suite:
    """A benchmark.

    Attributes:
        name: of its folder.
        model: name and options of the denoiser.
        detector: name and options.
        dataset: the real images.
        reference: the sampler whose images, from the same noise, the others are measured against.
        entries: what runs.
        num_blocks: blocks of seeds.
        block_size: samples per block; a multiple of ``batch_size``.
        batch_size: samples per network run.
    """

    name: str
    model: Spec
    detector: Spec
    dataset: Spec
    reference: Entry
    entries: list[Entry]
    num_blocks: int = 3
    block_size: int = 768
    batch_size: int = 256


def load_suite(path: Path) -> Suite:
    """Read a suite.

    Raises:
        InputError: a missing file, an unknown or missing key, or a value of the wrong type.
    """
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(Suite, "suite")
    try:
        parsed: Suite = parser.instantiate(parser.parse_object({"suite": load_yaml(path)})).suite
    except jsonargparse.ArgumentError as error:
        raise InputError(f"{path}: {' '.join(str(error).split())}") from error
    for name in ("num_blocks", "block_size", "batch_size"):
        if getattr(parsed, name) < 1:
            raise InputError(f"{path}: {name} is {getattr(parsed, name)}; it must be at least 1")
    if parsed.block_size % parsed.batch_size:
        raise InputError(f"{path}: block_size {parsed.block_size} is not a multiple of batch_size {parsed.batch_size}")
    return parsed


@dataclass(frozen=True)
class Bench:
    """A suite's cells, checked, with what it takes to fill them.

    Attributes:
        model: the denoiser and its facts.
        examiner: detector and real images.
        reference: the cell that the others are measured against.
        cells: all cells, the reference first, none twice.
    """

    model: DiffusionModel
    examiner: Examiner
    reference: Cell
    cells: tuple[Cell, ...]


def prepare(suite: Suite) -> Bench:
    """Load what a suite needs and expand it to cells.

    Raises:
        InputError: an unknown part, an NFE that a solver cannot have, a predictor that is missing or for another use.
    """
    model = build("model", DENOISERS, suite.model)
    judge = examiner(suite.detector, suite.dataset)
    judge.require_shape(model.shape)
    protocol = Protocol(model.digest, judge.digest, suite.num_blocks, suite.block_size, suite.batch_size)
    references = list(_expand(suite, suite.reference, model, protocol))
    if len(references) != 1:
        raise InputError(f"the reference of suite '{suite.name}' is one cell, and this one describes {len(references)}")
    others = [cell for entry in suite.entries for cell in _expand(suite, entry, model, protocol)]
    cells = {cell.key: cell for cell in (*references, *others)}
    return Bench(model, judge, references[0], tuple(cells.values()))


def _expand(suite: Suite, entry: Entry, model: DiffusionModel, protocol: Protocol) -> Iterator[Cell]:
    for schedule, afs, nfe in product(entry.schedules, entry.afs, entry.nfe):
        solver = {key: _fill_in(value, nfe) for key, value in entry.solver.items()}
        # A placer doubles a one-evaluation solver's cost, but a predictor cannot be loaded before N is known.
        stand_in = None if solver.get("placer") in (None, "none") else FixedPlacement(0.5)
        try:
            evaluations = evaluations_for(nfe, model.denoiser.cost) - entry.denoise_to_zero
            num_intervals = intervals_for(
                build("solver", SOLVERS, without_placer(solver), placer=stand_in), evaluations, afs
            )
        except ValueError as error:
            raise InputError(f"solver '{solver.get('name')}' at {nfe} NFE: {error}") from error
        config = SamplerConfig(suite.model, solver, schedule, num_intervals, afs, entry.denoise_to_zero)
        yield Cell(config, build_sampler(config, model), protocol)


def _fill_in(value: Any, nfe: int) -> Any:
    """Replace ``{nfe}`` in a predictor's path."""
    if isinstance(value, dict):
        return {key: _fill_in(inner, nfe) for key, inner in value.items()}
    return value.replace("{nfe}", str(nfe)) if isinstance(value, str) else value
