"""A suite: the YAML that says which solvers run where, at how many network runs, and how they are scored."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from amed_lightning.config import InputError, Spec, load_dataclass
from amed_lightning.denoisers.arithmetic import Arithmetic
from amed_lightning.metrics.scores import USUAL


@dataclass(frozen=True)
class Entry:
    """A solver and where it runs.

    Attributes:
        solver: name and options.
        schedules: names and options.
        nfe: numbers of network runs.
        afs: with or without the analytic first step, or both.
        denoise_to_zero: end with the denoiser's answer at sigma_min.
        thresholded: on the dataset's model under dynamic thresholding, as published data prediction is: the same as
            ``{name: thresholded, of: ...}`` around it.
        datasets: names of those it runs on; all if there is none.
    """

    solver: Spec
    schedules: list[Spec]
    nfe: list[int]
    afs: tuple[bool, ...] = (False,)
    denoise_to_zero: bool = False
    thresholded: bool = False
    datasets: tuple[str, ...] = ()


@dataclass(frozen=True)
class Dataset:
    """A column of the benchmark: a model, and what its images are scored with.

    Attributes:
        name: as rows, tables and published figures call it.
        model: name and options of the denoiser.
        detector: name and options.
        dataset: the real images.
        reference: the sampler whose images, from the same noise, the others are measured against; none is none.
        batch_size: samples per network run, where it is not the suite's.
    """

    name: str
    model: Spec
    detector: Spec
    dataset: Spec
    reference: Entry | None = None
    batch_size: int | None = None


@dataclass(frozen=True)
class Exclusion:
    """Cells that are not computed; tables show them with the reason.

    Attributes:
        reason: for the reader.
        solver: name and options that the cells' solver has; any if there is none.
        datasets: names; all if there is none.
        nfe: numbers of network runs; all if there is none.
        cells: their places, as :class:`CellId` says them; all if there is none.
    """

    reason: str
    solver: Spec | None = None
    datasets: tuple[str, ...] = ()
    nfe: tuple[int, ...] = ()
    cells: tuple[str, ...] = ()


@dataclass(frozen=True)
class Suite:
    """A benchmark.

    Attributes:
        name: of its folder.
        datasets: what the solvers run on.
        entries: what runs.
        excluded: what of it does not.
        num_blocks: blocks of seeds, the unit of work; standard errors and tests come from leaving out one.
        num_ranges: ranges of seeds whose scores' mean and least stand beside those of all; each is as many whole
            blocks. Every block is one, unless this says otherwise.
        block_size: samples per block; a multiple of ``batch_size``.
        batch_size: samples per network run.
        arithmetic: precision and what else moves the last digits.
        metrics: scores to compute: names of ``METRICS``, or names and options; or import paths of own classes.
    """

    name: str
    datasets: list[Dataset]
    entries: list[Entry]
    excluded: tuple[Exclusion, ...] = ()
    num_blocks: int = 3
    num_ranges: int | None = None
    block_size: int = 768
    batch_size: int = 256
    arithmetic: Arithmetic = field(default_factory=Arithmetic)
    metrics: tuple[str | Spec, ...] = USUAL

    @property
    def smallest_part(self) -> int:
        """Samples of the smallest set that is scored: a range of seeds, or all blocks but one."""
        in_a_range = self.num_blocks // (self.num_ranges or self.num_blocks)
        return self.block_size * min(in_a_range, max(1, self.num_blocks - 1))

    def batch_size_for(self, dataset: Dataset) -> int:
        """Return the samples per network run of a dataset."""
        return dataset.batch_size or self.batch_size


def load_suite(path: Path) -> Suite:
    """Read a suite.

    Raises:
        InputError: a missing file, an unknown or missing key, or a value of the wrong type.
    """
    parsed = load_dataclass(path, Suite)
    try:
        _check(parsed)
    except ValueError as error:
        raise InputError(f"{path}: {error}") from error
    return parsed


def _check(suite: Suite) -> None:
    """Refuse sizes and names that make no sense.

    Raises:
        ValueError: naming the key.
    """
    for name in ("num_blocks", "num_ranges", "block_size", "batch_size"):
        if getattr(suite, name) is not None and getattr(suite, name) < 1:
            raise ValueError(f"{name} is {getattr(suite, name)}; it must be at least 1")
    if suite.num_ranges and suite.num_blocks % suite.num_ranges:
        raise ValueError(f"num_blocks {suite.num_blocks} is not a multiple of num_ranges {suite.num_ranges}")
    names = Counter(dataset.name for dataset in suite.datasets)
    if not names or max(names.values()) > 1:
        raise ValueError(f"datasets has {list(names.elements())}; name at least one, and none twice")
    for dataset in suite.datasets:
        size = suite.batch_size_for(dataset)
        if size < 1 or suite.block_size % size:
            raise ValueError(f"block_size {suite.block_size} is not a multiple of {dataset.name}'s batch_size {size}")
    for chosen in [part.datasets for part in suite.entries] + [part.datasets for part in suite.excluded]:
        if unknown := set(chosen) - set(names):
            raise ValueError(f"datasets {sorted(unknown)} of an entry or exclusion are not among {list(names)}")
