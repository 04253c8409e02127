"""Latent diffusion and Stable Diffusion (Rombach et al. 2022; SDXL, Podell et al. 2023), through the extra diffusers.

The levels between which a model was trained, and the table of the schedule ``discrete``, are those of the scheduler
that comes with the weights. Where that clips images, they are clipped under guidance as a whole, as pipelines do.
"""

import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

from packaging.version import Version

from amed_lightning.config import InputError, digest
from amed_lightning.denoisers.diffusers_decoder import read_decoder
from amed_lightning.denoisers.diffusers_network import LatentDecoder, LatentNetwork, latent_shape
from amed_lightning.denoisers.diffusers_text import TextConditioning
from amed_lightning.denoisers.guidance import OPEN_CLASS, Manner, classifier_free, require_unused
from amed_lightning.denoisers.preconditioning import OfTable, Preconditioned
from amed_lightning.denoisers.prompts import PromptLists, PromptSource, prompt_lists
from amed_lightning.denoisers.thresholding import Clipped
from amed_lightning.flow.model import DiffusionModel

if TYPE_CHECKING:
    from amed_lightning.denoisers.diffusers_folder import Folder
    from amed_lightning.denoisers.diffusers_scheduler import Training

_UNCONDITIONAL = ("LDMPipeline",)
_TEXT_TO_IMAGE = ("StableDiffusionPipeline", "StableDiffusionXLPipeline")


def latent_diffusion(path: str, config: str | None = None, variant: str | None = None) -> DiffusionModel:
    """An unconditional latent model.

    Args:
        path: a folder in diffusers' layout, its id on the hub (``owner/name``), or an original checkpoint.
        config: for a checkpoint, the folder (or hub id) that has the parts' configurations in that layout.
        variant: of a folder's weights, such as fp16; a part that lacks it has the plain ones.
    """
    source = _open(path, config, variant, _UNCONDITIONAL)
    training = source.training()
    unet = _unet(source, "UNet2DModel")
    part, class_name = ("vqvae", "VQModel") if (source.path / "vqvae").is_dir() else ("vae", "AutoencoderKL")
    decoder = read_decoder(source, part, class_name, latent_shape(unet))
    return clipped_at(_described(source, training, LatentNetwork(unet), decoder), training.clip)


def stable_diffusion(
    path: str,
    guidance: float = 7.5,
    prompts: dict[str, PromptSource] | None = None,
    config: str | None = None,
    variant: str | None = None,
    negative: str = "",
    interval: tuple[float, float] | None = None,
    rescale: float = 0.0,
) -> DiffusionModel:
    """A latent model that follows prompts: Stable Diffusion v1, v2 or XL.

    Args:
        path: a folder in diffusers' layout, its id on the hub (``owner/name``), or an original checkpoint.
        guidance: scale of classifier-free guidance, which costs two network runs per evaluation; 1 goes without.
        prompts: ``training`` and ``evaluation``, each a file or a list.
        config: for a checkpoint, the folder (or hub id) that has the parts' configurations in that layout.
        variant: of a folder's weights, such as fp16; a part that lacks it has the plain ones.
        negative: the prompt that guidance leads away from.
        interval: of levels sigma outside which the model is not guided, at half the cost.
        rescale: how far an image's deviation becomes that of the unguided one, 0 to 1.
    """
    manner = Manner(interval, rescale)
    if guidance == 1:
        require_unused(manner, negative)
    lists = prompt_lists(prompts or {})
    source = _open(path, config, variant, _TEXT_TO_IMAGE)
    training = source.training()
    unet = _unet(source, "UNet2DConditionModel")
    _require_true_size(source, unet.config.sample_size)
    is_xl = unet.config.addition_embed_type is not None
    decoder = read_decoder(source, "vae", "AutoencoderKL", latent_shape(unet))
    text = _conditioning(source, unet, [negative, *lists.texts], (decoder.shape[1], decoder.shape[2]))
    report_cut(lists, text.cut)
    model = replace(_described(source, training, LatentNetwork(unet, text), decoder), prompts=lists)
    model = model if guidance == 1 else classifier_free(model, guidance, manner, negative)
    return clipped_at(model, training.clip if is_xl else None)  # v1's and v2's pipeline switches clipping off


