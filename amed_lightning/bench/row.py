"""A finished cell's row: its blocks' sums added in order, the scores, their spread, and where they came from."""

import json
from collections.abc import Sequence
from statistics import fmean, stdev
from typing import Any

from amed_lightning.bench.cell import Cell
from amed_lightning.bench.prepare import Bench
from amed_lightning.bench.ranking import SCORES
from amed_lightning.bench.results import Results, Row, read_facts, read_tensors
from amed_lightning.config import canonical_json, digest

OF_A_RANGE = {"is": "is_whole"}
"""A range of seeds may be too small for ten splits, so its IS is taken on one."""


def finished_row(bench: Bench, cell: Cell, results: Results, source: dict[str, Any]) -> Row:
    """Score a cell whose blocks are all there.

    Args:
        bench: the cell's.
        cell: to score.
        results: where its blocks are.
        source: provenance.

    Returns:
        The row; ``<score>_mean``, ``_min`` and ``_spread`` (sample deviation) are over the ranges of seeds, and
        ``blocks_from`` lists the distinct commits and devices that computed the blocks.
    """
    protocol = cell.protocol
    total, ranges = bench.examiner.scores(protocol.total), []
    for number in range(protocol.num_ranges):
        part = bench.examiner.scores(protocol.total)
        for block in protocol.blocks_of(number):
            sums = read_tensors(results.sums(cell.key, block))
            sums.pop("samples", None)
            part.add(sums)
            total.add(sums)
        ranges.append(part.compute())
    facts = [read_facts(results.sums(cell.key, block)) for block in range(protocol.num_blocks)]
    kept = protocol.with_batches([int(fact["batch_size"]) for fact in facts])
    seconds = sum(fact["seconds"] for fact in facts)
    values, config = total.compute(), cell.planned.config(bench.model.denoiser.cost)
    return {
        "key": cell.key,
        **cell.planned.square,
        "nfe": int(facts[0]["nfe"]),
        "num_intervals": config.num_intervals,
        "stays_in_warm_up": config.num_intervals <= cell.sampler.solver.warm_up_intervals,
        "lacks_thresholding": cell.planned.lacks_thresholding,
        "values": values | _over(ranges),
        "ranges": ranges,
        "n": int(total.count),
        "seeds": [protocol.block(0).start, protocol.block(protocol.num_blocks - 1).stop],
        "seconds": seconds,
        "images_per_second": int(total.count) / seconds,
        "batch_sizes": list(kept.batch_sizes),
        "protocol": digest(kept),
        "identity": json.loads(canonical_json(cell.identity)),
        "provenance": source,
        "blocks_from": _distinct([{name: fact[name] for name in fact if name in source} for fact in facts]),
    }


def _distinct(facts: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [fact for number, fact in enumerate(facts) if fact not in facts[:number]]


def _over(ranges: Sequence[dict[str, float]]) -> dict[str, float]:
    """Return mean, least and deviation of scores over ranges of seeds, if there are several."""
    if len(ranges) < 2:
        return {}
    statistics: dict[str, float] = {}
    for name in SCORES:
        of_a_range = OF_A_RANGE.get(name, name)
        if not all(of_a_range in part for part in ranges):
            continue
        scores = [part[of_a_range] for part in ranges]
        statistics |= {f"{name}_mean": fmean(scores), f"{name}_min": min(scores), f"{name}_spread": stdev(scores)}
    return statistics
