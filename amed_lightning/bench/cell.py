"""A cell: one square of a benchmark's table, and the key that its result is filed under.

The key is the digest of everything that a score depends on: model, sampler, predictor, detector, real images, seeds and
micro-batch. A finished cell is found by its key and never computed again.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from amed_lightning.amed.files import predictor_digest
from amed_lightning.config import Spec, complete, digest
from amed_lightning.sampling.sampler import Sampler, SamplerConfig, predictor_path, without_placer
from amed_lightning.seeds import Seeds, Stream
from amed_lightning.solvers.registry import SOLVERS


@dataclass(frozen=True)
class Protocol:
    """What all cells of a suite share.

    Attributes:
        model: digest of the model.
        examiner: digest of detector and real images.
        num_blocks: blocks of seeds; the spread over them is the scores' uncertainty.
        block_size: samples per block.
        batch_size: samples per network run.
    """

    model: str
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
    """One sampler under one protocol.

    Attributes:
        config: the sampler.
        sampler: what the configuration describes, built.
        protocol: shared by the suite's cells.
    """

    config: SamplerConfig
    sampler: Sampler
    protocol: Protocol

    @property
    def nfe(self) -> int:
        """Network runs per sample."""
        return self.sampler.nfe

    @cached_property
    def identity(self) -> dict[str, Any]:
        """Everything that the scores depend on, but for the code."""
        path, placer = predictor_path(self.config.solver), self.sampler.placer
        return {
            "solver": complete("solver", SOLVERS, without_placer(self.config.solver), hidden=["placer"])
            | {"placer": placer if path is None else predictor_digest(path)},
            "sigmas": self.sampler.sigmas.tolist(),
            "afs": self.config.afs,
            "denoise_to_zero": self.config.denoise_to_zero,
            "protocol": self.protocol,
        }

    @property
    def key(self) -> str:
        """Digest of the identity, shortened to 16 digits."""
        return digest(self.identity)[:16]

    @property
    def label(self) -> str:
        """The solver as a table names it: its options that are not the default, and how its placer came to be."""
        solver: Spec = self.config.solver
        options = [f"{value}" for key, value in solver.items() if key not in ("name", "placer")]
        placer = solver.get("placer")
        placed = "" if placer in (None, "none") else " + plugin" if solver["name"] != "amed" else ""
        return "-".join([solver["name"], *options]) + placed
