"""Published models under the names of their families, from a published file or what ``convert`` made of it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from amed_lightning.config import InputError, Spec, digest
from amed_lightning.denoisers.diffusers_network import LatentDecoder
from amed_lightning.denoisers.files import StoredModel
from amed_lightning.denoisers.guidance import classifier_guided
from amed_lightning.denoisers.openai import told
from amed_lightning.denoisers.published import read_published
from amed_lightning.denoisers.thresholding import clipped
from amed_lightning.denoisers.untold import TRAINING, AttentionOrder, Untold
from amed_lightning.flow.model import DiffusionModel

FAMILIES = {
    "edm": "edm",
    "cm": "consistency",
    "vp": "guided_diffusion",
    "vp_discrete": "guided_diffusion",
    "edm_vp": "edm",
    "edm_ve": "edm",
    "edm_iddpm": "edm",
    "edm2": "edm2",
}
"""The name that takes models of each preconditioning."""
LATENT_MEAN, LATENT_STD, LATENT_SCALING = (5.81, 3.25, 0.12, -2.15), (4.17, 4.62, 3.71, 3.28), 0.5
"""Of the autoencoder's own latents as EDM2 has them, and the deviation that its network's have."""


def edm(path: str) -> DiffusionModel:
    """One of EDM's networks.

    Args:
        path: of its ``.pkl``, or of the ``.json`` that ``convert`` made of it.
    """
    return of_family("edm", read_published(Path(path))).model()


def edm2(path: str, autoencoder: str | None = None) -> DiffusionModel:
    """One of EDM2's networks, of pixels or of latents.

    Args:
        path: of its ``.pkl``, or of the ``.json`` that ``convert`` made of it.
        autoencoder: of a network of latents: the folder of an ``AutoencoderKL`` in diffusers' layout. EDM2's is
            ``stabilityai/sd-vae-ft-mse``.
    """
    model = of_family("edm2", read_published(Path(path))).model()
    if (autoencoder is not None) != (model.shape[0] == len(LATENT_MEAN)):
        missing = (
            "is of latents; give it its `autoencoder`"
            if autoencoder is None
            else "is of pixels; leave `autoencoder` out"
        )
        raise InputError(f"{path}: the network of {model.shape[0]} channels {missing}")
    return model if autoencoder is None else _decoded(model, Path(autoencoder))


def _decoded(model: DiffusionModel, folder: Path) -> DiffusionModel:
    """Give a model of EDM2's latents their decoder; what reads it takes seconds to import."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; an autoencoder is one, with config.json and weights in it")
    try:
        from amed_lightning.denoisers.diffusers_folder import Folder
    except ImportError as error:
        raise InputError(f"{folder}: an autoencoder needs the extra diffusers ({error})") from error
    source, part = Folder(folder.resolve().parent), folder.resolve().name
    autoencoder = source.module(part, "AutoencoderKL")
    if autoencoder.config.latent_channels != model.shape[0]:
        raise InputError(f"{folder}: latents of {autoencoder.config.latent_channels} channels, and the network has 4")
    return replace(
        model,
        decoder=LatentDecoder(autoencoder, model.shape, LATENT_SCALING, LATENT_MEAN, LATENT_STD).eval(),
        digest=digest([model.digest, source.read[part]]),
    )


def consistency(
    path: str,
    img_resolution: int | None = None,
    head_channels: int | None = None,
    num_heads: int | None = None,
    attention_order: AttentionOrder | None = None,
) -> DiffusionModel:
    """EDM's network among the consistency models.

    Args:
        path: of its ``.pt``, or of the ``.json`` that ``convert`` made of it.
        img_resolution: height and width of a ``.pt``'s images.
        head_channels: of each head of a ``.pt``'s attention; 64 in the published ones.
        num_heads: of a ``.pt``'s attention, the same in every block, in place of ``head_channels``.
        attention_order: of a ``.pt``'s channels before attention.
    """
    untold = Untold(img_resolution, head_channels, num_heads, attention_order)
    return of_family("consistency", read_published(Path(path), untold)).model()


def guided_diffusion(
    path: str,
    classifier: str | Spec | None = None,
    scale: float = 1.0,
    **untold: Any,
) -> DiffusionModel:
    """ADM of guided- or improved-diffusion, whose answers are clipped to [-1, 1], with or without classifier guidance.

    Args:
        path: of the network's ``.pt``, or of the ``.json`` that ``convert`` made of it.
        classifier: path of the classifier's, or a mapping of ``path`` and what it does not tell. Unless it says so, its
            resolution and training are the network's, and its ``head_channels`` those said of the network.
        scale: weight of the classifier's gradient.
        untold: what a ``.pt`` does not tell.
    """
    said = Untold(**untold)
    stored = of_family("guided_diffusion", read_published(Path(path), said))
    model = stored.model()
    if classifier is not None:
        judge = _judge(classifier, stored, said)
        model = classifier_guided(model, judge.classifier(), judge.card.network["num_classes"], judge.digest, scale)
    return clipped(model)


def _judge(classifier: str | Spec, beside: StoredModel, said: Untold) -> StoredModel:
    """Read the classifier beside a network.

    Args:
        classifier: its path, or path and options.
        beside: the network.
        said: of the network.

    Raises:
        InputError: no such classifier, or one of other images or of another training.
    """
    options = {"path": classifier} if isinstance(classifier, str) else dict(classifier)
    path = options.pop("path", None)
    if not isinstance(path, str):
        raise InputError(f"classifier {classifier}: expected a path, or a mapping with 'path' and its options")
    alike = {name: told(beside.card).get(name) for name in ("img_resolution", *TRAINING)}
    judge = read_published(Path(path), Untold(**options), Untold(**alike, head_channels=said.head_channels))
    if any(judge.card.network[name] != beside.card.network[name] for name in ("img_resolution", "img_channels")):
        raise InputError(f"{path}: a classifier of images of another shape than {beside.source}'s")
    noise, own = ((card.preconditioning, card.preconditioning_options) for card in (beside.card, judge.card))
    if noise != own:
        raise InputError(f"{path}: a classifier that was trained on other noise than {beside.source}")
    return judge


def of_family(family: str, stored: StoredModel) -> StoredModel:
    """Return a model of one family.

    Args:
        family: a value of ``FAMILIES``.
        stored: the model.

    Raises:
        InputError: it is of another, and so under another name.
    """
    own = FAMILIES[stored.card.preconditioning]
    if own != family:
        raise InputError(f"{stored.source}: name it as '{own}'")
    return stored
