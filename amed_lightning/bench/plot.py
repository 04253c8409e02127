"""Pictures of rows: scores against network runs, and sample grids on equal seeds, a column per seed, a row per solver.

The first two scores are drawn, FID and IS, if nothing else was asked for.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib
import torch

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from amed_lightning.bench.results import Results
from amed_lightning.bench.row import Row
from amed_lightning.bench.table import goodness, scores_of, usual_protocol
from amed_lightning.config import write_atomically
from amed_lightning.metrics.metric import Score
from amed_lightning.tensors import Bytes

PANELS = 2
"""Scores that are drawn."""
STYLES = ("-", "--", ":")
COLOURS = 10
MARGIN = 1.5
"""Factor between the extreme values of a distance and the panel's ends."""
WIDTH, HEIGHT = 13.0, 4.5
"""Of a dataset's row of panels, in inches."""


def plot(rows: Iterable[Row], path: Path) -> None:
    """Draw a row of panels per dataset: a solver's best row of each NFE (by its first score), the reference as a line.

    Args:
        rows: finished cells; those of an unusual protocol are left out.
        path: of the picture; its ending decides the format.
    """
    rows = list(rows)
    by_dataset: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_dataset[row.id.dataset].append(row)
    scores = dict(list(scores_of(rows).items())[:PANELS])
    size = (WIDTH, HEIGHT * len(by_dataset))
    figure, grid = plt.subplots(len(by_dataset), len(scores), figsize=size, layout="constrained", squeeze=False)
    for panels, (dataset, its_rows) in zip(grid, by_dataset.items(), strict=True):
        _draw(list(panels), dataset, its_rows, scores)
    figure.suptitle("Each solver on the best of the schedules it was run on; bars: standard errors")
    save(figure, path)


def save(figure: Figure, path: Path, **options: Any) -> None:
    """Write a figure, whole or not at all, and close it.

    Args:
        figure: to write.
        path: of the picture; its ending decides the format.
        options: of matplotlib's.
    """
    content = BytesIO()
    figure.savefig(content, format=path.suffix.removeprefix("."), dpi=120, **options)
    plt.close(figure)
    write_atomically(path, content.getvalue())


def best_of_schedules(rows: Sequence[Row]) -> dict[str, dict[int, Row]]:
    """Return each solver's best row of each NFE; neither references nor rows of an unusual protocol."""
    usual = usual_protocol(rows)
    lines: dict[str, dict[int, Row]] = defaultdict(dict)
    for row in sorted(rows, key=goodness, reverse=True):
        if not row.is_reference and row.protocol == usual:
            lines[row.id.label][row.id.nfe] = row
    return dict(sorted(lines.items()))


def _draw(panels: Sequence[Any], dataset: str, rows: Sequence[Row], scores: dict[str, Score]) -> None:
    """Draw a dataset's panels; the legend stands beside the last."""
    lines = best_of_schedules(rows)
    for panel, (name, score) in zip(panels, scores.items(), strict=True):
        for number, (label, points) in enumerate(lines.items()):
            _draw_line(panel, number, label, [points[nfe] for nfe in sorted(points)], name)
        for row in rows:
            if row.is_reference and name in row.values:
                reference = f"{row.id.label}, {row.id.nfe} NFE"
                panel.axhline(row.values[name], color="black", linestyle=":", label=reference)
        panel.set(xlabel="network runs per sample (NFE)", ylabel=score.title, title=dataset)
        if nfes := sorted({nfe for points in lines.values() for nfe in points}):
            panel.set_xticks(nfes)
        values = [row.values[name] for row in rows if name in row.values]
        if score.better == "lower" and values and min(values) > 0:
            # An error may reach below zero.
            panel.set(yscale="log", ylim=(min(values) / MARGIN, max(values) * MARGIN))
    panels[-1].legend(fontsize="small", loc="center left", bbox_to_anchor=(1.02, 0.5))


def _draw_line(panel: Any, number: int, label: str, rows: Sequence[Row], score: str) -> None:
    """Draw a solver's scores with their standard errors, if it has any; what is learnt is drawn bold."""
    rows = [row for row in rows if score in row.values]
    values = [row.values[score] for row in rows]
    errors = [row.values.get(f"{score}_error", 0.0) for row in rows]
    style = {"color": f"C{number % COLOURS}", "linestyle": STYLES[number // COLOURS % len(STYLES)]}
    width = 2.5 if label.startswith("amed") or "plugin" in label else 1.2
    nfes = [row.id.nfe for row in rows]
    panel.errorbar(nfes, values, errors, label=label, marker="o", markersize=4, capsize=3, linewidth=width, **style)


INCHES_PER_IMAGE = 0.8


def write_grids(rows: Sequence[Row], results: Results) -> list[Path]:
    """Write a picture per dataset and number of network runs, each solver on the best of its schedules.

    Returns:
        The pictures' paths.
    """
    written = []
    for dataset in dict.fromkeys(row.id.dataset for row in rows):
        its_rows = [row for row in rows if row.id.dataset == dataset]
        references = [row for row in its_rows if row.is_reference]
        best = best_of_schedules(its_rows)
        for nfe in sorted({nfe for points in best.values() for nfe in points}):
            shown = [*references, *(points[nfe] for points in best.values() if nfe in points)]
            strips = {_title(row): images for row in shown if (images := results.samples(row.key)) is not None}
            path = results.folder / f"samples-{dataset}-{nfe}.png"
            if strips:
                _write(path, f"{dataset}: the same seeds at {nfe} network runs", strips)
                written.append(path)
    return written


def _title(row: Row) -> str:
    afs = ", AFS" if row.id.afs else ""
    nfe = f", {row.id.nfe} NFE" if row.is_reference else ""
    return f"{row.id.label}\n{row.id.schedule}{afs}{nfe}"


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
