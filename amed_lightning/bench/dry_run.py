"""What a sweep will take, before it starts: cells, network runs, bytes and hours.

Nothing is fetched. The cells and their network runs follow from the suite alone; intervals and bytes from a model's
facts, which its card tells where its files are not here; hours from a micro-batch, if the files are here to be run.
What is not known is left out, and the reason is told.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from amed_lightning.bench.plan import Planned, plan
from amed_lightning.bench.suite import Dataset, Suite
from amed_lightning.config import InputError, build, complete
from amed_lightning.denoisers.registry import DENOISERS, outline
from amed_lightning.flow.model import DiffusionModel
from amed_lightning.metrics.digits_classifier import DigitsClassifier
from amed_lightning.metrics.files import DETECTORS
from amed_lightning.metrics.reference import REFERENCES
from amed_lightning.runtime.cache import offline
from amed_lightning.seeds import Seeds, Stream

FEATURES = {"digits": DigitsClassifier.feature_size}
INCEPTION_FEATURES = 2048
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
        sum_bytes: of the blocks' sums.
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
    cells = [cell for cell in planned if cell.excluded is None]
    complete("detector", DETECTORS, dataset.detector)
    complete("dataset", REFERENCES, dataset.dataset)
    model, unknown = _model(suite, dataset)
    if model is not None:
        for cell in cells:
            cell.config(model.denoiser.cost)
        if seconds_per_run is None and not unknown:
            seconds_per_run = _timed(model, suite.batch_size_for(dataset), device, suite.arithmetic.state_dtype)
    batches = suite.num_blocks * math.ceil(suite.block_size / suite.batch_size_for(dataset))
    runs, per_cell = sum(cell.nfe for cell in cells), suite.num_blocks * suite.block_size
    size = FEATURES.get(dataset.detector["name"], INCEPTION_FEATURES)
    has_reference = dataset.reference is not None
    return Estimate(
        dataset.name,
        cells,
        [cell for cell in planned if cell.excluded is not None],
        len(cells) * per_cell,
        runs * per_cell,
        None if model is None else model.denoiser.cost,
        seconds_per_run,
        None if seconds_per_run is None else runs * batches * seconds_per_run / SECONDS_PER_HOUR,
        len(cells) * suite.num_blocks * size * (size + 1) * torch.float64.itemsize,
        None if model is None else has_reference * per_cell * math.prod(model.image_shape) * torch.float32.itemsize,
        unknown,
    )


def _model(suite: Suite, dataset: Dataset) -> tuple[DiffusionModel | None, str]:
    """Load a model, outline it, or neither, and say why it cannot be loaded; one that does not exist is an error."""
    complete("model", DENOISERS, dataset.model)
    with offline():
        try:
            return suite.arithmetic.applied(build("model", DENOISERS, dataset.model)), ""
        except InputError as error:
            return _outline(dataset), str(error)


def _outline(dataset: Dataset) -> DiffusionModel | None:
    try:
        return outline(dataset.model)
    except InputError:
        return None


def _timed(model: DiffusionModel, batch_size: int, device: torch.device, dtype: torch.dtype) -> float:
    """Return the seconds of one network run on a micro-batch, the second of two."""
    seeds = Seeds(Stream.tuning, 0, batch_size)
    x, condition = seeds.noise(model.shape).to(device, dtype), model.condition_for(seeds)
    sigma = torch.tensor(model.noise_range.sigma_max, dtype=torch.float64, device=device)
    condition = None if condition is None else condition.to(device)
    model.to(device)
    with torch.inference_mode():
        for _ in range(2):
            started = time.monotonic()
            answer = model.denoiser(x, sigma, condition)
            answer.image.sum().item()
    return (time.monotonic() - started) / model.denoiser.cost
