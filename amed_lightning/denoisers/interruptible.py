"""A denoiser that looks at the signals before it answers: long work ends within one batch of the network.

What was begun is lost, so it is for work that can be begun again: blocks of a store, of a table and of a sweep.
"""

from dataclasses import dataclass, replace

from amed_lightning.denoisers.around import Around
from amed_lightning.flow.model import Condition, Denoised, Denoiser, DiffusionModel
from amed_lightning.runtime.signals import stop_if_asked
from amed_lightning.tensors import Images, Level


@dataclass(frozen=True)
class Interruptible(Around):
    """Another denoiser, unless the process was asked to stop.

    Args:
        denoiser: answers.
    """

    denoiser: Denoiser

    def __call__(self, x: Images, sigma: Level, condition: Condition | None) -> Denoised:
        """Ask.

        Raises:
            Stopped: a signal has come.
        """
        stop_if_asked()
        return self.denoiser(x, sigma, condition)


def interruptible(model: DiffusionModel) -> DiffusionModel:
    """Return a model, which is on its device already, that looks at the signals."""
    last = None if model.last_denoiser is None else Interruptible(model.last_denoiser)
    return replace(model, denoiser=Interruptible(model.denoiser), last_denoiser=last)
