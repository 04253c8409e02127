"""From seeds to images, and the only way from there to bytes.

A NaN has no byte, and whatever it is turned into is scored like an image. So each batch is looked at once, states and
decoded images in one reduction: a decoder that looks its latents up in a table makes an image of NaN, too. Where a
number is not finite the batch is run again, step by step, to tell in which interval that began.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from amed_lightning.sampling.finite import NotFiniteError, first_broken, places
from amed_lightning.sampling.sampler import Draw, Sampler, draws
from amed_lightning.seeds import Seeds
from amed_lightning.tensors import Bytes, Images, is_finite, quantise


@dataclass(frozen=True)
class Generated:
    """A batch of images, all finite.

    Attributes:
        images: decoded.
        nfe: network runs that each took.
    """

    images: Images
    nfe: int

    @property
    def pixels(self) -> Bytes:
        """The images as they are scored and saved."""
        return quantise(self.images)


def generate(
    sampler: Sampler, seeds: Seeds, batch_size: int, device: torch.device, classes: Sequence[int] = ()
) -> Iterator[Generated]:
    """Sample and decode each seed, see :func:`~amed_lightning.sampling.sampler.draws` for the arguments.

    Raises:
        NotFiniteError: an image, or the state that it was decoded from, is not finite.
    """
    for draw in draws(sampler, seeds, batch_size, device, classes):
        with torch.inference_mode():
            state = sampler.sample(draw.noise, draw.condition)
            x = state.x[: len(draw.seeds)]
            images = sampler.model.decode(x)
            if not is_finite(x, *([] if images is x else [images])):
                raise NotFiniteError("sample", draw.seeds, *_origin(sampler, draw))
        yield Generated(images, state.nfe)


def _origin(sampler: Sampler, draw: Draw) -> tuple[int, str]:
    """Run a batch again, and return the first row of those that are not finite first, and where that is."""
    names = [*places(sampler.sigmas.tolist()), "denoise-to-zero"]
    x = draw.noise
    for place, state in zip(names, sampler.states(draw.noise, draw.condition), strict=False):
        x = state.x[: len(draw.seeds)]
        if (row := first_broken(x)) is not None:
            return row, place
    if (row := first_broken(sampler.model.decode(x))) is not None:
        return row, "the decoder"
    return 0, "no place that can be told: the same batch, run again, is finite"
