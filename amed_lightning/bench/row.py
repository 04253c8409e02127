"""A finished cell's row: its blocks' sums added in order, the scores, their spread, and where they came from."""

import json
from statistics import stdev
from typing import Any

from amed_lightning.bench.cell import Cell
from amed_lightning.bench.prepare import Bench
from amed_lightning.bench.results import Results, Row, read_tensors
from amed_lightning.config import canonical_json, digest

SPREADS = {"fid": "fid", "is": "is_whole", "rmse": "rmse"}
"""Which score of the blocks gives a score's spread: a block is too small for ten splits, so its IS is taken on one."""


def finished_row(bench: Bench, cell: Cell, results: Results, source: dict[str, Any]) -> Row:
    """Score a cell whose blocks are all there.

    Args:
        bench: the cell's.
        cell: to score.
        results: where its blocks are.
        source: provenance.

    Returns:
        The row; ``<score>_spread`` is the sample deviation over the blocks.
    """
    total = bench.examiner.scores(cell.protocol.total)
    blocks, seconds = [], 0.0
    for number in range(cell.protocol.num_blocks):
        sums = read_tensors(results.sums(cell, number))
        seconds += float(sums.pop("seconds"))
        block = bench.examiner.scores(cell.protocol.total)
        block.add(sums)
        total.add(sums)
        blocks.append(block.compute())
    values = total.compute()
    spreads = {
        f"{name}_spread": stdev(block[part] for block in blocks)
        for name, part in SPREADS.items()
        if part in values and len(blocks) > 1
    }
    return {
        "key": cell.key,
        "dataset": cell.planned.dataset,
        "label": cell.planned.label,
        "schedule": cell.planned.schedule,
        "afs": cell.planned.config.afs,
        "nfe": cell.nfe,
        "stays_in_warm_up": cell.planned.config.num_intervals <= cell.sampler.solver.warm_up_intervals,
        "is_reference": cell.planned.is_reference,
        "values": values | spreads,
        "n": int(total.count),
        "seconds": seconds,
        "images_per_second": int(total.count) / seconds,
        "protocol": digest(cell.protocol),
        "identity": json.loads(canonical_json(cell.identity)),
        "provenance": source,
    }
