"""A finished cell's row: its blocks' sums added in order, the scores, their errors, and where they came from.

Its file is flat JSON. Rows that older versions wrote are read as they are.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import cache
from statistics import fmean
from typing import Any

from torch import Tensor

from amed_lightning.bench.cell import Bench, Cell
from amed_lightning.bench.jackknife import Estimate
from amed_lightning.bench.plan import CellId
from amed_lightning.config import Spec, canonical_json, digest
from amed_lightning.metrics.metric import Score
from amed_lightning.metrics.scores import GenerationScores
from amed_lightning.runtime.tensor_file import Facts


@dataclass(frozen=True, kw_only=True)
class Row:
    """A finished cell; what older versions did not write has a default.

    Attributes:
        key: of the cell.
        id: its place in a table.
        is_reference: whether the dataset's other cells are measured against it.
        detector: that looked at its images, every option spelled out.
        real_images: likewise.
        n: samples.
        num_intervals: of its schedule.
        stays_in_warm_up: whether these are too few for the solver's order.
        lacks_thresholding: whether it is data prediction without the thresholding of the published tools.
        values: of each score. ``<score>_error`` is its standard error, ``<score>_mean`` and ``_min`` are over ranges.
        ranges: the scores of each range of seeds.
        leave_one_out: of each score, that of all blocks but one, for each.
        own_scores: describes the scores of a user's own metrics.
        caveats: what is doubtful about the values.
        seeds: the first, and the one after the last.
        seconds: of all blocks.
        images_per_second: in them.
        batch_sizes: micro-batches, the largest first; several where memory ran out.
        protocol: digest of the one that was kept.
        identity: everything that the scores depend on.
        provenance: versions, commit and device that made the row.
        blocks_from: the distinct commits and devices that computed the blocks.
    """

    key: str
    id: CellId
    is_reference: bool
    detector: Spec | None = None
    real_images: Spec | None = None
    n: int
    num_intervals: int | None = None
    stays_in_warm_up: bool = False
    lacks_thresholding: bool = False
    values: dict[str, float]
    ranges: list[dict[str, float]] = field(default_factory=list)
    leave_one_out: dict[str, list[float]] = field(default_factory=dict)
    own_scores: dict[str, dict[str, Any]] = field(default_factory=dict)
    caveats: list[str] = field(default_factory=list)
    seeds: list[int] = field(default_factory=list)
    seconds: float
    images_per_second: float
    batch_sizes: list[int]
    protocol: str
    identity: dict[str, Any]
    provenance: dict[str, Any] = field(default_factory=dict)
    blocks_from: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> "Row":
        """Read what a file has; what this version does not know is left out.

        Raises:
            KeyError: a part of its place is missing.
            TypeError: something else is that has no default, or it is no mapping.
        """
        known = {each.name: content[each.name] for each in fields(cls) if each.name in content}
        return cls(**known, id=CellId.of(content))

    @property
    def content(self) -> dict[str, Any]:
        """What its file has."""
        return self.id._asdict() | {each.name: getattr(self, each.name) for each in fields(self) if each.name != "id"}


def finished_row(
    bench: Bench, cell: Cell, blocks: Sequence[tuple[dict[str, Tensor], Facts]], source: dict[str, Any]
) -> Row:
    """Score a cell.

    Args:
        bench: the cell's.
        cell: to score.
        blocks: the sums of each, and the facts about it.
        source: provenance.
    """
    protocol, planned = cell.protocol, cell.planned
    sums, facts = map(list, zip(*blocks, strict=True))
    ranges = [protocol.blocks_of(number) for number in range(protocol.num_ranges)]
    kept = protocol.with_batches([int(fact["batch_size"]) for fact in facts])
    seconds, total, own = sum(fact["seconds"] for fact in facts), protocol.total, bench.evaluator.own_scores
    intervals = planned.intervals(bench.model.denoiser.cost)
    return Row(
        key=cell.key,
        id=planned.id,
        is_reference=planned.is_reference,
        **planned.scored,
        num_intervals=intervals,
        stays_in_warm_up=intervals <= bench.sampler(cell).solver.warm_up_intervals,
        lacks_thresholding=planned.lacks_thresholding,
        **scored(lambda: bench.evaluator.scores(total), sums, ranges),
        own_scores={name: asdict(score) for name, score in own.items()},
        caveats=list(bench.caveats),
        seeds=[protocol.block(0).start, protocol.block(protocol.num_blocks - 1).stop],
        seconds=seconds,
        images_per_second=total / seconds,
        batch_sizes=list(kept.batch_sizes),
        protocol=digest(kept),
        identity=json.loads(canonical_json(cell.identity)),
        provenance=source,
        blocks_from=_distinct([{name: fact[name] for name in fact if name in source} for fact in facts]),
    )


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
