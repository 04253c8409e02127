"""Load what a suite needs, and build its cells."""

from dataclasses import dataclass

from amed_lightning.bench.cell import Cell, Protocol
from amed_lightning.bench.plan import expand
from amed_lightning.bench.suite import Dataset, Suite
from amed_lightning.config import build, canonical_json
from amed_lightning.denoisers.registry import DENOISERS
from amed_lightning.flow.model import DiffusionModel
from amed_lightning.metrics.reference import Examiner, examiner
from amed_lightning.sampling.sampler import build_sampler


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


def prepare(suite: Suite) -> list[Bench]:
    """Load what a suite needs and build its cells, dataset by dataset.

    Raises:
        InputError: an unknown part, an NFE that a solver cannot have, a predictor that is missing or for another use.
    """
    return [_prepare(suite, dataset) for dataset in suite.datasets]


def _prepare(suite: Suite, dataset: Dataset) -> Bench:
    model = build("model", DENOISERS, dataset.model)
    judge = examiner(dataset.detector, dataset.dataset)
    judge.require_shape(model.shape)
    protocol = Protocol(judge.digest, suite.num_blocks, suite.block_size, suite.batch_size_for(dataset))
    cells: dict[str, Cell] = {}
    reference: Cell | None = None
    for planned in expand(suite, dataset, model.denoiser.cost):
        compared = None if reference is None else reference.key
        cell = Cell(planned, build_sampler(planned.config, model), protocol, compared)
        if planned.is_reference:
            reference = cell
        cells.setdefault(canonical_json(cell.sampling), cell)
    return Bench(dataset.name, model, judge, reference, tuple(cells.values()))
