"""What another program that has the same network must be told of a sampler: a table, and what surrounds the network."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from amed_lightning.config import InputError
from amed_lightning.denoisers.computing import Autocast, Computing
from amed_lightning.denoisers.guidance import PLAIN, ClassifierFreeGuidance
from amed_lightning.denoisers.pooling import Pooled
from amed_lightning.denoisers.preconditioning import Preconditioned
from amed_lightning.denoisers.thresholding import Clipped
from amed_lightning.flow.model import Denoiser, DiffusionModel
from amed_lightning.sampling.sampler import Sampler
from amed_lightning.solvers.placement import FixedPlacement
from amed_lightning.solvers.tabulated import Table, table_of

WRAPPERS = (Computing, Autocast, Pooled, ClassifierFreeGuidance, Clipped)


@dataclass(frozen=True)
class _Inside:
    """The inside of a model.

    Attributes:
        denoiser: of the network alone.
        clip: images are clipped to [-clip, clip] once they are guided; None where they are not.
    """

    denoiser: Preconditioned
    clip: float | None


def inside(model: DiffusionModel) -> _Inside:
    """Look inside a model; guidance is the other program's own.

    Raises:
        InputError: there is more inside than can be told.
    """
    layers = list(_layers(model.denoiser))
    *around, denoiser = layers
    if not isinstance(denoiser, Preconditioned):
        raise InputError(
            f"a {type(denoiser).__name__} is inside the model: what can be exported is a network at scaled states and "
            f"times, guided without a classifier and clipped or not"
        )
    kinds = [type(each) for each in around]
    if Clipped in kinds and ClassifierFreeGuidance in kinds[: kinds.index(Clipped)]:
        raise InputError("images are clipped before they are guided, which no other program does")
    if any(isinstance(each, ClassifierFreeGuidance) and each.manner != PLAIN for each in around):
        raise InputError("guidance in an interval of levels, or rescaled, is not what the other program does")
    bounds = [each.bound for each in around if isinstance(each, Clipped)]
    return _Inside(denoiser, min(bounds, default=None))


def table_for(sampler: Sampler) -> Table:
    """Return the table of a sampler.

    Raises:
        InputError: a predictor places its steps for each sample.
    """
    if not isinstance(sampler.placer, FixedPlacement | None):
        raise InputError(
            f"{type(sampler.placer).__name__} places the steps of each sample by the network's bottleneck, and this "
            f"program is told one table for all; export a learned table, or the constants of a fit"
        )
    table = table_of(sampler.solver, sampler.sigmas, sampler.afs)
    return _denoised(table, sampler.sigmas[-1:]) if sampler.denoise_to_zero else table


def _denoised(table: Table, end: torch.Tensor) -> Table:
    """Add a run at the end, whose answer is the sample."""
    runs = len(table.told)
    answers = torch.zeros(runs + 2, runs + 1, dtype=torch.float64)
    answers[:-1, :-1], answers[-1, -1] = table.answers, 1.0
    return Table(torch.cat([table.told, end]), torch.cat([table.noise, table.noise.new_zeros(1)]), answers)


def _layers(denoiser: Denoiser) -> Iterator[Denoiser]:
    """Yield the denoisers inside one another, from the outermost."""
    yield denoiser
    while isinstance(denoiser, WRAPPERS):
        denoiser = denoiser.denoiser
        yield denoiser