def _open(path: str, config: str | None, variant: str | None, pipelines: Sequence[str]) -> "Folder":
    """Import what reads the files, which takes seconds, only now."""
    try:
        from amed_lightning.denoisers.diffusers_checkpoint import open_model
    except ImportError as error:
        raise InputError(
            f"{path}: latent models need the extra diffusers ({error}): pip install 'amed-lightning[diffusers]'"
        ) from error
    source = open_model(path, config, variant)
    source.require_pipeline(pipelines)
    return source


def _unet(source: "Folder", class_name: str) -> Any:
    """Load a U-Net of which the latents' shape is known."""
    unet, path = source.module("unet", class_name), source.path / "unet" / "config.json"
    if unet.config.sample_size is None:
        raise InputError(f"{path}: sample_size is null; write the height and width of the latents")
    if unet.config.in_channels != unet.config.out_channels:
        channels = f"in_channels is {unet.config.in_channels} and out_channels {unet.config.out_channels}"
        raise InputError(f"{path}: {channels}: the network is given more than latents (inpainting) or says more")
    return unet


def _require_true_size(source: "Folder", size: int | Sequence[int]) -> None:
    """Refuse a size that Stable Diffusion's pipeline corrects."""
    version = source.config("unet/config.json").get("_diffusers_version")
    if isinstance(size, int) and size < 64 and version and Version(version) < Version("0.9.0.dev0"):
        path = source.path / "unet" / "config.json"
        raise InputError(f"{path}: sample_size is {size}, as diffusers {version} wrote it for models of 64; write 64")


def _conditioning(source: "Folder", unet: Any, texts: Sequence[str], image_size: tuple[int, int]) -> TextConditioning:
    """Load one text encoder, or SDXL's two; the first text is the open condition's."""
    tokenizers, encoders = [source.tokenizer("tokenizer")], [source.module("text_encoder", "CLIPTextModel")]
    zeros = False
    if unet.config.addition_embed_type is not None:
        tokenizers.append(source.tokenizer("tokenizer_2"))
        encoders.append(source.module("text_encoder_2", "CLIPTextModelWithProjection"))
        zeros = source.zeros_for_empty_prompt() and not texts[0]
    width = sum(encoder.config.hidden_size for encoder in encoders)
    if unet.config.cross_attention_dim != width:
        attended = f"cross_attention_dim is {unet.config.cross_attention_dim}"
        raise InputError(f"{source.path / 'unet' / 'config.json'}: {attended}, and the text encoders give {width}")
    return TextConditioning(tokenizers, encoders, texts, zeros, image_size, digest(source.read))


def report_cut(lists: PromptLists, cut: set[int]) -> None:
    """Say of each list how many prompts are too long, and whether the negative one is."""
    if OPEN_CLASS in cut:
        _warn("negative: the prompt has more tokens than the text encoder takes, and is cut off")
    first = 0
    for kind, prompts in (("training", lists.training), ("evaluation", lists.evaluation)):
        numbers = [number for number in range(first, first + len(prompts)) if number in cut]
        first += len(prompts)
        if numbers:
            _warn(
                f"prompts: {len(numbers)} of {len(prompts)} {kind} prompts have more tokens than the text encoder "
                f"takes, and are cut off; the first is '{lists.texts[numbers[0]]:.80}'"
            )


@cache
def _warn(line: str) -> None:
    """Print a line once."""
    print(f"warning: {line}", file=sys.stderr)


def _described(
    source: "Folder", training: "Training", network: LatentNetwork, decoder: LatentDecoder
) -> DiffusionModel:
    """Describe a network and its decoder as a model; whatever was read belongs to its digest."""
    around = OfTable(table=training.log_alphas, prediction=training.prediction)
    return DiffusionModel(
        Preconditioned(network, around).eval().requires_grad_(False),
        digest(source.read),
        network.shape,
        around.noise_range,
        network.feature_size,
        decoder=decoder.eval().requires_grad_(False),
    )


def clipped_at(model: DiffusionModel, bound: float | None) -> DiffusionModel:
    """Clip a model's answers to [-bound, bound]; None leaves them."""
    if bound is None:
        return model
    return replace(model, denoiser=Clipped(model.denoiser, bound), digest=digest([model.digest, "clipped", bound]))
