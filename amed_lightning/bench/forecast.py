"""What a sweep will take, before it starts: cells, network runs, bytes and hours, and tables of them.

The cells and their network runs follow from the suite alone. Intervals and bytes need a model's facts, which the card
of a published one has; hours need its weights, and nothing is fetched for them. What cannot be known is left out, and
the reason is told.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from rich.table import Table

from amed_lightning.bench.plan import Planned, plan, require_runs
from amed_lightning.bench.suite import Dataset, Suite
from amed_lightning.config import InputError, Spec, complete
from amed_lightning.denoisers.arithmetic import Arithmetic
from amed_lightning.denoisers.computing import computing
from amed_lightning.denoisers.registry import DENOISERS, load, outline
from amed_lightning.flow.model import DiffusionModel
from amed_lightning.metrics.files import CLASSIFIERS
from amed_lightning.metrics.scores import metrics_of
from amed_lightning.runtime.micro_batches import halving
from amed_lightning.runtime.network import offline
from amed_lightning.sampling.parts import build_sampler
from amed_lightning.seeds import Seeds, Stream

FEATURES = {name: classifier.feature_size for name, classifier in CLASSIFIERS.items()}
_INCEPTION_FEATURES = 2048
"""Of a detector that is not among ``FEATURES``."""
SECONDS_PER_HOUR = 3600.0


@dataclass(frozen=True)
class Estimate:
    """What a dataset's cells will take.

    Attributes:
        dataset: its name.
        cells: those that will be computed.
        excluded: those that will not.
        images: samples of all cells.
        network_runs: of all cells, one per sample.
        cost: network runs per evaluation, if the model's facts are known.
        seconds_per_run: what the network takes for a micro-batch, if it is known.
        hours: on one device, sampling alone, if that is known.
        sum_bytes: at most, of the blocks' sums of the cell that is computed; they go once it has its row.
        image_bytes: of the reference's images, if the model's shape is known.
        unknown: why something is not known.
    """

    dataset: str
    cells: Sequence[Planned]
    excluded: Sequence[Planned]
    images: int
    network_runs: int
    cost: int | None
    seconds_per_run: float | None
    hours: float | None
    sum_bytes: int
    image_bytes: int | None
    unknown: str = ""


def estimates(suite: Suite, device: torch.device, seconds_per_run: float | None = None) -> list[Estimate]:
    """Estimate each dataset's share of a suite.

    Args:
        suite: the suite.
        device: where to time a micro-batch.
        seconds_per_run: what the network takes for a micro-batch, where nothing is to be timed.

    Raises:
        InputError: a part that does not exist, or an NFE that a solver cannot have.
    """
    cells = plan(suite)
    return [
        _estimate(suite, dataset, [cell for cell in cells if cell.dataset == dataset.name], device, seconds_per_run)
        for dataset in suite.datasets
    ]


def _estimate(
    suite: Suite, dataset: Dataset, planned: Sequence[Planned], device: torch.device, seconds_per_run: float | None
) -> Estimate:
    cells, batch_size = [cell for cell in planned if cell.excluded is None], suite.batch_size_for(dataset)
    model, unknown = _facts(dataset.model)
    if model is not None:
        for cell in cells:
            cell.intervals(model.denoiser.cost)
            if not cell.files:
                require_runs(cell, build_sampler(cell.config, model))
        if seconds_per_run is None:
            seconds_per_run, unknown = _timed(suite.arithmetic, dataset.model, batch_size, device)
    batches = suite.num_blocks * math.ceil(suite.block_size / batch_size)
    runs, per_cell = sum(cell.nfe for cell in cells), suite.num_blocks * suite.block_size
    kept = per_cell if dataset.reference is not None else 0
    return Estimate(
        dataset.name,
        cells,
        [cell for cell in planned if cell.excluded is not None],
        len(cells) * per_cell,
        runs * per_cell,
        None if model is None else model.denoiser.cost,
        seconds_per_run,
        None if seconds_per_run is None else runs * batches * seconds_per_run / SECONDS_PER_HOUR,
        _sum_bytes(suite, dataset),
        None if model is None else kept * math.prod(model.image_shape) * torch.float32.itemsize,
        unknown,
    )


def _sum_bytes(suite: Suite, dataset: Dataset) -> int:
    """Return the size of a cell's sums; those that metrics share count once."""
    size, shared, own = FEATURES.get(dataset.detector["name"], _INCEPTION_FEATURES), dict[str, int](), 0
    for metric in metrics_of(suite.metrics).values():
        if metric.detector is None:
            shared |= metric.sizes(suite.block_size, size)
        else:
            own += sum(metric.sizes(suite.block_size, metric.feature_size).values())
    return suite.num_blocks * (sum(shared.values()) + own)


