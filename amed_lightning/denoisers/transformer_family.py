"""What a family of transformers is asked, and what it answers."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from amed_lightning.config import InputError
from amed_lightning.denoisers.diffusers_network import LatentDecoder
from amed_lightning.denoisers.preconditioning import Preconditioning
from amed_lightning.denoisers.transformer import Transformer
from amed_lightning.noise.schedules import NoiseRange

if TYPE_CHECKING:
    from amed_lightning.denoisers.diffusers_folder import Folder


@dataclass(frozen=True)
class Asked:
    """What a user asks for.

    Attributes:
        prompts: by number.
        negative: the prompt of the open condition.
        guidance: scale, or None for the published pipeline's.
        resolution: height and width of an image in pixels, or None for the model's own.
    """

    prompts: Sequence[str]
    negative: str
    guidance: float | None
    resolution: int | None

    @property
    def texts(self) -> list[str]:
        """All prompts, the open condition's first."""
        return [self.negative, *self.prompts]

    def scale(self, published: float) -> float:
        """Return the guidance."""
        return published if self.guidance is None else self.guidance

    def side(self, own: int, factor: int, patch: int) -> int:
        """Return the height and width of a latent.

        Args:
            own: the model's.
            factor: pixels per latent pixel.
            patch: height and width of a token.

        Raises:
            InputError: the resolution has no whole tokens.
        """
        if self.resolution is None:
            return own
        if self.resolution < 1 or self.resolution % (factor * patch):
            raise InputError(f"resolution {self.resolution}: this model's images have multiples of {factor * patch}")
        return self.resolution // factor


@dataclass(frozen=True)
class Family:
    """A model of a family.

    Attributes:
        network: the transformer.
        preconditioning: what surrounds it.
        noise_range: its levels.
        decoder: of its latents.
        guidance: scale of classifier-free guidance; 1 goes without.
        num_classes: labels, 0 for a model of prompts.
        clip: images are clipped to [-clip, clip]; None where they are not.
        cut: the numbers of prompts that are too long.
    """

    network: Transformer
    preconditioning: Preconditioning
    noise_range: NoiseRange
    decoder: LatentDecoder
    guidance: float
    num_classes: int = 0
    clip: float | None = None
    cut: set[int] = field(default_factory=set)


def downscaling(source: "Folder", part: str = "vae", key: str = "block_out_channels") -> int:
    """Return how many pixels of an image a pixel of its latent is wide.

    Raises:
        InputError: the autoencoder's file does not say its levels.
    """
    levels = source.config(f"{part}/config.json").get(key)
    if not isinstance(levels, list) or not levels:
        raise InputError(f"{source.path / part / 'config.json'}: {key} is {levels!r}; it lists an autoencoder's levels")
    return int(2 ** (len(levels) - 1))
