"""Stable Diffusion 3 and 3.5 (Esser et al. 2024): a flow that attends to three text encoders.

It attends to the tokens of both CLIPs before their last layer, side by side and filled up with zeros, and behind them
to those of T5, or as many zeros where a folder leaves T5 out; it is told both CLIPs' pooled answers.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from amed_lightning.config import digest
from amed_lightning.denoisers.diffusers_decoder import read_decoder
from amed_lightning.denoisers.diffusers_flow import read_flow
from amed_lightning.denoisers.encoded_prompts import Encoded, EncodedPrompts, text_encoder
from amed_lightning.denoisers.preconditioning import FlowMatching
from amed_lightning.denoisers.transformer import Told, Transformer, middle_of
from amed_lightning.denoisers.transformer_family import Asked, Family, downscaling
from amed_lightning.denoisers.unet import Outputs
from amed_lightning.tensors import Images

if TYPE_CHECKING:
    from amed_lightning.denoisers.diffusers_folder import Folder

T5_LENGTH = 256
GUIDANCE = 7.0


def read(source: "Folder", asked: Asked) -> Family:
    """Read a folder."""
    network = source.module("transformer", "SD3Transformer2DModel")
    config = network.config
    side = asked.side(config.sample_size, downscaling(source), config.patch_size)
    shape = (config.in_channels, side, side)
    noise_range = read_flow(source, (side // config.patch_size) ** 2)
    conditioning = _prompts(source, asked.texts, config.joint_attention_dim)
    middle = middle_of(network, "transformer_blocks")
    return Family(
        Transformer(network, shape, config.patch_size, middle, ask, conditioning),
        FlowMatching(),
        noise_range,
        read_decoder(source, "vae", "AutoencoderKL", shape),
        asked.scale(GUIDANCE),
        cut=conditioning.cut,
    )


def ask(transformer: Any, x: Images, time: Float[Tensor, "batch"], told: Told) -> Outputs:
    """Call the transformer."""
    tokens, pooled = told
    output: Outputs = transformer(x, tokens, pooled, time, return_dict=False)[0]
    return output


def _prompts(source: "Folder", texts: Sequence[str], width: int) -> EncodedPrompts:
    encoders = []
    for suffix in ("", "_2"):
        tokenizer = source.tokenizer(f"tokenizer{suffix}")
        clip = source.module(f"text_encoder{suffix}", "CLIPTextModelWithProjection")
        encoders.append(text_encoder(tokenizer, clip, texts, tokenizer.model_max_length))
    if (source.path / "text_encoder_3").is_dir():
        tokenizer = source.tokenizer("tokenizer_3", "T5Tokenizer")
        encoders.append(text_encoder(tokenizer, source.module("text_encoder_3", "T5EncoderModel"), texts, T5_LENGTH))

    def answer(said: Sequence[Encoded]) -> tuple[Tensor, ...]:
        first, second, *t5 = (each.said for each in said)
        clips = torch.cat([first.hidden_states[-2], second.hidden_states[-2]], -1)
        clips = F.pad(clips, (0, width - clips.shape[-1]))
        last = t5[0].last_hidden_state if t5 else clips.new_zeros(1, T5_LENGTH, width)
        return torch.cat([clips, last.to(clips.dtype)], 1), torch.cat([first.text_embeds, second.text_embeds], -1)

    return EncodedPrompts(encoders, answer, texts, digest(["sd3", width, source.read]))
