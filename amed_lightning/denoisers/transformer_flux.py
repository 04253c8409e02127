"""FLUX.1: a flow whose tokens are 2x2 pixels of the latent, attending to T5 and told CLIP's pooled answer.

FLUX.1-dev is told the scale of guidance, to which it was distilled, as a number (Meng et al. 2023): one network run per
evaluation. FLUX.1-schnell is told none. The time that it is told is rounded to the precision of its weights, as in the
published pipeline.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from amed_lightning.config import InputError, digest
from amed_lightning.denoisers.diffusers_decoder import read_decoder
from amed_lightning.denoisers.diffusers_flow import read_flow
from amed_lightning.denoisers.encoded_prompts import Encoded, EncodedPrompts, text_encoder
from amed_lightning.denoisers.preconditioning import FLOW_STEPS, FlowMatching
from amed_lightning.denoisers.transformer import Ask, Told, Transformer, middle_of
from amed_lightning.denoisers.transformer_family import Asked, Family, downscaling
from amed_lightning.tensors import Images

if TYPE_CHECKING:
    from amed_lightning.denoisers.diffusers_folder import Folder

T5_LENGTH = 512
GUIDANCE = 3.5
SIDE = 128
"""Of a latent: the file does not say it, and the published pipeline makes images of 1024."""
_PATCH = 2


def read(source: "Folder", asked: Asked) -> Family:
    """Read a folder.

    Raises:
        InputError: a negative prompt, or a guidance that the model is not told.
    """
    network = source.module("transformer", "FluxTransformer2DModel")
    config, path = network.config, source.path / "transformer" / "config.json"
    if asked.negative:
        raise InputError(f"{source.path}: FLUX is guided without a negative prompt; leave `negative` out")
    if not config.guidance_embeds and asked.guidance is not None:
        raise InputError(f"{path}: guidance_embeds is false: this model is told no guidance; leave `guidance` out")
    if config.in_channels != (config.out_channels or config.in_channels):
        raise InputError(f"{path}: in_channels is {config.in_channels}: the network is given more than latents")
    side = asked.side(SIDE, downscaling(source), _PATCH)
    shape = (config.in_channels // _PATCH**2, side, side)
    noise_range = read_flow(source, (side // _PATCH) ** 2)
    conditioning = _prompts(source, asked.texts)
    scale = asked.scale(GUIDANCE) if config.guidance_embeds else None
    source.read["guidance"] = digest(scale)
    middle = middle_of(network, "transformer_blocks", "single_transformer_blocks")
    return Family(
        Transformer(network, shape, _PATCH, middle, asking(scale), conditioning),
        FlowMatching(),
        noise_range,
        read_decoder(source, "vae", "AutoencoderKL", shape),
        1.0,
        cut=conditioning.cut,
    )


def asking(scale: float | None) -> Ask:
    """Return how the transformer is called with a scale of guidance."""

    def ask(transformer: Any, x: Images, time: Float[Tensor, "batch"], told: Told) -> Images:
        tokens, pooled = told
        batch, channels, height, width = x.shape
        patches = x.reshape(batch, channels, height // _PATCH, _PATCH, width // _PATCH, _PATCH)
        output = transformer(
            patches.permute(0, 2, 4, 1, 3, 5).reshape(batch, -1, channels * _PATCH**2),
            encoder_hidden_states=tokens,
            pooled_projections=pooled,
            timestep=time.to(x.dtype) / FLOW_STEPS,
            img_ids=_places(height // _PATCH, width // _PATCH, x),
            txt_ids=x.new_zeros(tokens.shape[1], 3),
            guidance=None if scale is None else torch.full_like(time, scale),
            return_dict=False,
        )[0]
        patches = output.reshape(batch, height // _PATCH, width // _PATCH, channels, _PATCH, _PATCH)
        return patches.permute(0, 3, 1, 4, 2, 5).reshape(x.shape)

    return ask


def _places(rows: int, columns: int, like: Tensor) -> Float[Tensor, "tokens 3"]:
    """Return a zero, the row and the column of each token."""
    row, column = torch.meshgrid(
        torch.arange(rows, device=like.device), torch.arange(columns, device=like.device), indexing="ij"
    )
    return torch.stack([torch.zeros_like(row), row, column], -1).reshape(-1, 3).to(like.dtype)


def _prompts(source: "Folder", texts: Sequence[str]) -> EncodedPrompts:
    tokenizer = source.tokenizer("tokenizer")
    clip = text_encoder(tokenizer, source.module("text_encoder", "CLIPTextModel"), texts, tokenizer.model_max_length)
    other = source.tokenizer("tokenizer_2", "T5Tokenizer")
    t5 = text_encoder(other, source.module("text_encoder_2", "T5EncoderModel"), texts, T5_LENGTH)
    return EncodedPrompts([clip, t5], _answer, texts, digest(["flux", source.read]))


def _answer(said: Sequence[Encoded]) -> tuple[Tensor, ...]:
    clip, t5 = (each.said for each in said)
    return t5.last_hidden_state, clip.pooler_output