def _facts(model: Spec) -> tuple[DiffusionModel | None, str]:
    """Return what is known of a model, or why nothing is; one that does not exist is an error."""
    complete("model", DENOISERS, model)
    try:
        return outline(model), ""
    except InputError as error:
        return None, str(error)


def _timed(arithmetic: Arithmetic, spec: Spec, batch_size: int, device: torch.device) -> tuple[float | None, str]:
    """Return the seconds of one network run on a micro-batch, in parts where memory runs out, or why nobody knows."""
    try:
        with offline():
            model = computing(load(spec), arithmetic).to(device)
    except InputError as error:
        return None, f"not timed: {error}"
    seconds, size = halving(partial(_seconds, model, device), batch_size)
    return seconds * batch_size / size / model.denoiser.cost, ""


def _seconds(model: DiffusionModel, device: torch.device, batch_size: int) -> float:
    """Time the second of two answers."""
    seeds = Seeds(Stream.evaluation, 0, batch_size)
    x, condition = seeds.noise(model.shape).to(device, model.state_dtype), model.condition_for(seeds)
    condition = None if condition is None else condition.to(device)
    sigma = torch.tensor(model.noise_range.sigma_max, dtype=torch.float64, device=device)
    with torch.inference_mode():
        for _ in range(2):
            started = time.monotonic()
            model.denoiser(x, sigma, condition).image.sum().item()
    return time.monotonic() - started


UNKNOWN = "?"
GIB = 2**30


def cells_to_come(estimates: Sequence[Estimate]) -> Table:
    """Return a line per cell."""
    table = Table(title="cells")
    for title in ("dataset", "NFE", "solver", "schedule", "AFS", "intervals", "network runs"):
        table.add_column(title, justify="right" if title in ("NFE", "intervals", "network runs") else "left")
    for estimate in estimates:
        samples = estimate.images // max(1, len(estimate.cells))
        for cell in (*estimate.cells, *estimate.excluded):
            columns = [cell.dataset, str(cell.nfe), cell.label, cell.schedule_label, "yes" if cell.afs else ""]
            if cell.excluded is None:
                columns += [_intervals(cell, estimate.cost), f"{cell.nfe * samples:,}"]
            else:
                columns += ["", f"excluded: {cell.excluded}"]
            table.add_row(*columns)
    return table


def totals(estimates: Sequence[Estimate], devices: int) -> Table:
    """Return a line per dataset, and their sum.

    Args:
        estimates: one per dataset.
        devices: that will share the work.
    """
    table = Table(title=f"the whole suite, finished cells too, on {devices} device{'s' if devices > 1 else ''}")
    for title in ("dataset", "cells", "excluded", "images", "network runs", "GiB", "s per run", "hours"):
        table.add_column(title, justify="left" if title == "dataset" else "right")
    for estimate in estimates:
        table.add_row(
            estimate.dataset,
            *_numbers([len(estimate.cells), len(estimate.excluded), estimate.images, estimate.network_runs]),
            _shown(None if estimate.image_bytes is None else (estimate.sum_bytes + estimate.image_bytes) / GIB),
            _shown(estimate.seconds_per_run),
            _shown(None if estimate.hours is None else estimate.hours / devices),
        )
    return table


def _intervals(cell: Planned, cost: int | None) -> str:
    return UNKNOWN if cost is None else str(cell.intervals(cost))


def _numbers(values: Sequence[int]) -> list[str]:
    return [f"{value:,}" for value in values]


def _shown(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:.3g}"
