"""Latent diffusion and Stable Diffusion (Rombach et al. 2022; SDXL, Podell et al. 2023), through the extra diffusers.

The levels between which a model was trained, and the table of the schedule ``discrete``, are those of the scheduler
that comes with the weights.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from amed_lightning.config import InputError, digest
from amed_lightning.denoisers.diffusers_network import LatentDecoder, LatentNetwork, latent_shape
from amed_lightning.denoisers.diffusers_text import TextConditioning
from amed_lightning.denoisers.discrete import DiscreteDenoiser
from amed_lightning.denoisers.guidance import classifier_free
from amed_lightning.denoisers.prompts import Source, prompt_lists
from amed_lightning.flow.model import DiffusionModel
from amed_lightning.noise.schedules import NoiseRange

if TYPE_CHECKING:
    from amed_lightning.denoisers.diffusers_folder import Folder

SUPPORTED = {
    "class_embed_type": (None,),
    "num_class_embeds": (None,),
    "encoder_hid_dim_type": (None,),
    "time_cond_proj_dim": (None,),
    "addition_embed_type": (None, "text_time"),
}
"""What a U-Net may be conditioned on besides time and text; ``text_time`` is SDXL's."""
NEEDED = ("sample_size", "mid_block_type")
"""What a latent's shape and the bottleneck are known by."""


def latent_diffusion(path: str, config: str | None = None) -> DiffusionModel:
    """An unconditional latent model.

    Args:
        path: a folder in diffusers' layout, its id on the hub (``owner/name``), or an original checkpoint.
        config: for a checkpoint, the folder (or hub id) that has the parts' configurations in that layout.
    """
    source = _open(path, config)
    unet = _unet(source, "UNet2DModel")
    if (source.path / "vqvae").is_dir():
        autoencoder = source.module("vqvae", "VQModel")
        scaling = source.config("vqvae/config.json").get("scaling_factor", 1.0)  # LDM scales no quantised latents
    else:
        autoencoder = source.module("vae", "AutoencoderKL")
        scaling = autoencoder.config.scaling_factor
    decoder = LatentDecoder(autoencoder, latent_shape(unet), scaling)
    return _described(source, LatentNetwork(unet), decoder)


def stable_diffusion(
    path: str,
    guidance: float = 7.5,
    prompts: dict[str, Source] | None = None,
    config: str | None = None,
) -> DiffusionModel:
    """A latent model that follows prompts: Stable Diffusion v1, v2 or XL.

    Args:
        path: a folder in diffusers' layout, its id on the hub (``owner/name``), or an original checkpoint.
        guidance: scale of classifier-free guidance, which costs two network runs per evaluation; 1 goes without.
        prompts: ``training`` and ``evaluation``, each a file or a list.
        config: for a checkpoint, the folder (or hub id) that has the parts' configurations in that layout.
    """
    lists = prompt_lists(prompts or {})
    source = _open(path, config)
    unet = _unet(source, "UNet2DConditionModel")
    autoencoder = source.module("vae", "AutoencoderKL")
    decoder = LatentDecoder(autoencoder, latent_shape(unet), autoencoder.config.scaling_factor)
    text = _conditioning(source, unet, lists.texts, (decoder.shape[1], decoder.shape[2]))
    model = replace(_described(source, LatentNetwork(unet, text), decoder), prompts=lists)
    return model if guidance == 1 else classifier_free(model, guidance)


def _open(path: str, config: str | None) -> "Folder":
    """Import what reads the files, which takes seconds, only now."""
    try:
        from amed_lightning.denoisers.diffusers_checkpoint import open_model
    except ImportError as error:
        raise InputError(
            f"{path}: latent models need the extra diffusers ({error}): pip install 'amed-lightning[diffusers]'"
        ) from error
    return open_model(path, config)


def _unet(source: "Folder", class_name: str) -> Any:
    """Load a U-Net that this package knows how to ask."""
    unet = source.module("unet", class_name)
    config = unet.config
    unsupported = [key for key, values in SUPPORTED.items() if config.get(key) not in values]
    unsupported += [key for key in NEEDED if config.get(key) is None]
    described = [f"{key} {config.get(key)}" for key in unsupported]
    if config.in_channels != config.out_channels:
        described.append(f"{config.in_channels} channels in and {config.out_channels} out")
    if described:
        raise InputError(f"{source.path / 'unet'}: a U-Net with {described[0]} is not supported")
    return unet


def _conditioning(source: "Folder", unet: Any, prompts: Sequence[str], image_size: tuple[int, int]) -> TextConditioning:
    """Load one text encoder, or SDXL's two."""
    tokenizers, encoders = [source.tokenizer("tokenizer")], [source.module("text_encoder", "CLIPTextModel")]
    if unet.config.addition_embed_type is None:
        return TextConditioning(tokenizers, encoders, prompts, False, image_size)
    tokenizers.append(source.tokenizer("tokenizer_2"))
    encoders.append(source.module("text_encoder_2", "CLIPTextModelWithProjection"))
    return TextConditioning(tokenizers, encoders, prompts, source.zeros_for_empty_prompt(), image_size)


def _described(source: "Folder", network: LatentNetwork, decoder: LatentDecoder) -> DiffusionModel:
    """Describe a network and its decoder as a model; whatever was read belongs to its digest."""
    log_alphas, prediction = source.noise_table()
    sigma_min, sigma_max = (math.sqrt(math.expm1(-2 * end)) for end in (log_alphas[0], log_alphas[-1]))
    return DiffusionModel(
        DiscreteDenoiser(network, log_alphas, prediction).eval().requires_grad_(False),
        digest(source.read),
        network.shape,
        NoiseRange(sigma_min, sigma_max, log_alphas),
        network.feature_size,
        decoder=decoder.eval().requires_grad_(False),
    )
