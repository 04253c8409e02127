"""``convert``: a published file becomes safetensors and a JSON. Nothing that it holds is run."""

from dataclasses import fields

import jsonargparse

from amed_lightning.amed.files import save_learned
from amed_lightning.amed.published import read_published_predictor
from amed_lightning.config import InputError, Spec, build
from amed_lightning.denoisers.families import FAMILIES
from amed_lightning.denoisers.files import save_weights
from amed_lightning.denoisers.published import read_published
from amed_lightning.denoisers.registry import DENOISERS
from amed_lightning.denoisers.thresholding import Thresholded
from amed_lightning.denoisers.untold import Untold
from amed_lightning.runtime.places import require_place
from amed_lightning.sampling.config import SamplerConfig
from amed_lightning.sampling.parts import SamplerParts


def run(options: jsonargparse.Namespace) -> int:
    """Read, check, write."""
    if options.destination.suffix != ".json":
        raise InputError(f"{options.destination}: the description is a .json; the weights go beside it")
    require_place(options.destination)
    untold = Untold(**{field.name: options[field.name] for field in fields(Untold)})
    if options.model is not None and untold.given:
        raise InputError(f"--{next(iter(untold.given))}: an option of a network; an AMED predictor has its --model")
    if options.destination.is_file():
        raise InputError(f"{options.destination}: there is one already; name another, or delete it")
    print(_network(options, untold) if options.model is None else _predictor(options))
    return 0


def _network(options: jsonargparse.Namespace, untold: Untold) -> str:
    stored = read_published(options.source, untold)
    module = stored.classifier() if stored.card.is_classifier else stored.denoiser()
    save_weights(options.destination, stored.weights, stored.card)
    count = sum(weights.numel() for weights in module.parameters())
    family, path = FAMILIES[stored.card.preconditioning], options.destination
    use = f"classifier: {path}" if stored.card.is_classifier else f"model: {{name: {family}, path: {path}}}"
    return f"written: {path}, {count:,} weights; name it as `{use}`"


def _predictor(options: jsonargparse.Namespace) -> str:
    model_spec: Spec = options.model
    published = read_published_predictor(options.source)
    model = build("model", DENOISERS, model_spec)
    features = published.predictor.enc_layer0.in_features
    if model.feature_size != features:
        raise InputError(f"--model: it has {model.feature_size} features, and {options.source} takes {features}")
    if published.solver.get("prediction") == "data" and not isinstance(model.denoiser, Thresholded):
        raise InputError("--model: this predictor was made under thresholding; use {name: thresholded, of: ...}")
    sampler = published.solver, published.schedule, published.num_intervals, published.afs
    parts = SamplerParts(SamplerConfig(model_spec, *sampler), model)
    save_learned(options.destination, published.predictor, parts.purpose, published.training, parts.description)
    return (
        f"written: {options.destination}, for {published.solver['name']} in {published.num_intervals} intervals on "
        f"{published.schedule['name']}; name it in its solver as `learned: {options.destination}`"
    )
