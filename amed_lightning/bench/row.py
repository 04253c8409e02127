"""A finished cell's row: its blocks' sums added in order, the scores, their errors, and where they came from."""

import json
from collections.abc import Callable, Sequence
from functools import cache
from statistics import fmean
from typing import Any

from torch import Tensor

from amed_lightning.bench.cell import Cell
from amed_lightning.bench.jackknife import Estimate
from amed_lightning.bench.prepare import Bench
from amed_lightning.bench.ranking import SCORES
from amed_lightning.bench.results import Results, Row, read_block
from amed_lightning.config import canonical_json, digest
from amed_lightning.metrics.scores import GenerationScores

OF_A_PART = {"is": "is_whole"}
"""A part of the seeds may be too small for ten splits or leave one of them out, so its IS is taken on one."""


def finished_row(bench: Bench, cell: Cell, results: Results, source: dict[str, Any]) -> Row:
    """Score a cell whose blocks are all there.

    Args:
        bench: the cell's.
        cell: to score.
        results: where its blocks are.
        source: provenance.

    Raises:
        DamagedFileError: a block is gone or is not as it was written.

    Returns:
        The row. ``<score>_error`` is the standard error of a score, from ``leave_one_out``: the score of all blocks but
        one, for each. ``<score>_mean`` and ``_min`` are over the ranges of seeds. ``blocks_from`` lists the distinct
        commits and devices that computed the blocks.
    """
    protocol = cell.protocol
    blocks = [read_block(results.sums, cell.key, block) for block in range(protocol.num_blocks)]
    sums, facts = map(list, zip(*blocks, strict=True))
    ranges = [protocol.blocks_of(number) for number in range(protocol.num_ranges)]
    kept = protocol.with_batches([int(fact["batch_size"]) for fact in facts])
    seconds, total = sum(fact["seconds"] for fact in facts), sum(int(part["count"]) for part in sums)
    intervals = cell.planned.intervals(bench.model.denoiser.cost)
    return {
        "key": cell.key,
        **cell.planned.square,
        "nfe": int(facts[0]["nfe"]),
        "num_intervals": intervals,
        "stays_in_warm_up": intervals <= cell.sampler.solver.warm_up_intervals,
        "lacks_thresholding": cell.planned.lacks_thresholding,
        **scored(lambda: bench.examiner.scores(protocol.total), sums, ranges),
        "caveats": bench.caveats(protocol.total),
        "n": total,
        "seeds": [protocol.block(0).start, protocol.block(protocol.num_blocks - 1).stop],
        "seconds": seconds,
        "images_per_second": total / seconds,
        "batch_sizes": list(kept.batch_sizes),
        "protocol": digest(kept),
        "identity": json.loads(canonical_json(cell.identity)),
        "provenance": source,
        "blocks_from": _distinct([{name: fact[name] for name in fact if name in source} for fact in facts]),
    }


def scored(
    empty: Callable[[], GenerationScores], sums: Sequence[dict[str, Tensor]], ranges: Sequence[range]
) -> dict[str, Any]:
    """Score all blocks together, ranges of them, and all but each in turn.

    Args:
        empty: makes scores of nothing.
        sums: of each block.
        ranges: of blocks.
    """

    @cache
    def of(*chosen: int) -> dict[str, float]:
        scores = empty()
        for block in chosen:
            scores.add(sums[block])
        return scores.compute()

    blocks = range(len(sums))
    others = [[block for block in blocks if block != out] for out in blocks] if len(blocks) > 1 else []
    values, of_ranges = of(*blocks), [of(*chosen) for chosen in ranges]
    leave_one_out = _by_score([of(*chosen) for chosen in others])
    errors = {f"{score}_error": Estimate(values[score], parts).error for score, parts in leave_one_out.items()}
    return {
        "values": values | errors | _over(_by_score(of_ranges)),
        "ranges": of_ranges,
        "leave_one_out": leave_one_out,
    }


def _by_score(parts: Sequence[dict[str, float]]) -> dict[str, list[float]]:
    """Return each score of parts of the seeds, if all of them have it."""
    names = {score: OF_A_PART.get(score, score) for score in SCORES}
    return {
        score: [part[name] for part in parts]
        for score, name in names.items()
        if parts and all(name in part for part in parts)
    }


def _over(ranges: dict[str, list[float]]) -> dict[str, float]:
    """Return mean and least of scores over ranges of seeds, if there are several."""
    several = {score: scores for score, scores in ranges.items() if len(scores) > 1}
    means = {f"{score}_mean": fmean(scores) for score, scores in several.items()}
    return means | {f"{score}_min": min(scores) for score, scores in several.items()}


def _distinct(facts: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [fact for number, fact in enumerate(facts) if fact not in facts[:number]]
