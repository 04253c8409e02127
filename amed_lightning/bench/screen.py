r"""Screening: rank a suite's cells on a few images, and leave those out of the full run that are beaten beyond doubt.

A screening is a sweep of its own, with its own folder and rows: FID alone, of equal seeds, in blocks that are small
enough to be resampled. With g blocks, ``d`` the difference of two cells' FID and ``d_(i)`` the same without block i,

    p_i = g d - (g - 1) d_(i)

are the difference's pseudo-values (Tukey 1958). In their mean the part of FID's bias that goes by the number of images
cancels, which few images would otherwise make large. A cell is beaten by the best of its NFE where this mean says so in
all but a few of the resamplings of the blocks (Efron 1979). Only blocks are resampled: a FID of images that come twice
would be that of fewer images.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import gcd

import torch

from amed_lightning.bench.jackknife import Estimate
from amed_lightning.bench.plan import CellId
from amed_lightning.bench.row import Row
from amed_lightning.bench.suite import Exclusion, Suite
from amed_lightning.bench.table import estimate, usual_protocol
from amed_lightning.metrics.scores import MAIN

IMAGES = 2000
"""Of a screening, or a part of the suite's where those are few."""
_PART = 4
BLOCKS = 8
_RESAMPLINGS = 10_000
DOUBT = 0.001
"""Share of the resamplings in which a beaten cell may come out as the better one."""


def screening(suite: Suite, device: torch.device) -> Suite:
    """Return the suite that ranks another's cells; on a GPU in bfloat16, which is for this alone.

    Args:
        suite: to screen; its micro-batches are shortened where a block of a screening is no multiple of them.
        device: where to compute.
    """
    size = max(2, min(IMAGES, suite.num_blocks * suite.block_size // _PART) // BLOCKS)
    sizes = {dataset.name: suite.batch_size_for(dataset) for dataset in suite.datasets}
    datasets = [replace(each, reference=None, batch_size=_fitting(size, sizes[each.name])) for each in suite.datasets]
    return replace(
        suite,
        name=f"{suite.name}-screening",
        datasets=datasets,
        num_blocks=BLOCKS,
        num_ranges=1,
        block_size=size,
        batch_size=size,
        metrics=(MAIN,),
        arithmetic=replace(suite.arithmetic, precision="bfloat16") if device.type == "cuda" else suite.arithmetic,
    )


def _fitting(size: int, batch_size: int) -> int:
    """Return the largest micro-batch that a block is a multiple of, and that is no larger than the suite's."""
    return max(divisor for divisor in range(1, min(size, batch_size) + 1) if gcd(divisor, size) == divisor)


@dataclass(frozen=True)
class Beaten:
    """A cell that another one is better than, beyond doubt.

    Attributes:
        cell: its place.
        by: the best of its NFE.
        difference: how much larger its FID is; of the images of the screening.
        images: of the screening.
    """

    cell: CellId
    by: CellId
    difference: float
    images: int

    @property
    def reason(self) -> str:
        """What a table says of it."""
        rival = f"{self.by.label} on {self.by.schedule}{' with AFS' if self.by.afs else ''}"
        return f"screened: FID is worse than that of {rival} on the same {self.images:,} seeds"


def beaten(rows: Sequence[Row], bound: float = DOUBT) -> list[Beaten]:
    """Return the cells of a screening that are beaten; rows of an unusual protocol neither beat nor are beaten.

    Args:
        rows: of any datasets.
        bound: of the doubt about a difference.
    """
    found = []
    for dataset in dict.fromkeys(row.id.dataset for row in rows):
        its_rows = [row for row in rows if row.id.dataset == dataset]
        usual = usual_protocol(its_rows)
        ranked = [row for row in its_rows if row.protocol == usual and not row.is_reference]
        for nfe in sorted({row.id.nfe for row in ranked}):
            rivals = [row for row in ranked if row.id.nfe == nfe]
            best = min(rivals, key=lambda row: row.values[MAIN])
            for row in rivals:
                difference = estimate(row, MAIN) - estimate(best, MAIN)
                if doubt(difference) <= bound:
                    found.append(Beaten(row.id, best.id, difference.value, row.n))
    return found


def doubt(difference: Estimate) -> float:
    """Return the share of resamplings of the blocks in which a difference is not above zero.

    Args:
        difference: of two scores on equal seeds; without blocks to leave out nothing is beyond doubt.
    """
    count = len(difference.leave_one_out)
    if count < 2:
        return 1.0
    left_out = torch.tensor(difference.leave_one_out, dtype=torch.float64)
    pseudo_values = count * difference.value - (count - 1) * left_out
    drawn = torch.randint(count, (_RESAMPLINGS, count), generator=torch.Generator().manual_seed(0))
    return float((pseudo_values[drawn].mean(1) <= 0).double().mean())


def without(suite: Suite, losers: Sequence[Beaten]) -> Suite:
    """Return a suite whose beaten cells are excluded, each with its reason."""
    exclusions = tuple(Exclusion(loser.reason, cells=(str(loser.cell),)) for loser in losers)
    return replace(suite, excluded=(*suite.excluded, *exclusions))
