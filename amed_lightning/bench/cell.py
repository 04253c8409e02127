"""A cell: one square of a benchmark's table, and the key that its result is filed under.

The key is the digest of everything that a score depends on: model, sampler, predictor, detector, real images, seeds and
micro-batch. A finished cell is found by its key and never computed again.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from amed_lightning.amed.files import predictor_digest
from amed_lightning.bench.plan import Planned
from amed_lightning.config import complete, digest
from amed_lightning.sampling.sampler import Sampler, predictor_path, without_placer
from amed_lightning.seeds import Seeds, Stream
from amed_lightning.solvers.registry import SOLVERS


@dataclass(frozen=True)
class Protocol:
    """What a score depends on besides the sampler: cells of one protocol may be ranked.

    Attributes:
        examiner: digest of detector and real images.
        num_blocks: blocks of seeds; the spread over them is the scores' uncertainty.
        block_size: samples per block.
        batch_size: samples per network run.
    """

    examiner: str
    num_blocks: int
    block_size: int
    batch_size: int

    @property
    def total(self) -> int:
        """Samples per cell."""
        return self.num_blocks * self.block_size

    def block(self, number: int) -> Seeds:
        """Return the seeds of a block."""
        return Seeds(Stream.evaluation, number * self.block_size, (number + 1) * self.block_size)


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
        """Everything that the images depend on, but for the code."""
        config, placer = self.planned.config, self.sampler.placer
        path = predictor_path(config.solver)
        return {
            "model": self.sampler.model.digest,
            "solver": complete("solver", SOLVERS, without_placer(config.solver), hidden=["placer"])
            | {"placer": placer if path is None else predictor_digest(path)},
            "sigmas": self.sampler.sigmas.tolist(),
            "afs": config.afs,
            "denoise_to_zero": config.denoise_to_zero,
        }

    @cached_property
    def identity(self) -> dict[str, Any]:
        """Everything that the scores depend on, but for the code."""
        return {
            "dataset": self.planned.dataset,
            **self.sampling,
            "protocol": self.protocol,
            "reference": self.reference,
        }

    @cached_property
    def key(self) -> str:
        """Digest of the identity, shortened to 16 digits."""
        return digest(self.identity)[:16]
