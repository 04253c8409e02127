"""A picture of a table: the levels that its network is told, and what its states are made of."""

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from amed_lightning.solvers.tabulated import Table

_SIZE = (9.0, 3.6)
"""In inches."""


def draw_table(table: Table, start: Table | None = None) -> Figure:
    """Draw the levels of a table, beside those that it began at, and the weight of every answer in every state.

    Args:
        table: of a sampler.
        start: what it began at, if that is to be seen, of as many runs.

    Returns:
        A figure with two panels, which the caller closes.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=_SIZE, layout="constrained")
    runs = range(1, len(table.told) + 1)
    if start is not None:
        left.plot(runs, start.told.tolist(), "o--", color="0.6", label="start")
    left.plot(runs, table.told.tolist(), "o-", label="learned")
    left.set(yscale="log", xlabel="network run", ylabel="level that it is told", xticks=runs)
    left.legend()
    _weights(right, table)
    return figure


def _weights(axes: Axes, table: Table) -> None:
    weights = table.answers[1:].tolist()
    largest = max(abs(weight) for row in weights for weight in row)
    axes.imshow(weights, cmap="RdBu", vmin=-largest, vmax=largest)
    for state, row in enumerate(weights):
        for run, weight in enumerate(row[: state + 1]):
            colour = "white" if abs(weight) > 0.6 * largest else "black"
            axes.text(run, state, f"{weight:.2f}", ha="center", va="center", fontsize=7, color=colour)
    runs = range(len(table.told))
    axes.set(xlabel="answer of run", ylabel="state", title="weights of the answers")
    axes.set_xticks(runs, [str(run + 1) for run in runs])
    axes.set_yticks(runs, [*(f"of run {run + 2}" for run in runs[:-1]), "sample"])
