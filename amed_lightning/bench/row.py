"""A finished cell's row: its blocks' sums added in order, the scores, their errors, and where they came from."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import cache
from statistics import fmean
from typing import Any

from torch import Tensor

from amed_lightning.bench.cell import Cell
from amed_lightning.bench.jackknife import Estimate
from amed_lightning.bench.prepare import Bench
from amed_lightning.bench.results import Results, Row, read_block
from amed_lightning.config import canonical_json, digest
from amed_lightning.metrics.metric import Score
from amed_lightning.metrics.scores import GenerationScores


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
        one, for each. ``<score>_mean`` and ``_min`` are over the ranges of seeds. ``own_scores`` describes those of a
        user's own metrics. ``blocks_from`` lists the distinct commits and devices that computed the blocks.
    """
    protocol = cell.protocol
    blocks = [read_block(results.sums, cell.key, block) for block in range(protocol.num_blocks)]
    sums, facts = map(list, zip(*blocks, strict=True))
    ranges = [protocol.blocks_of(number) for number in range(protocol.num_ranges)]
    kept = protocol.with_batches([int(fact["batch_size"]) for fact in facts])
    seconds, total, own = sum(fact["seconds"] for fact in facts), protocol.total, bench.examiner.own_scores
    intervals = cell.planned.intervals(bench.model.denoiser.cost)
    return {
        "key": cell.key,
        **cell.planned.square,
        "nfe": int(facts[0]["nfe"]),
        "num_intervals": intervals,
        "stays_in_warm_up": intervals <= cell.sampler.solver.warm_up_intervals,
        "lacks_thresholding": cell.planned.lacks_thresholding,
        **scored(lambda: bench.examiner.scores(protocol.total), sums, ranges),
        **({"own_scores": {name: asdict(score) for name, score in own.items()}} if own else {}),
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
    described = empty().described
    leave_one_out = _by_score(described, [of(*chosen) for chosen in others])
    errors = {f"{score}_error": Estimate(values[score], parts).error for score, parts in leave_one_out.items()}
    return {
        "values": values | errors | _over(_by_score(described, of_ranges)),
        "ranges": of_ranges,
        "leave_one_out": leave_one_out,
    }


def _by_score(scores: Mapping[str, Score], parts: Sequence[dict[str, float]]) -> dict[str, list[float]]:
    """Return each score of parts of the seeds, if all of them have it."""
    of_a_part = {name: score.of_a_part or name for name, score in scores.items()}
    return {
        score: [part[name] for part in parts]
        for score, name in of_a_part.items()
        if parts and all(name in part for part in parts)
    }


def _over(ranges: dict[str, list[float]]) -> dict[str, float]:
    """Return mean and least of scores over ranges of seeds, if there are several."""
    several = {score: scores for score, scores in ranges.items() if len(scores) > 1}
    means = {f"{score}_mean": fmean(scores) for score, scores in several.items()}
    return means | {f"{score}_min": min(scores) for score, scores in several.items()}


def _distinct(facts: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [fact for number, fact in enumerate(facts) if fact not in facts[:number]]
