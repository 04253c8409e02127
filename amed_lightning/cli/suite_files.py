"""``models fetch --for``: the files of a suite, fetched by loading what the suite will load."""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from amed_lightning.bench.suite import Dataset, load_suite
from amed_lightning.config import InputError, build
from amed_lightning.denoisers.registry import load
from amed_lightning.metrics.files import load_detector
from amed_lightning.metrics.reference import REFERENCES
from amed_lightning.metrics.scores import metrics_of

PARTS: dict[str, Callable[[Dataset], object]] = {
    "model": lambda dataset: load(dataset.model),
    "detector": lambda dataset: load_detector(dataset.detector),
    "real images": lambda dataset: build("dataset", REFERENCES, dataset.dataset),
}
"""How a suite loads what its datasets name."""


def fetch_for(path: Path) -> int:
    """Load all parts of a suite, so that nothing that it takes can be forgotten; return the exit code."""
    suite, failed = load_suite(path), False
    parts: dict[str, Callable[[], object]] = {
        f"{dataset.name}, {name}": partial(part, dataset) for dataset in suite.datasets for name, part in PARTS.items()
    }
    for name, metric in metrics_of(suite.metrics).items():
        if metric.detector is not None:
            parts[f"{name}, detector"] = partial(load_detector, metric.detector)
        if metric.reference is not None:
            parts[f"{name}, real images"] = partial(build, "dataset", REFERENCES, metric.reference)
    for name, part in parts.items():
        try:
            part()
            print(f"{name}: here")
        except InputError as error:
            failed = True
            print(f"{name}: {error}", file=sys.stderr)
    return int(failed)
