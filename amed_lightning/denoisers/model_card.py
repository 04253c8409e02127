"""What a file of weights holds: the card that names architecture, options, preconditioning and levels."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from torch import nn

from amed_lightning.config import InputError, build
from amed_lightning.denoisers.adm import ADM, NoisyClassifier
from amed_lightning.denoisers.ddpmpp import DDPMpp
from amed_lightning.denoisers.preconditioning import EDMPreconditioned, Preconditioned, VPClassifier, VPPreconditioned
from amed_lightning.noise.schedules import NoiseRange, scaled_linear_log_alphas

ARCHITECTURES: dict[str, Callable[..., nn.Module]] = {
    "ddpmpp": DDPMpp,
    "adm": ADM,
    "noisy_classifier": NoisyClassifier,
}
IMPLIED = {"architecture": "ddpmpp", "preconditioning": "edm"}
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
    """

    network: dict[str, Any]
    sigma_data: float
    sigma_min: float = 0.002
    sigma_max: float = 80.0
    scaled_linear_betas: bool = False
    architecture: str = IMPLIED["architecture"]
    preconditioning: str = IMPLIED["preconditioning"]

    @property
    def content(self) -> dict[str, Any]:
        """What the file says."""
        return {key: value for key, value in asdict(self).items() if IMPLIED.get(key) != value}

    @property
    def noise_range(self) -> NoiseRange:
        """The levels between which the model was trained."""
        log_alphas = scaled_linear_log_alphas() if self.scaled_linear_betas else None
        return NoiseRange(self.sigma_min, self.sigma_max, log_alphas)

    @property
    def is_classifier(self) -> bool:
        """Whether the network tells classes instead of denoising."""
        return self.architecture == "noisy_classifier"

    def denoiser(self) -> Preconditioned:
        """Build the denoiser, with fresh weights.

        Raises:
            InputError: no such architecture, option or preconditioning; or a classifier's card.
        """
        network = self._network()
        if isinstance(network, NoisyClassifier):
            raise InputError("a classifier of noisy images is no denoiser: name it as the classifier of one")
        if self.preconditioning not in PRECONDITIONINGS:
            known = ", ".join(PRECONDITIONINGS)
            raise InputError(f"unknown preconditioning '{self.preconditioning}': use one of {known}")
        return PRECONDITIONINGS[self.preconditioning](network, self)

    def classifier(self) -> VPClassifier:
        """Build the classifier of noisy images, with fresh weights.

        Raises:
            InputError: no such architecture or option; or a denoiser's card.
        """
        network = self._network()
        if not isinstance(network, NoisyClassifier):
            raise InputError("a denoiser is no classifier of noisy images")
        return VPClassifier(network)

    def _network(self) -> nn.Module:
        return build("architecture", ARCHITECTURES, {**self.network, "name": self.architecture})


PRECONDITIONINGS: dict[str, Callable[[Any, ModelCard], Preconditioned]] = {
    "edm": lambda network, card: EDMPreconditioned(network, card.sigma_data),
    "cm": lambda network, card: EDMPreconditioned(network, card.sigma_data, noise_scale=250.0),
    "vp": lambda network, card: VPPreconditioned(network),
}
