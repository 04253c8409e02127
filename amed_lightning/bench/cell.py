"""A cell: one square of a benchmark's table, and the key that its result is filed under.

The key is the digest of everything that a score depends on: model, sampler, predictor, detector, real images, seeds and
micro-batch. A finished cell is found by its key and never computed again.

What a suite needs is loaded here, one dataset at a time: once to refuse what does not fit, and to know the keys, and
again, unless it is still there, when the dataset's cells are filled.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch

from amed_lightning.bench.needed import require_files
from amed_lightning.bench.plan import CellId, Planned, plan, require_runs
from amed_lightning.bench.suite import Dataset, Suite
from amed_lightning.config import InputError, Spec, canonical_json, digest
from amed_lightning.denoisers.arithmetic import Arithmetic
from amed_lightning.denoisers.computing import computing
from amed_lightning.denoisers.registry import load
from amed_lightning.denoisers.thresholding import thresholded
from amed_lightning.flow.model import DiffusionModel
from amed_lightning.metrics.kept import KeptReferences
from amed_lightning.metrics.reference import Evaluator, Reference, build_evaluator, counted, looked_at
from amed_lightning.metrics.scores import metrics_of
from amed_lightning.runtime.processes import Processes
from amed_lightning.sampling.parts import build_sampler, identity
from amed_lightning.sampling.sampler import Sampler, repeated_prompts
from amed_lightning.seeds import Seeds, Stream

_NUMERICS = 1
"""Version of the code's numbers. Whoever changes what any cell's scores come out as raises it: every key is another
then, and a row of before never stands in a table of rows of after."""
Made = TypeVar("Made")
_QUANTISATION = "clip(127.5 x + 128, 0, 255), truncated"


@dataclass(frozen=True)
class Protocol:
    """What a score depends on besides the sampler: only cells of one protocol may be ranked.

    Attributes:
        examiner: digest of the evaluator, that is of detector, its resize, and real images.
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
    quantisation: str = _QUANTISATION

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
    """One sampler on one dataset under one protocol; its weights are the bench's.

    Attributes:
        planned: dataset, sampler and network runs, as the suite has them.
        sampling: everything that the images depend on, but for arithmetic and code.
        protocol: shared by the dataset's cells.
        reference: key of the cell that it is measured against, if there is one.
    """

    planned: Planned
    sampling: dict[str, Any]
    protocol: Protocol
    reference: str | None = None

    @property
    def nfe(self) -> int:
        """Network runs per sample."""
        return self.planned.nfe

    @cached_property
    def identity(self) -> dict[str, Any]:
        """Everything that the scores depend on; of the code, the version of its numbers."""
        context = {"dataset": self.planned.dataset, "protocol": self.protocol, "reference": self.reference}
        return self.sampling | context | {"numerics": _NUMERICS}

    @cached_property
    def key(self) -> str:
        """Digest of the identity, shortened to 16 digits."""
        return digest(self.identity)[:16]


class Samplers:
    """A dataset's model in memory, and its cells' samplers, each built when it is first asked for.

    Args:
        model: name and options.
        arithmetic: how it computes.

    Raises:
        InputError: an unknown name or option, or one that the model refuses.
    """

    def __init__(self, model: Spec, arithmetic: Arithmetic) -> None:
        loaded, self._spec, self._arithmetic = load(model), model, arithmetic
        self.model, self._clipped = (computing(each, arithmetic) for each in (loaded, thresholded(loaded)))
        self._built: dict[str, Sampler] = {}

    def of(self, planned: Planned) -> Sampler:
        """Return a cell's sampler.

        Raises:
            InputError: an NFE that the solver cannot have or that is not what is made, or a predictor for another use.
        """
        config = replace(planned.config, arithmetic=self._arithmetic)
        model = self.model if planned.model == self._spec else self._clipped
        name = canonical_json(config)
        if name not in self._built:
            self._built[name] = build_sampler(config, model)
            require_runs(planned, self._built[name])
        return self._built[name]


class Latest(Generic[Made]):
    """Makes things and keeps the last one, which is gone before another is made: weights of one dataset at a time.

    Args:
        make: makes one.

    >>> latest = Latest(lambda number: [number])
    >>> latest(1) is latest(1), latest(2)
    (True, [2])
    """

    def __init__(self, make: Callable[..., Made]) -> None:
        self._make = make
        self._kept: list[tuple[Any, Made]] = []

    def __call__(self, *arguments: Any, **options: Any) -> Made:
        """Return what the arguments make."""
        asked = arguments, options
        if not self._kept or self._kept[0][0] != asked:
            self._kept.clear()
            self._kept.append((asked, self._make(*arguments, **options)))
        return self._kept[0][1]


class Loader:
    """Loads what a suite needs; there is one dataset's model at a time, and one dataset's detectors.

    Args:
        device: where detectors look at real images; None for the CPU.
        reference: says how real images become statistics.
    """

    def __init__(self, device: torch.device | None = None, reference: Reference = looked_at) -> None:
        self.reference = reference
        self.samplers = Latest(Samplers)
        self.evaluator = Latest(partial(build_evaluator, device=device))

    @classmethod
    def sharing(cls, folder: Path, processes: Processes, device: torch.device) -> "Loader":
        """Return one whose references are kept in a sweep's folder, for all who work there.

        Args:
            folder: of the suite.
            processes: this process among those of its job.
            device: where detectors look at real images.
        """
        return cls(device, KeptReferences(folder / "references", processes, _NUMERICS))


