"""A cell: one square of a benchmark's table, and the key that its result is filed under.

The key is the digest of everything that a score depends on: model, sampler, predictor, detector, real images, seeds and
micro-batch. A finished cell is found by its key and never computed again. What a suite needs is loaded here, dataset by
dataset, and its cells are built.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch

from amed_lightning.bench.suite import CellId, Dataset, Planned, Suite, plan, require_files
from amed_lightning.config import canonical_json, digest
from amed_lightning.denoisers.arithmetic import Arithmetic
from amed_lightning.denoisers.computing import computing
from amed_lightning.denoisers.registry import load
from amed_lightning.denoisers.thresholding import thresholded
from amed_lightning.flow.model import DiffusionModel
from amed_lightning.metrics.reference import Examiner, examiner
from amed_lightning.metrics.scores import metrics_of
from amed_lightning.sampling.sampler import Sampler, build_sampler, identity, repeated_prompts
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


@dataclass(frozen=True)
class Bench:
    """A dataset's cells, checked, with what it takes to fill them.

    Attributes:
        name: of the dataset.
        model: the denoiser and its facts.
        examiner: detector and real images.
        reference: the cell that the others are measured against, if there is one.
        cells: all cells, the reference first, none twice.
    """

    name: str
    model: DiffusionModel
    examiner: Examiner
    reference: Cell | None
    cells: tuple[Cell, ...]

    def caveats(self, total: int) -> list[str]:
        """Say what is doubtful about scores of ``total`` samples."""
        return [*self.examiner.caveats(total), *repeated_prompts(self.model, Seeds(Stream.evaluation, 0, total))]

    def without(self, places: Collection[CellId]) -> "Bench":
        """Return what is left where the cells of some places are not computed; a reference stays."""
        left = [cell for cell in self.cells if cell.planned.is_reference or cell.planned.id not in places]
        return replace(self, cells=tuple(left))

    def to(self, device: torch.device) -> None:
        """Move all weights, in place."""
        for cell in self.cells:
            cell.sampler.to(device)
        self.examiner.to(device)


def prepare(suite: Suite, device: torch.device | None = None) -> list[Bench]:
    """Load what a suite needs and build its cells, dataset by dataset; what can be refused before that is.

    Args:
        suite: to prepare.
        device: where detectors look at real images, to return to the CPU; None for the CPU.

    Raises:
        InputError: an unknown part, an NFE that a solver cannot have, a predictor that is missing or for another use.
    """
    metrics_of(suite.metrics)  # what is wrong with them is said before weights are loaded
    cells = [cell for cell in plan(suite) if cell.excluded is None]
    require_files(cells)
    of_datasets = [[cell for cell in cells if cell.dataset == dataset.name] for dataset in suite.datasets]
    loaded = [_samplers(suite, *pair) for pair in zip(suite.datasets, of_datasets, strict=True)]
    return [_bench(suite, dataset, *parts, device) for dataset, parts in zip(suite.datasets, loaded, strict=True)]


def _samplers(
    suite: Suite, dataset: Dataset, plans: Sequence[Planned]
) -> tuple[DiffusionModel, list[tuple[Planned, Sampler]]]:
    """Load a dataset's model, and build what its cells sample with, before real images are looked at."""
    loaded = load(dataset.model)
    plain, clipped = (computing(model, suite.arithmetic) for model in (loaded, thresholded(loaded)))
    configs = [replace(planned.config, arithmetic=suite.arithmetic) for planned in plans]
    models = [plain if planned.model == dataset.model else clipped for planned in plans]
    return plain, list(zip(plans, map(build_sampler, configs, models), strict=True))


def _bench(
    suite: Suite,
    dataset: Dataset,
    plain: DiffusionModel,
    samplers: Sequence[tuple[Planned, Sampler]],
    device: torch.device | None,
) -> Bench:
    judge = examiner(dataset.detector, dataset.dataset, suite.metrics, device).to(torch.device("cpu"))
    judge.require_shape(plain.image_shape)
    judge.require_given(prompts=plain.prompts is not None, pairs=dataset.reference is not None)
    protocol = Protocol(
        judge.digest,
        suite.num_blocks,
        suite.block_size,
        suite.num_ranges or suite.num_blocks,
        (suite.batch_size_for(dataset),),
        suite.arithmetic,
        plain.conditions_digest(Stream.evaluation),
    )
    cells: dict[str, Cell] = {}
    reference: Cell | None = None
    for planned, sampler in samplers:
        cell = Cell(planned, sampler, protocol, None if reference is None else reference.key)
        if planned.is_reference:
            reference = cell
        cells.setdefault(canonical_json(cell.sampling), cell)
    return Bench(dataset.name, plain, judge, reference, tuple(cells.values()))
