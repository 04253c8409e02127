"""Sample grids on equal seeds: a column per seed, a row per solver."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import torch

matplotlib.use("Agg")
from matplotlib import pyplot as plt

from amed_lightning.bench.plot import best_of_schedules, save
from amed_lightning.bench.results import Results, Row
from amed_lightning.tensors import Bytes

INCHES_PER_IMAGE = 0.8


def write_grids(rows: Sequence[Row], results: Results) -> list[Path]:
    """Write a picture per dataset and number of network runs, each solver on the best of its schedules.

    Returns:
        The pictures' paths.
    """
    written = []
    for dataset in dict.fromkeys(row["dataset"] for row in rows):
        its_rows = [row for row in rows if row["dataset"] == dataset]
        references = [row for row in its_rows if row["is_reference"]]
        best = best_of_schedules(its_rows)
        for nfe in sorted({nfe for points in best.values() for nfe in points}):
            shown = [*references, *(points[nfe] for points in best.values() if nfe in points)]
            strips = {_title(row): images for row in shown if (images := results.samples(row["key"])) is not None}
            path = results.folder / f"samples-{dataset}-{nfe}.png"
            if strips:
                _write(path, f"{dataset}: the same seeds at {nfe} network runs", strips)
                written.append(path)
    return written


def _title(row: Row) -> str:
    afs = ", AFS" if row["afs"] else ""
    nfe = f", {row['nfe']} NFE" if row["is_reference"] else ""
    return f"{row['label']}\n{row['schedule']}{afs}{nfe}"


def _write(path: Path, title: str, strips: dict[str, Bytes]) -> None:
    """Draw a strip of images per title."""
    columns = max(map(len, strips.values()))
    size = (INCHES_PER_IMAGE * columns + 2, INCHES_PER_IMAGE * len(strips) + 0.5)
    figure, axes = plt.subplots(len(strips), 1, figsize=size, layout="constrained", squeeze=False)
    for axis, (name, images) in zip(axes[:, 0], strips.items(), strict=True):
        padded = torch.nn.functional.pad(images, (0, 1), value=255)
        strip = padded.permute(2, 0, 3, 1).flatten(1, 2).numpy()
        axis.imshow(strip, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        axis.set_ylabel(name, rotation=0, ha="right", va="center", fontsize="small")
        axis.set(xticks=[], yticks=[])
    figure.suptitle(title, fontsize="medium")
    save(figure, path, bbox_inches="tight")