@dataclass(frozen=True)
class Bench:
    """A dataset's cells, checked. What fills them is loaded when it is asked for, and goes when another dataset's is.

    Attributes:
        name: of the dataset.
        cells: all cells, the reference first, none twice.
        reference: the cell that the others are measured against, if there is one.
        digests: of the model and of the evaluator.
        image_shape: channels, height and width.
        feature_size: of the detector.
        notes: on the real images, and on entries that describe one cell.
        caveats: what is doubtful about the scores.
    """

    name: str
    cells: tuple[Cell, ...]
    reference: Cell | None
    digests: dict[str, str]
    image_shape: tuple[int, ...]
    feature_size: int
    notes: Sequence[str]
    caveats: Sequence[str]
    _samplers: Callable[[], Samplers] = field(repr=False)
    _made_evaluator: Callable[[], Evaluator] = field(repr=False)

    @property
    def model(self) -> DiffusionModel:
        """The denoiser and its facts."""
        return self._samplers().model

    @property
    def evaluator(self) -> Evaluator:
        """Detector and real images."""
        return self._made_evaluator()

    def sampler(self, cell: Cell) -> Sampler:
        """What a cell's plan describes, built."""
        return self._samplers().of(cell.planned)

    def without(self, places: Collection[CellId]) -> "Bench":
        """Return what is left where the cells of some places are not computed; a reference stays."""
        left = [cell for cell in self.cells if cell.planned.is_reference or cell.planned.id not in places]
        return replace(self, cells=tuple(left))

    def to(self, device: torch.device) -> None:
        """Move all weights, in place; samplers share most of them."""
        for network in {network for cell in self.cells for network in self.sampler(cell).networks}:
            network.to(device)
        self.evaluator.to(device)


@dataclass(frozen=True)
class _Checked:
    """A dataset of which all is known but what its real images say.

    Attributes:
        dataset: as the suite has it.
        cells: each with everything that its images depend on.
        digest: of the model.
        image_shape: channels, height and width.
        conditions: identifies the labels or prompts of the seeds, or None.
        caveats: what is doubtful about these.
    """

    dataset: Dataset
    cells: Sequence[tuple[Planned, dict[str, Any]]]
    digest: str
    image_shape: tuple[int, ...]
    conditions: str | None
    caveats: Sequence[str]


def prepare(suite: Suite, loader: Loader | None = None, launch: Callable[[], object] = lambda: None) -> list[Bench]:
    """Build a suite's cells; what can be refused is, before real images are looked at.

    Args:
        suite: to prepare.
        loader: of its weights; one for the CPU if there is none.
        launch: starts the other processes, once nothing has been refused.

    Raises:
        InputError: an unknown part, an NFE that a solver cannot have, a predictor that is missing or for another use.
    """
    loader = loader or Loader()
    metrics_of(suite.metrics)  # what is wrong with them is said before weights are loaded
    cells = [cell for cell in plan(suite) if cell.excluded is None]
    require_files(cells)
    checked = [
        _checked(suite, dataset, [cell for cell in cells if cell.dataset == dataset.name], loader)
        for dataset in suite.datasets
    ]
    launch()
    return [_bench(suite, each, loader) for each in checked]


def _checked(suite: Suite, dataset: Dataset, plans: Sequence[Planned], loader: Loader) -> _Checked:
    """Load a dataset's model and detectors, and build what its cells sample with."""
    samplers = loader.samplers(dataset.model, suite.arithmetic)
    model, seeds = samplers.model, Seeds(Stream.evaluation, 0, suite.num_blocks * suite.block_size)
    evaluator = loader.evaluator(dataset.detector, dataset.dataset, suite.metrics, reference=counted)
    evaluator.require_shape(model.image_shape)
    _require_enough(evaluator, suite.smallest_part)
    evaluator.require_given(prompts=model.prompts is not None, pairs=dataset.reference is not None)
    cells = [(planned, identity(planned.config, samplers.of(planned))) for planned in plans]
    conditions = model.conditions_digest(Stream.evaluation)
    return _Checked(dataset, cells, model.digest, model.image_shape, conditions, repeated_prompts(model, seeds))


def _require_enough(evaluator: Evaluator, images: int) -> None:
    """Refuse parts of the seeds that are so small that they have no scores.

    Raises:
        InputError: naming the metric, and the cure.
    """
    try:
        evaluator.scores(images)
    except InputError as error:
        raise InputError(
            f"a range of seeds, or all blocks but one, is scored by itself: {error}; raise block_size"
        ) from error


def _bench(suite: Suite, checked: _Checked, loader: Loader) -> Bench:
    """Show real images to the detectors, and say what each cell's scores depend on."""
    dataset = checked.dataset
    examined = partial(loader.evaluator, dataset.detector, dataset.dataset, suite.metrics, reference=loader.reference)
    evaluator, sizes = examined(), (suite.num_blocks, suite.block_size, suite.num_ranges or suite.num_blocks)
    batches = (suite.batch_size_for(dataset),)
    protocol = Protocol(evaluator.digest, *sizes, batches, suite.arithmetic, checked.conditions)
    cells: dict[str, Cell] = {}
    reference: Cell | None = None
    notes = [*evaluator.reference.notes]
    for planned, sampling in checked.cells:
        cell = Cell(planned, sampling, protocol, None if reference is None else reference.key)
        if planned.is_reference:
            reference = cell
        if (same := cells.setdefault(canonical_json(sampling), cell)).planned.id != planned.id:
            notes.append(f"{planned.id} is {same.planned.id} by another name, and has no line of its own")
    return Bench(
        dataset.name,
        tuple(cells.values()),
        reference,
        {"model": checked.digest, "examiner": evaluator.digest},
        checked.image_shape,
        evaluator.detector.feature_size,
        notes,
        [*evaluator.caveats(protocol.total), *checked.caveats],
        partial(loader.samplers, dataset.model, suite.arithmetic),
        examined,
    )
