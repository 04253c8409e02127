"""``models fetch --for``: the files of a suite, fetched by loading what the suite will load."""

import sys
from collections.abc import Callable
from pathlib import Path

from amed_lightning.bench.suite import Dataset, load_suite
from amed_lightning.config import InputError, build
from amed_lightning.denoisers.registry import load
from amed_lightning.metrics.files import load_detector
from amed_lightning.metrics.reference import REFERENCES

PARTS: dict[str, Callable[[Dataset], object]] = {
    "model": lambda dataset: load(dataset.model),
    "detector": lambda dataset: load_detector(dataset.detector),
    "real images": lambda dataset: build("dataset", REFERENCES, dataset.dataset),
}
"""How a suite loads what its datasets name."""


def fetch_for(path: Path) -> int:
    """Load all parts of a suite, so that nothing that it takes can be forgotten; return the exit code."""
    failed = False
    for dataset in load_suite(path).datasets:
        for name, part in PARTS.items():
            try:
                part(dataset)
                print(f"{dataset.name}, {name}: here")
            except InputError as error:
                failed = True
                print(f"{dataset.name}: {error}", file=sys.stderr)
    return int(failed)
