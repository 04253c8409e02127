"""The models that configurations call by name."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from torch import nn

from amed_lightning.config import InputError, Spec, build, complete, registered
from amed_lightning.denoisers.diffusers_models import latent_diffusion, stable_diffusion
from amed_lightning.denoisers.families import consistency, edm, edm2, guided_diffusion, of_family
from amed_lightning.denoisers.files import load_model, read_model, without_labels
from amed_lightning.denoisers.gaussian import anisotropic_gaussian
from amed_lightning.denoisers.guidance import Manner, auto_guided, classifier_free
from amed_lightning.denoisers.pooling import pooled
from amed_lightning.denoisers.thresholding import thresholded
from amed_lightning.denoisers.transformer_models import transformer
from amed_lightning.denoisers.zoo.card import Card, load_card, named
from amed_lightning.denoisers.zoo.local import local_model
from amed_lightning.denoisers.zoo.outline import outlined, require_facts
from amed_lightning.flow.model import DiffusionModel
from amed_lightning.tensors import not_finite

ASSETS = Path(__file__).parent.parent / "assets"


def digits_conditional() -> DiffusionModel:
    """The denoiser of 8x8 handwritten digits that the package ships; each seed draws its digit."""
    return load_model(ASSETS / "digits" / "denoiser.json")


def digits() -> DiffusionModel:
    """The same weights without labels: which digit it is stays open."""
    return without_labels(digits_conditional())


def fashion_mnist_conditional() -> DiffusionModel:
    """The denoiser of 28x28 clothes that the package ships; each seed draws its kind."""
    return load_model(ASSETS / "fashion_mnist" / "denoiser.json")


def fashion_mnist() -> DiffusionModel:
    """The same weights without labels: which kind it is stays open."""
    return without_labels(fashion_mnist_conditional())


def file(path: str) -> DiffusionModel:
    """A model that ``fit`` exported.

    Args:
        path: of its ``.json`` card.
    """
    return of_family("edm", read_model(Path(path))).model()


def guided(of: Spec, scale: float, interval: tuple[float, float] | None = None, rescale: float = 0.0) -> DiffusionModel:
    """A class-conditional model under classifier-free guidance; an evaluation costs two network runs.

    Args:
        of: name and options of the model.
        scale: 1 is the model itself, more exaggerates the class.
        interval: of levels sigma outside which the model is not guided, at half the cost.
        rescale: how far an image's deviation becomes that of the unguided one, 0 to 1.
    """
    return classifier_free(build("model", DENOISERS, of), scale, Manner(interval, rescale))


def autoguided(
    of: Spec, weak: Spec, scale: float, interval: tuple[float, float] | None = None, rescale: float = 0.0
) -> DiffusionModel:
    """A model that is guided by a weaker one of the same kind; an evaluation costs the runs of both.

    Args:
        of: name and options of the model.
        weak: name and options of the weaker one, with the same classes or prompts.
        scale: 1 is the model itself, more exaggerates what it does better.
        interval: of levels sigma outside which the model is not guided, at its own cost.
        rescale: how far an image's deviation becomes that of the unguided one, 0 to 1.
    """
    better, weaker = (build("model", DENOISERS, spec) for spec in (of, weak))
    return auto_guided(better, weaker, scale, Manner(interval, rescale))


def thresholding(of: Spec, quantile: float = 0.995) -> DiffusionModel:
    """A model under dynamic thresholding, as published tables use it with data prediction.

    Args:
        of: name and options of the model.
        quantile: of the pixels' absolute values.
    """
    return thresholded(build("model", DENOISERS, of), quantile)


def pooling(of: Spec, resolution: int = 8) -> DiffusionModel:
    """A model whose bottleneck features are averaged down, for a predictor that takes fewer.

    Args:
        of: name and options of the model.
        resolution: height and width of the features.
    """
    return pooled(build("model", DENOISERS, of), resolution)


def pretrained(card: str, overrides: Spec | None = None) -> DiffusionModel:
    """A published model; its files are fetched if they are missing.

    Args:
        card: name of a card, or the path of one's own.
        overrides: options of the card's model to change.
    """
    chosen = published_card(card)
    model = build("model", DENOISERS, local_model(chosen, overrides))
    require_facts(model, chosen)
    return model


DENOISERS: dict[str, Callable[..., DiffusionModel]] = {
    "digits": digits,
    "digits_conditional": digits_conditional,
    "fashion_mnist": fashion_mnist,
    "fashion_mnist_conditional": fashion_mnist_conditional,
    "file": file,
    "anisotropic_gaussian": anisotropic_gaussian,
    "guided": guided,
    "autoguided": autoguided,
    "thresholded": thresholding,
    "pooled": pooling,
    "edm": edm,
    "edm2": edm2,
    "consistency": consistency,
    "guided_diffusion": guided_diffusion,
    "latent_diffusion": latent_diffusion,
    "stable_diffusion": stable_diffusion,
    "transformer": transformer,
    "pretrained": pretrained,
}
WRAPPERS: dict[str, Callable[..., DiffusionModel]] = {
    "guided": lambda model, scale, interval, rescale: classifier_free(model, scale, Manner(interval, rescale)),
    "autoguided": lambda model, weak, scale, interval, rescale: auto_guided(
        model, replace(outline(weak), prompts=model.prompts), scale, Manner(interval, rescale)
    ),  # outlines do not know prompts
    "thresholded": thresholded,
    "pooled": pooled,
}
"""What a name does to the model that it takes as ``of``."""


def published_card(name: str) -> Card:
    """Read a card, whose model is one of those here: a card is anybody's file, and imports nothing.

    Args:
        name: of a shipped card, or the path of one's own.

    Raises:
        InputError: there is no such card, or its model has a name that is none, or another card's.
    """
    card = load_card(name)
    try:
        for model in named(card.model):
            if registered("model", DENOISERS, model) is pretrained:
                raise InputError("a card names its model, and not another card")
    except InputError as error:
        raise InputError(f"card '{card.name}': {error}") from error
    return card


def load(spec: Spec) -> DiffusionModel:
    """Load a model.

    Args:
        spec: name and options.

    Raises:
        InputError: an unknown name or option, one that the model refuses, or a weight that is not finite.
    """
    model = build("model", DENOISERS, spec)
    for part in (model.denoiser, model.decoder):
        if isinstance(part, nn.Module) and (name := not_finite(dict(part.named_parameters()))):
            raise InputError(f"{_source(spec)}: its weights '{name}' have a NaN or an infinity; get them anew")
    return model


def _source(spec: Spec) -> str:
    """Return what a message calls a model: its file or card if it has one."""
    if isinstance(spec.get("of"), dict):
        return _source(spec["of"])
    return str(spec.get("path") or spec.get("card") or f"model '{spec['name']}'")


def outline(spec: Spec) -> DiffusionModel:
    """Return what is known of a model before its weights are here; a model that is no card's is loaded.

    Args:
        spec: name and options.

    Raises:
        InputError: an unknown name or option, or one that the model refuses.
    """
    options = complete("model", DENOISERS, spec)
    try:
        match options:
            case {"name": "pretrained", "card": card, "overrides": overrides}:
                return outlined(published_card(card), overrides)
            case {"name": str(name), "of": inner, **wrapping} if name in WRAPPERS:
                return WRAPPERS[name](outline(inner), **wrapping)
    except ValueError as error:
        raise InputError(f"model '{spec['name']}': {error}") from error
    return build("model", DENOISERS, spec)
