"""PixArt-alpha and -sigma (Chen et al. 2023, 2024): the noise by a transformer that attends to T5's tokens, masked.

Prompts are in small letters, as in the published pipelines. A model that was trained on many sizes is told that of the
image and its aspect ratio. The variance that it predicts too is unused.
"""

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from jaxtyping import Float
from torch import Tensor

from amed_lightning.config import digest
from amed_lightning.denoisers.diffusers_decoder import read_decoder
from amed_lightning.denoisers.encoded_prompts import Encoded, EncodedPrompts, text_encoder
from amed_lightning.denoisers.preconditioning import OfTable
from amed_lightning.denoisers.transformer import Ask, Told, Transformer, middle_of
from amed_lightning.denoisers.transformer_family import Asked, Family, downscaling
from amed_lightning.denoisers.unet import Outputs
from amed_lightning.tensors import Images

if TYPE_CHECKING:
    from amed_lightning.denoisers.diffusers_folder import Folder

GUIDANCE = 4.5


def read(source: "Folder", asked: Asked, length: int) -> Family:
    """Read a folder.

    Args:
        source: the folder.
        asked: what a user asks for.
        length: of a prompt in tokens.
    """
    training = source.training()
    network = source.module("transformer", "PixArtTransformer2DModel")
    config, factor = network.config, downscaling(source)
    side = asked.side(config.sample_size, factor, config.patch_size)
    shape = (config.in_channels, side, side)
    around = OfTable(table=training.log_alphas, prediction=training.prediction)
    texts = [text.lower().strip() for text in asked.texts]
    t5 = text_encoder(
        source.tokenizer("tokenizer", "T5Tokenizer"),
        source.module("text_encoder", "T5EncoderModel"),
        texts,
        length,
        masked=True,
    )
    conditioning = EncodedPrompts([t5], _answer, texts, digest(["pixart", length, source.read]))
    pixels = float(side * factor) if network.use_additional_conditions else None
    middle = middle_of(network, "transformer_blocks")
    return Family(
        Transformer(network, shape, config.patch_size, middle, asking(pixels), conditioning),
        around,
        around.noise_range,
        read_decoder(source, "vae", "AutoencoderKL", shape),
        asked.scale(GUIDANCE),
        clip=training.clip,
        cut=conditioning.cut,
    )


alpha, sigma = partial(read, length=120), partial(read, length=300)
"""By the length of a prompt in the published pipelines."""


def asking(pixels: float | None) -> Ask:
    """Return how the transformer is called that is told the height and width of an image, or nothing of it."""

    def ask(transformer: Any, x: Images, time: Float[Tensor, "batch"], told: Told) -> Outputs:
        tokens, mask = told
        size = None if pixels is None else x.new_full((len(x), 2), pixels)
        output: Outputs = transformer(
            x,
            encoder_hidden_states=tokens,
            encoder_attention_mask=mask,
            timestep=time,
            added_cond_kwargs={"resolution": size, "aspect_ratio": None if size is None else x.new_ones(len(x), 1)},
            return_dict=False,
        )[0]
        return output

    return ask


def _answer(said: Sequence[Encoded]) -> tuple[Tensor, ...]:
    (t5,) = said
    return t5.said.last_hidden_state, t5.mask
