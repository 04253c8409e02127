"""Published models under the names of their families, from a published file or what ``convert`` made of it."""

from pathlib import Path

from amed_lightning.config import InputError
from amed_lightning.denoisers.files import StoredModel
from amed_lightning.denoisers.guidance import classifier_guided
from amed_lightning.denoisers.published import read_published
from amed_lightning.denoisers.thresholding import clipped
from amed_lightning.flow.model import DiffusionModel

FAMILIES = {"edm": "edm", "cm": "consistency", "vp": "guided_diffusion"}
"""The name that takes models of each preconditioning."""


def edm(path: str) -> DiffusionModel:
    """One of EDM's networks.

    Args:
        path: of its ``.pkl``, or of the ``.json`` that ``convert`` made of it.
    """
    return of_family("edm", read_published(Path(path))).model()


def consistency(
    path: str,
    img_resolution: int = 256,
    head_channels: int = 64,
) -> DiffusionModel:
    """EDM's network among the consistency models.

    Args:
        path: of its ``.pt``, or of the ``.json`` that ``convert`` made of it.
        img_resolution: height and width of a ``.pt``'s images.
        head_channels: of each head of a ``.pt``'s attention.
    """
    stored = read_published(Path(path), img_resolution, head_channels)
    return of_family("cm", stored).model()


def guided_diffusion(
    path: str,
    classifier: str | None = None,
    scale: float = 1.0,
    img_resolution: int = 256,
    head_channels: int = 64,
) -> DiffusionModel:
    """ADM of guided-diffusion, whose answers are clipped to [-1, 1], with or without classifier guidance.

    Args:
        path: of the network's ``.pt``, or of the ``.json`` that ``convert`` made of it.
        classifier: path of the classifier's.
        scale: weight of the classifier's gradient.
        img_resolution: height and width of a ``.pt``'s images.
        head_channels: of each head of a ``.pt``'s attention.
    """
    stored = of_family("vp", read_published(Path(path), img_resolution, head_channels))
    model = stored.model()
    if classifier is not None:
        judge = read_published(Path(classifier), img_resolution, head_channels)
        if any(judge.card.network[name] != stored.card.network[name] for name in ("img_resolution", "img_channels")):
            raise InputError(f"{classifier}: a classifier of images of another shape than {path}'s")
        model = classifier_guided(model, judge.classifier(), judge.card.network["num_classes"], judge.digest, scale)
    return clipped(model)


def of_family(preconditioning: str, stored: StoredModel) -> StoredModel:
    """Return a model of one preconditioning.

    Args:
        preconditioning: a key of ``FAMILIES``.
        stored: the model.

    Raises:
        InputError: it is of another, and so under another name.
    """
    if stored.card.preconditioning != preconditioning:
        raise InputError(f"{stored.source}: name it as '{FAMILIES[stored.card.preconditioning]}'")
    return stored
