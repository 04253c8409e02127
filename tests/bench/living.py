"""A model and a detector of somebody's own that count how many of them are in memory."""

import weakref
from dataclasses import dataclass, field

from torch import nn

from amed_lightning.denoisers.registry import digits
from amed_lightning.flow.model import DiffusionModel
from amed_lightning.metrics.detector import Detector
from amed_lightning.metrics.files import digits_classifier


@dataclass
class Census:
    """How many networks were in memory when each was loaded, itself included, and at each of their answers.

    Attributes:
        loads: at each load.
        calls: at each answer, with all that were loaded until then.
    """

    loads: list[int] = field(default_factory=list)
    calls: list[int] = field(default_factory=list)
    _living: "weakref.WeakSet[nn.Module]" = field(default_factory=weakref.WeakSet)

    def add(self, network: nn.Module) -> None:
        """Count a network that was just loaded."""
        self._living.add(network)
        self.loads.append(len(self._living))
        network.register_forward_hook(lambda *_: self.calls.append(len(self._living)))


MODELS, DETECTORS = Census(), Census()


def model(number: int) -> DiffusionModel:
    """The digits' model; another number is another dataset's."""
    loaded = digits()
    assert isinstance(loaded.denoiser, nn.Module)
    MODELS.add(loaded.denoiser)
    return loaded


def detector(number: int) -> tuple[Detector, str]:
    """The digits' detector; another number is another dataset's."""
    loaded, weights = digits_classifier()
    assert isinstance(loaded, nn.Module)
    DETECTORS.add(loaded)
    return loaded, f"{weights} {number}"
