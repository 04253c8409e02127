"""What a loader of pre-trained models returns, and what a denoiser is.

A denoiser estimates the clean image, ``D(x; sigma) = E[x_0 | x]`` for ``x = x_0 + sigma * noise`` (Karras et al.
2022, "EDM", section 2).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from amed_lightning.noise.schedules import NoiseRange
from amed_lightning.seeds import Seeds, Stream
from amed_lightning.tensors import Images, Latents, Level

Features: TypeAlias = Float[Tensor, "batch feature_size"]
"""A network's bottleneck activation, averaged over its channels and flattened."""
Condition: TypeAlias = Int[Tensor, "batch"]
"""Class labels, or numbers of prompts."""


@dataclass(frozen=True, slots=True)
class Denoised:
    """One answer of a denoiser.

    Attributes:
        image: the clean image that it estimates.
        features: its bottleneck.
        cost: network runs that it took, where they were not the denoiser's ``cost``.
    """

    image: Images
    features: Features
    cost: int | None = None

    def runs(self, asked: "Denoiser") -> int:
        """Return the network runs that the answer took of the denoiser that was asked."""
        return asked.cost if self.cost is None else self.cost


@runtime_checkable
class Denoiser(Protocol):
    """Estimates clean images.

    Attributes:
        cost: network runs per evaluation, at most.
    """

    @property
    def cost(self) -> int: ...

    def __call__(self, x: Images, sigma: Level, condition: Condition | None) -> Denoised:
        """Denoise ``x`` at level ``sigma``, of shape () or (batch, 1, 1, 1)."""
        ...


@runtime_checkable
class Prompts(Protocol):
    """The prompts that a text-to-image model knows by number."""

    def numbers(self, seeds: Seeds, shape: tuple[int, ...]) -> Condition:
        """Return the number of each seed's prompt; one that is drawn follows the seed's noise of ``shape``."""
        ...

    def digest(self, stream: Stream) -> str:
        """Identify the prompts that the seeds of a stream have."""
        ...

    @property
    def texts(self) -> Sequence[str]:
        """All prompts; a prompt's position is its number."""
        ...


@runtime_checkable
class Decoder(Protocol):
    """Turns latents into images.

    Attributes:
        shape: channels, height, width of an image.
    """

    @property
    def shape(self) -> tuple[int, int, int]: ...

    def __call__(self, latents: Latents) -> Images:
        """Decode each latent by itself, whatever the batch."""
        ...


@dataclass(frozen=True)
class DiffusionModel:
    """A pre-trained model: its denoiser and everything that a user of it must know.

    Attributes:
        denoiser: frozen.
        digest: identifies architecture and weights of all parts; stores, predictors and results carry it.
        shape: channels, height, width of one sample, which is an image or a latent.
        noise_range: the levels between which the model was trained.
        feature_size: length of the bottleneck features.
        num_classes: number of class labels, 0 for an unconditional model.
        last_denoiser: answers the last evaluation of denoise-to-zero, where that is not ``denoiser``.
        prompts: of a text-to-image model. They are no part of ``digest``: a predictor serves all prompts.
        decoder: of a latent model, frozen.
        state_dtype: precision of the states that the denoiser takes.
    """

    denoiser: Denoiser = field(repr=False)
    digest: str
    shape: tuple[int, int, int]
    noise_range: NoiseRange
    feature_size: int
    num_classes: int = 0
    last_denoiser: Denoiser | None = field(default=None, repr=False)
    prompts: Prompts | None = field(default=None, repr=False)
    decoder: Decoder | None = field(default=None, repr=False)
    state_dtype: torch.dtype = torch.float32

    @property
    def is_conditional(self) -> bool:
        """Whether a sample has a label or a prompt."""
        return self.num_classes > 0 or self.prompts is not None

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height, width of a decoded sample."""
        return self.shape if self.decoder is None else self.decoder.shape

    def condition_for(self, seeds: Seeds) -> Condition | None:
        """Return the label or the prompt's number of each seed, or None if the model is unconditional."""
        if self.prompts is not None:
            return self.prompts.numbers(seeds, self.shape)
        return seeds.labels(self.shape, self.num_classes) if self.num_classes else None

    def start_of(self, seeds: Seeds) -> tuple[Images, Condition | None]:
        """Draw each seed's standard normal noise, in float32, and the condition that follows it."""
        if self.num_classes and self.prompts is None:
            return seeds.noise_and_labels(self.shape, self.num_classes)
        return seeds.noise(self.shape), self.condition_for(seeds)

    def texts_of(self, seeds: Seeds) -> list[str]:
        """Return the prompt of each seed; none if the model has no prompts."""
        if self.prompts is None:
            return []
        texts = self.prompts.texts
        return [texts[number] for number in self.prompts.numbers(seeds, self.shape).tolist()]

    def conditions_digest(self, stream: Stream) -> str | None:
        """Identify what the seeds of a stream ask for, or return None if the model is unconditional."""
        if self.prompts is not None:
            return self.prompts.digest(stream)
        return f"{self.num_classes} classes" if self.num_classes else None

    def to(self, device: torch.device) -> "DiffusionModel":
        """Move the weights of every part, in place, and return this model."""
        for part in (self.denoiser, self.last_denoiser, self.decoder):
            if isinstance(part, torch.nn.Module):
                part.to(device)
        return self

    def decode(self, latents: Latents) -> Images:
        """Turn what the sampler returns into images in [-1, 1]; a pixel-space model has nothing to do."""
        return latents if self.decoder is None else self.decoder(latents)
