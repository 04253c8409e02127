"""SANA (Xie et al. 2024): a flow with linear attention on deeply compressed latents, told Gemma's tokens, masked.

Prompts are in small letters, and stand behind the instruction of the published pipeline, of whose tokens only the first
is kept; the open condition's prompt stands alone.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from jaxtyping import Float
from torch import Tensor

from amed_lightning.config import InputError, digest
from amed_lightning.denoisers.diffusers_decoder import read_decoder
from amed_lightning.denoisers.diffusers_flow import read_flow
from amed_lightning.denoisers.encoded_prompts import Encoded, EncodedPrompts, TextEncoder, tokens_of
from amed_lightning.denoisers.preconditioning import FlowMatching
from amed_lightning.denoisers.transformer import Told, Transformer, middle_of
from amed_lightning.denoisers.transformer_family import Asked, Family, downscaling
from amed_lightning.denoisers.unet import Outputs
from amed_lightning.tensors import Images

if TYPE_CHECKING:
    from amed_lightning.denoisers.diffusers_folder import Folder

LENGTH = 300
GUIDANCE = 4.5


def read(source: "Folder", asked: Asked) -> Family:
    """Read a folder.

    Raises:
        InputError: a model that was distilled to be told its guidance (SANA-Sprint).
    """
    network = source.module("transformer", "SanaTransformer2DModel")
    config, path = network.config, source.path / "transformer" / "config.json"
    if config.guidance_embeds:
        raise InputError(f"{path}: guidance_embeds is true: the model was distilled already; use SANA itself")
    factor = downscaling(source, key="encoder_block_out_channels")
    side = asked.side(config.sample_size, factor, config.patch_size)
    shape = (config.in_channels, side, side)
    noise_range = read_flow(source, (side // config.patch_size) ** 2)
    conditioning = _prompts(source, [text.lower().strip() for text in asked.texts])
    middle = middle_of(network, "transformer_blocks")
    return Family(
        Transformer(network, shape, config.patch_size, middle, ask, conditioning),
        FlowMatching(),
        noise_range,
        read_decoder(source, "vae", "AutoencoderDC", shape),
        asked.scale(GUIDANCE),
        cut=conditioning.cut,
    )


def ask(transformer: Any, x: Images, time: Float[Tensor, "batch"], told: Told) -> Outputs:
    """Call the transformer."""
    tokens, mask = told
    output: Outputs = transformer(
        x,
        encoder_hidden_states=tokens.to(x.dtype),
        encoder_attention_mask=mask,
        timestep=time * transformer.config.timestep_scale,
        return_dict=False,
    )[0]
    return output


def _prompts(source: "Folder", texts: Sequence[str]) -> EncodedPrompts:
    tokenizer = source.tokenizer("tokenizer", "GemmaTokenizer")
    tokenizer.padding_side = "right"
    instruction = "\n".join(source.published("SanaPipeline", "complex_human_instruction"))
    source.read["instruction"] = digest(instruction)
    longer = len(tokenizer.encode(instruction)) + LENGTH - 2
    opened, others = texts[0], [instruction + text for text in texts[1:]]
    prompts = tokens_of(tokenizer, others, longer) if others else None
    gemma = source.module("text_encoder", "Gemma2Model")
    encoder = TextEncoder(gemma, tokens_of(tokenizer, [opened], LENGTH), prompts, masked=True)
    return EncodedPrompts([encoder], _answer, texts, digest(["sana", source.read]))


def _answer(said: Sequence[Encoded]) -> tuple[Tensor, ...]:
    (gemma,) = said
    kept = [0, *range(1 - LENGTH, 0)]
    return gemma.said.last_hidden_state[:, kept], gemma.mask[:, kept]
