"""A network and a detector that have memory for so many samples and no more."""

from dataclasses import dataclass, replace
from typing import Any

import torch

from amed_lightning.config import Spec
from amed_lightning.denoisers.gaussian import anisotropic_gaussian
from amed_lightning.flow.model import DiffusionModel
from amed_lightning.metrics.files import digits_classifier


@dataclass(frozen=True)
class Hungry:
    """Another network, which has memory for ``room`` samples; what else is asked of it, the other answers."""

    network: Any
    room: int

    def __post_init__(self) -> None:
        # Data that a protocol names has to be there without being asked for, from Python 3.12 on.
        for name in ("cost", "feature_size", "num_classes", "image_shape"):
            if hasattr(self.network, name):
                object.__setattr__(self, name, getattr(self.network, name))

    def __call__(self, x: Any, *rest: Any) -> Any:
        if len(x) > self.room:
            raise torch.OutOfMemoryError(f"no room for {len(x)} samples")
        return self.network(x, *rest)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.network, name)


def model(room: int) -> DiffusionModel:
    exact = anisotropic_gaussian(8, 8)
    return replace(exact, denoiser=Hungry(exact.denoiser, room))


def detector(room: int) -> tuple[Hungry, str]:
    classifier, digest = digits_classifier()
    return Hungry(classifier, room), digest


def hungry(room: int, part: str = "model") -> Spec:
    """Describe one of them."""
    return {"name": f"{__name__}.{part}", "room": room}
