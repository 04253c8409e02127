"""Draw the pictures of docs/learned.md from the suite benchmarks/frontier.yaml and the fits it names.

python -m docs.make_learned --bench runs/bench/frontier --runs runs/digits
"""

import argparse
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import torch
from matplotlib import pyplot as plt
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from amed_lightning.amed.files import load_learned
from amed_lightning.amed.table_picture import draw_table
from amed_lightning.bench.results import rows_of
from amed_lightning.runtime.json_text import parse_json
from amed_lightning.solvers.tabulated import Table, Tabulated

HERE = Path(__file__).parent
MORE = "(4)"
"""Ends the label of the fit on more trajectories."""
PICTURED = (3, 5, 8)
"""Network runs of the tables that are shown."""


def frontier(bench: Path, output: Path) -> None:
    """Draw FID and RMSE against network runs: the learned tables of three training seeds, and what they begin at."""
    points: dict[tuple[str, bool], dict[int, list[tuple[float, float]]]] = defaultdict(lambda: defaultdict(list))
    for row in rows_of(bench):
        if row["nfe"] <= 10 and not row["label"].endswith(MORE):
            values = row["values"]["fid"], row["values"]["rmse"]
            points[row["label"].split(" (")[0], row["afs"]][row["nfe"]].append(values)
    figure, panels = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    for panel, title, place in zip(panels, ("FID", "RMSE to the teacher's samples"), (0, 1), strict=True):
        for (label, afs), by_nfe in sorted(points.items()):
            runs = sorted(by_nfe)
            means = [sum(value[place] for value in by_nfe[nfe]) / len(by_nfe[nfe]) for nfe in runs]
            name = f"{label}, mean of training seeds" if "union" in label else label + (" after AFS" if afs else "")
            (line,) = panel.plot(runs, means, "o-", label=name)
            for nfe in runs:
                spread = [value[place] for value in by_nfe[nfe]]
                panel.vlines(nfe, min(spread), max(spread), color=line.get_color())
        panel.set(xlabel="network runs", title=title, yscale="log")
        panel.legend(fontsize=8)
    _save(figure, output)


def costs(runs: Path, output: Path) -> None:
    """Draw the distance on validation seeds against the network runs that a fit has made so far."""
    figure, panel = plt.subplots(figsize=(5.5, 3.4), layout="constrained")
    for nfe in (3, 4, 5, 6, 8):
        (events,) = sorted((runs / "learned" / f"union-{nfe}").rglob("events.out.*"))[-1:]
        scalars = EventAccumulator(str(events)).Reload()
        spent = {event.step: event.value for event in scalars.Scalars("train/runs")}
        seen = [(spent[event.step], event.value) for event in scalars.Scalars("val/rmse") if event.step in spent]
        panel.plot(*zip(*seen, strict=True), label=f"{nfe} network runs")
    panel.set(xscale="log", yscale="log", xlabel="network runs of the fit", ylabel="RMSE, 128 validation seeds")
    panel.legend(fontsize=8)
    _save(figure, output)


def tables(runs: Path, output: Path) -> None:
    """Draw the learned tables, one above the other."""
    pictures = []
    for nfe in PICTURED:
        path = runs / "learned" / f"union-{nfe}" / "table.json"
        learned = load_learned(path, parse_json(path.read_text())["purpose"])
        assert isinstance(learned, Tabulated)
        figure = draw_table(Table(*(part.to(torch.float64) for part in vars(learned.table).values())))
        figure.canvas.draw()
        pictures.append(torch.frombuffer(bytearray(figure.canvas.buffer_rgba()), dtype=torch.uint8))
        pictures[-1] = pictures[-1].reshape(*figure.canvas.get_width_height()[::-1], 4)
        plt.close(figure)
    plt.imsave(output, torch.cat(pictures).numpy())


def main(arguments: Sequence[str] | None = None) -> None:
    """Write docs/learned-*.png."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bench", type=Path, default=Path("runs/bench/frontier"))
    parser.add_argument("--runs", type=Path, default=Path("runs/digits"))
    options = parser.parse_args(arguments)
    frontier(options.bench, HERE / "learned-frontier.png")
    costs(options.runs, HERE / "learned-costs.png")
    tables(options.runs, HERE / "learned-tables.png")


def _save(figure: plt.Figure, output: Path) -> None:
    figure.savefig(output, dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    main()
