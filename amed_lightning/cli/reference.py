"""``reference``: statistics of real images, computed once for every later score."""

import sys
from collections.abc import Mapping

from jsonargparse import Namespace

from amed_lightning.config import build
from amed_lightning.data.registry import DATASETS
from amed_lightning.metrics.files import load_detector
from amed_lightning.metrics.statistics import statistics_of, write_statistics
from amed_lightning.runtime.places import require_place
from amed_lightning.runtime.processes import launch


def run(options: Namespace) -> int:
    """Compute and write."""
    require_place(options.output)
    device = launch(options.accelerator).device
    detector, digest = load_detector(options.detector, device)
    images = build("dataset", DATASETS, options.dataset)
    statistics = statistics_of(detector, digest, images, options.features, options.batch_size, device)
    write_statistics(options.output, statistics)
    for note in statistics.notes:
        print(f"note: {note}", file=sys.stderr)
    classes = _balance(statistics.class_counts)
    print(f"{statistics.moments.count} images of shape {statistics.shape}{classes}: {options.output}")
    print(f"detector {digest[:12]}, dataset {statistics.dataset[:12]}")
    return 0


def _balance(counts: Mapping[int, int]) -> str:
    """Say how many images the classes have, because a balanced reference is another one."""
    if not counts:
        return ", without labels"
    return f", {len(counts)} classes of {min(counts.values())} to {max(counts.values())}"
