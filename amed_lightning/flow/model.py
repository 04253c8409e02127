"""What a loader of pre-trained models returns, and what a denoiser is.

A denoiser estimates the clean image, ``D(x; sigma) = E[x_0 | x]`` for ``x = x_0 + sigma * noise`` (Karras et al.
2022, "EDM", section 2).
"""

from dataclasses import dataclass, field
from typing import Protocol, TypeAlias, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from amed_lightning.noise.schedules import NoiseRange
from amed_lightning.seeds import Seeds
from amed_lightning.tensors import Images, Level

Features: TypeAlias = Float[Tensor, "batch feature_size"]
"""A network's bottleneck activation, averaged over its channels and flattened."""
Condition: TypeAlias = Int[Tensor, "batch"]
"""Class labels."""


@dataclass(frozen=True, slots=True)
class Denoised:
    """One answer of a denoiser: the clean image it estimates, and its bottleneck features."""

    image: Images
    features: Features


@runtime_checkable
class Denoiser(Protocol):
    """Estimates clean images.

    Attributes:
        cost: network runs per evaluation.
    """

    @property
    def cost(self) -> int: ...

    def __call__(self, x: Images, sigma: Level, condition: Condition | None) -> Denoised:
        """Denoise ``x`` at level ``sigma``, of shape () or (batch, 1, 1, 1)."""
        ...


@dataclass(frozen=True)
class DiffusionModel:
    """A pre-trained model: its denoiser and everything that a user of it must know.

    Attributes:
        denoiser: frozen; the only part with weights.
        digest: identifies architecture and weights; stores, predictors and results carry it.
        shape: channels, height, width of one sample.
        noise_range: the levels between which the model was trained.
        feature_size: length of the bottleneck features.
        num_classes: number of class labels, 0 for an unconditional model.
        last_denoiser: answers the last evaluation of denoise-to-zero, where that is not ``denoiser``.
    """

    denoiser: Denoiser = field(repr=False)
    digest: str
    shape: tuple[int, int, int]
    noise_range: NoiseRange
    feature_size: int
    num_classes: int = 0
    last_denoiser: Denoiser | None = field(default=None, repr=False)

    def condition_for(self, seeds: Seeds) -> Condition | None:
        """Return the label of each seed, or None if the model is unconditional."""
        return seeds.labels(self.shape, self.num_classes) if self.num_classes else None

    def to(self, device: torch.device) -> "DiffusionModel":
        """Move the denoiser's weights, in place, and return this model."""
        if isinstance(self.denoiser, torch.nn.Module):
            self.denoiser.to(device)
        return self

    def decode(self, latents: Images) -> Images:
        """Turn what the sampler returns into images in [-1, 1]; a pixel-space model has nothing to do."""
        return latents
