"""FID and IS against network runs, from rows."""

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt

from amed_lightning.bench.results import Row

PANELS = {"fid": "FID", "is": "Inception Score"}


def plot(rows: Iterable[Row], path: Path) -> None:
    """Draw a panel per score: each solver's best row of each NFE (by FID), and the reference as a line.

    Args:
        rows: finished cells.
        path: of the picture; its ending decides the format.
    """
    rows = list(rows)
    lines: dict[str, dict[int, Row]] = defaultdict(dict)
    for row in sorted(rows, key=lambda row: -row["values"]["fid"]):
        if not row["is_reference"]:
            lines[row["label"]][row["nfe"]] = row
    figure, panels = plt.subplots(1, len(PANELS), figsize=(11, 4.5), layout="constrained")
    for panel, (score, title) in zip(panels, PANELS.items(), strict=True):
        for label, points in sorted(lines.items()):
            nfes = sorted(points)
            values = [points[nfe]["values"][score] for nfe in nfes]
            spreads = [points[nfe]["values"].get(f"{score}_spread", 0.0) for nfe in nfes]
            learned = label.startswith("amed") or label.endswith("plugin")
            panel.errorbar(nfes, values, spreads, marker="o", capsize=3, linewidth=2.5 if learned else 1.2, label=label)
        for row in rows:
            if row["is_reference"]:
                name = f"{row['label']}, {row['nfe']} NFE"
                panel.axhline(row["values"][score], color="black", linestyle=":", label=name)
        panel.set(xlabel="network runs per sample (NFE)", ylabel=title)
    panels[0].set_yscale("log")
    panels[0].legend(fontsize="small")
    figure.suptitle("Each solver on the best of the schedules it was run on")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    plt.close(figure)
