"""Load what a suite needs, and build its cells."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch

from amed_lightning.bench.cell import Cell, Protocol
from amed_lightning.bench.plan import Planned, plan
from amed_lightning.bench.suite import Dataset, Suite
from amed_lightning.config import canonical_json
from amed_lightning.denoisers.computing import computing
from amed_lightning.denoisers.registry import load
from amed_lightning.denoisers.thresholding import thresholded
from amed_lightning.flow.model import DiffusionModel
from amed_lightning.metrics.reference import Examiner, examiner
from amed_lightning.metrics.scores import metrics_of
from amed_lightning.sampling.sampler import build_sampler, repeated_prompts
from amed_lightning.seeds import Seeds, Stream


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

    def to(self, device: torch.device) -> None:
        """Move all weights, in place."""
        for cell in self.cells:
            cell.sampler.to(device)
        self.examiner.to(device)


def prepare(suite: Suite) -> list[Bench]:
    """Load what a suite needs and build its cells, dataset by dataset.

    Raises:
        InputError: an unknown part, an NFE that a solver cannot have, a predictor that is missing or for another use.
    """
    metrics_of(suite.metrics)  # what is wrong with them is said before weights are loaded
    cells = [cell for cell in plan(suite) if cell.excluded is None]
    return [
        _prepare(suite, dataset, [cell for cell in cells if cell.dataset == dataset.name]) for dataset in suite.datasets
    ]


def _prepare(suite: Suite, dataset: Dataset, plans: Iterable[Planned]) -> Bench:
    loaded = load(dataset.model)
    plain, clipped = (computing(model, suite.arithmetic) for model in (loaded, thresholded(loaded)))
    judge = examiner(dataset.detector, dataset.dataset, suite.metrics)
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
    for planned in plans:
        config = replace(planned.config, arithmetic=suite.arithmetic)
        sampler = build_sampler(config, plain if planned.model == dataset.model else clipped)
        cell = Cell(planned, sampler, protocol, None if reference is None else reference.key)
        if planned.is_reference:
            reference = cell
        cells.setdefault(canonical_json(cell.sampling), cell)
    return Bench(dataset.name, plain, judge, reference, tuple(cells.values()))
