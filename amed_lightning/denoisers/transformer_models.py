"""Transformers in diffusers' layout, by the pipeline that a folder names: each family is one entry of ``FAMILIES``.

Weights and states: a model of p parameters takes 2 p bytes where its folder has half precision, and 4 p else. Text
encoders stay beside the network, unless all prompts are encoded when it is made.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

from amed_lightning.config import InputError, digest
from amed_lightning.denoisers import (
    transformer_dit,
    transformer_flux,
    transformer_pixart,
    transformer_sana,
    transformer_sd3,
)
from amed_lightning.denoisers.diffusers_keys import TRANSFORMER_PIPELINE
from amed_lightning.denoisers.diffusers_models import clipped_at, report_cut
from amed_lightning.denoisers.encoded_prompts import EncodedPrompts
from amed_lightning.denoisers.guidance import Manner, classifier_free, require_unused
from amed_lightning.denoisers.preconditioning import Preconditioned
from amed_lightning.denoisers.prompts import PromptSource, prompt_lists
from amed_lightning.denoisers.transformer import Conditioning
from amed_lightning.denoisers.transformer_family import Asked, Family
from amed_lightning.flow.model import DiffusionModel

if TYPE_CHECKING:
    from amed_lightning.denoisers.diffusers_folder import Folder

FAMILIES: dict[str, Callable[["Folder", Asked], Family]] = {
    "StableDiffusion3Pipeline": transformer_sd3.read,
    "FluxPipeline": transformer_flux.read,
    "DiTPipeline": transformer_dit.read,
    "PixArtAlphaPipeline": transformer_pixart.alpha,
    "PixArtSigmaPipeline": transformer_pixart.sigma,
    "SanaPipeline": transformer_sana.read,
}
"""By the name of the pipeline: what reads it."""


def transformer(
    path: str,
    guidance: float | None = None,
    prompts: dict[str, PromptSource] | None = None,
    negative: str = "",
    resolution: int | None = None,
    interval: tuple[float, float] | None = None,
    rescale: float = 0.0,
    variant: str | None = None,
    free_encoders: bool = False,
    tiling: bool = False,
    offload: bool = False,
) -> DiffusionModel:
    """A diffusion transformer: Stable Diffusion 3 and 3.5, FLUX.1, DiT, PixArt or SANA.

    Args:
        path: a folder in diffusers' layout, or its id on the hub (``owner/name``).
        guidance: of the published pipeline where nothing is said. It costs two network runs per evaluation, and 1 goes
            without; where a model was distilled to be told it (FLUX), one run.
        prompts: ``training`` and ``evaluation``, each a file or a list.
        negative: what guidance leads away from; the empty prompt where nothing is said.
        resolution: height and width of the images; the model's own where nothing is said.
        interval: of levels sigma outside which the model is not guided, at half the cost.
        rescale: how far an image's deviation becomes that of the unguided one, 0 to 1.
        variant: of a folder's weights, such as fp16; a part that lacks it has the plain ones.
        free_encoders: encode all prompts when the model is made, on the processor, and keep no text encoder; each takes
            some 2 to 4 MB then.
        tiling: decode a large latent in tiles that overlap, as diffusers does it: less memory, slightly other images.
        offload: keep the transformer's weights in the machine's memory, whatever the device; each layer's are copied
            there for as long as it computes, at every network run.
    """
    manner = Manner(interval, rescale)
    lists = prompt_lists(prompts or {})
    source = _open(path, variant)
    source.require_pipeline(tuple(FAMILIES), TRANSFORMER_PIPELINE)
    name = source.config("model_index.json")["_class_name"]
    family = FAMILIES[name](source, Asked(lists.texts, negative, guidance, resolution))
    report_cut(lists, family.cut)
    read = dict(source.read)
    if free_encoders:
        family.network.conditioning = _encoded(source, family.network.conditioning)
        read["free_encoders"] = digest(free_encoders)  # their precision is the folder's, whatever is asked for later
    if tiling:
        family.decoder.autoencoder.enable_tiling()
        read["tiling"] = digest(tiling)
    if offload:
        family.network.transformer = _offloaded(path, family.network.transformer)
    model = DiffusionModel(
        Preconditioned(family.network, family.preconditioning).eval().requires_grad_(False),
        digest([name, family.network.shape, read]),
        family.network.shape,
        family.noise_range,
        family.network.feature_size,
        family.num_classes,
        prompts=None if family.num_classes else lists,
        decoder=family.decoder.eval().requires_grad_(False),
    )
    if family.guidance != 1:
        model = classifier_free(model, family.guidance, manner, negative)
    else:
        require_unused(manner, negative)
    return clipped_at(model, family.clip)


def _encoded(source: "Folder", conditioning: Conditioning) -> Conditioning:
    """Encode all prompts of a model."""
    if not isinstance(conditioning, EncodedPrompts):
        raise InputError(f"{source.path}: it has no text encoders; leave `free_encoders` out")
    return conditioning.encoded()


def _offloaded(path: str, network: nn.Module) -> nn.Module:
    """Leave a network's weights in the machine's memory.

    Raises:
        InputError: accelerate is missing.
    """
    try:
        from amed_lightning.denoisers.offloaded import Offloaded
    except ImportError as error:
        needed = f"{path}: `offload` needs the extra diffusers ({error})"
        raise InputError(f"{needed}: pip install 'amed-lightning[diffusers]'") from error
    return Offloaded(network)


def _open(path: str, variant: str | None) -> "Folder":
    """Import what reads the files, which takes seconds, only now."""
    try:
        from amed_lightning.denoisers.diffusers_files import find_folder
        from amed_lightning.denoisers.diffusers_folder import Folder
    except ImportError as error:
        raise InputError(
            f"{path}: transformers need the extra diffusers ({error}): pip install 'amed-lightning[diffusers]'"
        ) from error
    if Path(path).is_file():
        raise InputError(f"{path}: a single file; a transformer is read from a folder in diffusers' layout")
    source = Folder(find_folder(path, weights=True, variant=variant), variant, as_stored=True)
    source.config("model_index.json")
    return source
