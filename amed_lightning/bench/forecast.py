"""A dry run's estimates as tables for a terminal."""

from collections.abc import Sequence

from rich.table import Table

from amed_lightning.bench.dry_run import Estimate
from amed_lightning.bench.plan import Planned

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
            square, afs = cell.square, "yes" if cell.afs else ""
            columns = [cell.dataset, str(cell.nfe), square["label"], square["schedule"], afs]
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
