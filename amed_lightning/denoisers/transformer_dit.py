"""DiT (Peebles and Xie 2023): a class-conditional transformer that predicts the noise, and a variance that is unused.

Its label after the last is that of no class.
"""

from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from amed_lightning.config import InputError
from amed_lightning.denoisers.diffusers_decoder import read_decoder
from amed_lightning.denoisers.preconditioning import OfTable
from amed_lightning.denoisers.transformer import Transformer, middle_of
from amed_lightning.denoisers.transformer_family import Asked, Family
from amed_lightning.denoisers.unet import Outputs
from amed_lightning.flow.model import Condition
from amed_lightning.tensors import Images

if TYPE_CHECKING:
    from amed_lightning.denoisers.diffusers_folder import Folder

GUIDANCE = 4.0


def read(source: "Folder", asked: Asked) -> Family:
    """Read a folder.

    Raises:
        InputError: prompts, which it has no encoder for, or another size than its own.
    """
    if asked.prompts or asked.negative or asked.resolution is not None:
        raise InputError(f"{source.path}: DiT has labels and one size; leave `prompts`, `negative`, `resolution` out")
    training = source.training()
    network = source.module("transformer", "DiTTransformer2DModel")
    config = network.config
    shape = (config.in_channels, config.sample_size, config.sample_size)
    around = OfTable(table=training.log_alphas, prediction=training.prediction)
    middle = middle_of(network, "transformer_blocks")
    return Family(
        Transformer(network, shape, config.patch_size, middle, ask, _labels),
        around,
        around.noise_range,
        read_decoder(source, "vae", "AutoencoderKL", shape),
        asked.scale(GUIDANCE),
        num_classes=config.num_embeds_ada_norm,
        clip=training.clip,
    )


def ask(transformer: Any, x: Images, time: Float[Tensor, "batch"], told: Condition | None) -> Outputs:
    """Call the transformer."""
    none = transformer.config.num_embeds_ada_norm
    opened = torch.full(x.shape[:1], none, device=x.device)
    labels = opened if told is None else torch.where(told < 0, none, told)
    output: Outputs = transformer(x, timestep=time, class_labels=labels, return_dict=False)[0]
    return output


def _labels(condition: Condition | None, batch: int) -> Condition | None:
    return condition
