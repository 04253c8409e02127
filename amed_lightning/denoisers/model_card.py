"""What a file of weights holds: the card that names architecture, options, preconditioning and levels."""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from torch import nn

from amed_lightning.config import InputError, build, registered
from amed_lightning.denoisers.adm import ADM, NoisyClassifier
from amed_lightning.denoisers.ddpmpp import DDPMpp
from amed_lightning.denoisers.edm2 import EDM2
from amed_lightning.denoisers.preconditioning import (
    EDM,
    IDDPM,
    VE,
    VP,
    Consistency,
    Preconditioned,
    PreconditionedClassifier,
    Preconditioning,
    VPDiscrete,
)
from amed_lightning.noise.schedules import NoiseRange, scaled_linear_log_alphas

ARCHITECTURES: dict[str, Callable[..., nn.Module]] = {
    "ddpmpp": DDPMpp,
    "adm": ADM,
    "noisy_classifier": NoisyClassifier,
    "edm2": EDM2,
}
PRECONDITIONINGS: dict[str, Callable[..., Preconditioning]] = {
    "edm": EDM,
    "cm": Consistency,
    "vp": VP,
    "vp_discrete": VPDiscrete,
    "edm_vp": VP,
    "edm_ve": VE,
    "edm_iddpm": IDDPM,
    "edm2": EDM,
}
IMPLIED: dict[str, Any] = {"architecture": "ddpmpp", "preconditioning": "edm", "preconditioning_options": {}}
"""What a card leaves out: the first cards knew nothing else, and their digests name stores and predictors."""


@dataclass(frozen=True)
class ModelCard:
    """What a file of weights holds.

    Attributes:
        network: options of the architecture.
        sigma_data: standard deviation of the data; 1 in the variance-preserving form.
        sigma_min: smallest level.
        sigma_max: largest level.
        scaled_linear_betas: the schedule ``discrete`` uses Stable Diffusion's table for this model.
        architecture: a key of ``ARCHITECTURES``.
        preconditioning: a key of ``PRECONDITIONINGS``.
        preconditioning_options: of the preconditioning.

    Raises:
        InputError: no such architecture or preconditioning, or deviation and levels that no model has.
    """

    network: dict[str, Any]
    sigma_data: float
    sigma_min: float = 0.002
    sigma_max: float = 80.0
    scaled_linear_betas: bool = False
    architecture: str = IMPLIED["architecture"]
    preconditioning: str = IMPLIED["preconditioning"]
    preconditioning_options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        registered("architecture", ARCHITECTURES, self.architecture)
        registered("preconditioning", PRECONDITIONINGS, self.preconditioning)
        positive = self.sigma_data, self.sigma_min, self.sigma_max
        if not all(0 < value < math.inf for value in positive) or self.sigma_min >= self.sigma_max:
            raise InputError(
                f"sigma_data {positive[0]} and levels from {positive[1]} to {positive[2]}: no model has them"
            )

    @property
    def content(self) -> dict[str, Any]:
        """What the file says."""
        return {key: value for key, value in asdict(self).items() if key not in IMPLIED or IMPLIED[key] != value}

    @property
    def noise_range(self) -> NoiseRange:
        """The levels between which the model was trained."""
        table = scaled_linear_log_alphas() if self.scaled_linear_betas else self._preconditioning().log_alphas
        return NoiseRange(self.sigma_min, self.sigma_max, table)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the images."""
        side = self.network["img_resolution"]
        return self.network["img_channels"], side, side

    @property
    def is_classifier(self) -> bool:
        """Whether the network tells classes instead of denoising."""
        return self.architecture == "noisy_classifier"

    def denoiser(self) -> Preconditioned:
        """Build the denoiser, with fresh weights.

        Raises:
            InputError: no such option; or a classifier's card.
        """
        network = self._network()
        if isinstance(network, NoisyClassifier):
            raise InputError("a classifier of noisy images is no denoiser: name it as the classifier of one")
        return Preconditioned(network, self._preconditioning())

    def classifier(self) -> PreconditionedClassifier:
        """Build the classifier of noisy images, with fresh weights.

        Raises:
            InputError: no such option; or a denoiser's card.
        """
        network = self._network()
        if not isinstance(network, NoisyClassifier):
            raise InputError("a denoiser is no classifier of noisy images")
        return PreconditionedClassifier(network, self._preconditioning())

    def _network(self) -> Any:
        return build("architecture", ARCHITECTURES, {**self.network, "name": self.architecture})

    def _preconditioning(self) -> Preconditioning:
        spec = {**self.preconditioning_options, "name": self.preconditioning}
        return build("preconditioning", PRECONDITIONINGS, spec, sigma_data=self.sigma_data)
