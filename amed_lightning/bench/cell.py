"""A cell: one square of a benchmark's table, and the key that its result is filed under.

The key is the digest of everything that a score depends on: model, sampler, predictor, detector, real images, seeds and
micro-batch. A finished cell is found by its key and never computed again.
"""

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from amed_lightning.bench.plan import Planned
from amed_lightning.config import digest
from amed_lightning.denoisers.arithmetic import Arithmetic
from amed_lightning.sampling.sampler import Sampler, identity
from amed_lightning.seeds import Seeds, Stream

NUMERICS = 1
"""Version of the code's numbers. Whoever changes what any cell's scores come out as raises it: every key is another
then, and a row of before never stands in a table of rows of after."""
QUANTISATION = "clip(127.5 x + 128, 0, 255), truncated"


@dataclass(frozen=True)
class Protocol:
    """What a score depends on besides the sampler: only cells of one protocol may be ranked.

    Attributes:
        examiner: digest of detector, its resize, and real images.
        num_blocks: blocks of seeds, from seed 0 of the evaluation's stream; standard errors come from leaving one out.
        block_size: samples per block.
        num_ranges: ranges of seeds, over which there are the scores' mean and least.
        batch_sizes: samples per network run; several where memory ran out.
        arithmetic: how the network computed.
        conditions: identifies the labels or prompts of the seeds, or None.
        quantisation: from images in [-1, 1] to bytes.
    """

    examiner: str
    num_blocks: int
    block_size: int
    num_ranges: int
    batch_sizes: tuple[int, ...]
    arithmetic: Arithmetic = field(default_factory=Arithmetic)
    conditions: str | None = None
    quantisation: str = QUANTISATION

    @property
    def total(self) -> int:
        """Samples per cell."""
        return self.num_blocks * self.block_size

    def block(self, number: int) -> Seeds:
        """Return the seeds of a block."""
        return Seeds(Stream.evaluation, number * self.block_size, (number + 1) * self.block_size)

    def blocks_of(self, number: int) -> range:
        """Return the blocks of a range of seeds."""
        size = self.num_blocks // self.num_ranges
        return range(number * size, (number + 1) * size)

    def with_batches(self, sizes: Collection[int]) -> "Protocol":
        """Return the protocol that was kept, given the micro-batches that memory had room for."""
        return replace(self, batch_sizes=tuple(sorted(set(sizes), reverse=True)))


@dataclass(frozen=True)
class Cell:
    """One sampler on one dataset under one protocol.

    Attributes:
        planned: dataset, sampler and network runs, as the suite has them.
        sampler: what the plan describes, built.
        protocol: shared by the dataset's cells.
        reference: key of the cell that it is measured against, if there is one.
    """

    planned: Planned
    sampler: Sampler
    protocol: Protocol
    reference: str | None = None

    @property
    def nfe(self) -> int:
        """Network runs per sample."""
        return self.sampler.nfe

    @cached_property
    def sampling(self) -> dict[str, Any]:
        """Everything that the images depend on, but for arithmetic and code."""
        return identity(self.planned.config, self.sampler)

    @cached_property
    def identity(self) -> dict[str, Any]:
        """Everything that the scores depend on; of the code, the version of its numbers."""
        context = {"dataset": self.planned.dataset, "protocol": self.protocol, "reference": self.reference}
        return self.sampling | context | {"numerics": NUMERICS}

    @cached_property
    def key(self) -> str:
        """Digest of the identity, shortened to 16 digits."""
        return digest(self.identity)[:16]
