"""Denoisers around another: what guides, thresholds, remembers or watches.

:class:`Around` is any of them, :class:`Wrapper` a module whose parts move and convert with it, :class:`Changed` one
that changes each answer by itself.
"""

from abc import ABC, abstractmethod

from torch import nn

from amed_lightning.flow.model import Condition, Denoised, Denoiser
from amed_lightning.tensors import Images, Level


class Around:
    """A denoiser whose network runs are another's.

    Attributes:
        denoiser: answers.
    """

    denoiser: Denoiser

    @property
    def cost(self) -> int:
        """Network runs of an answer that the other one gives."""
        return self.denoiser.cost


class Wrapper(Around, nn.Module):
    """A module around another denoiser.

    Args:
        denoiser: answers.
    """

    def __init__(self, denoiser: Denoiser) -> None:
        super().__init__()
        self.denoiser = denoiser


class Changed(Wrapper, ABC):
    """A denoiser whose answers become others, whatever was asked."""

    @abstractmethod
    def change(self, answer: Denoised) -> Denoised:
        """Return what becomes of an answer."""

    def forward(self, x: Images, sigma: Level, condition: Condition | None) -> Denoised:
        """Denoise, and change the answer."""
        return self.change(self.denoiser(x, sigma, condition))
