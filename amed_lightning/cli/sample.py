"""``sample``: images for a range of seeds, as PNG files or one grid."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from jsonargparse.typing import PositiveInt

from amed_lightning.cli.parsing import parser_for, seed_range
from amed_lightning.config import InputError, Spec, options_of
from amed_lightning.data.output import VERB, images_to_replace, write_samples
from amed_lightning.data.picture import Record
from amed_lightning.denoisers.registry import DENOISERS, published_card
from amed_lightning.runtime.processes import launch
from amed_lightning.runtime.progress import progress
from amed_lightning.runtime.provenance import provenance
from amed_lightning.sampling.images import generate
from amed_lightning.sampling.sampler import Sampler, SamplerConfig, build_sampler, identity
from amed_lightning.seeds import Seeds, Stream
from amed_lightning.tensors import Bytes


def run(verb: str, arguments: Sequence[str]) -> int:
    """Sample and write."""
    parser = parser_for(verb, "Write images for a range of seeds.")
    parser.add_argument("--config", action="config", help="YAML file with these options")
    parser.add_class_arguments(SamplerConfig, "sampler")
    parser.add_argument("--seeds", default="0-63", help="first and last seed")
    parser.add_argument("--classes", type=list[int], default=[], help="labels to take in turn, not each seed's own")
    parser.add_argument("--prompt", action="append", default=[], help="for the seeds to take in turn; may be repeated")
    parser.add_argument("--guidance", type=float | None, default=None, help="scale of a text model's guidance")
    parser.add_argument("--batch_size", type=PositiveInt, default=64, help="samples per network run")
    parser.add_argument("--output", type=Path, default=Path("runs/samples"), help="folder, or a .png for a grid")
    parser.add_argument("--overwrite", action="store_true", help="replace what an earlier `sample` wrote there")
    options = parser.instantiate(parser.parse_args(list(arguments)))
    seeds, config = seed_range(options.seeds), _asked(options.sampler, options.prompt, options.guidance)
    sampler = build_sampler(config)
    earlier = images_to_replace(options.output, options.overwrite)
    _check_classes(options.classes, sampler.model.num_classes)
    fabric = launch(options.accelerator, 1)
    sampler.to(fabric.device)
    drawn = Seeds(Stream.evaluation, seeds.start, seeds.stop)
    images: list[Bytes] = []
    with progress("sample", len(drawn), "images") as advance:
        for generated in generate(sampler, drawn, options.batch_size, fabric.device, options.classes):
            images.append(generated.pixels.cpu())
            advance(len(images[-1]))
    made_by = _made_by(config, sampler, options.classes, options.batch_size)
    source = provenance(fabric.device, 1) | {"model": config.model["name"], "schedule": config.schedule}
    record = Record(VERB, made_by, [seeds.start, seeds.stop], source)
    write_samples(options.output, torch.cat(images), record, earlier)
    print(f"{len(drawn)} images at {generated.nfe} network runs each: {options.output}")
    return 0


def _asked(config: SamplerConfig, prompts: list[str], guidance: float | None) -> SamplerConfig:
    """Put what the command line asks of a text model into the model's description."""
    model = config.model
    if prompts:
        model = _with_option(model, "prompts", {"evaluation": prompts}, "--prompt")
    if guidance is not None:
        model = _with_option(model, "guidance", guidance, "--guidance")
    return replace(config, model=model)


def _with_option(model: Spec, option: str, value: object, flag: str) -> Spec:
    """Set an option of a model, of the one that it stands around, or of a card's."""
    name = str(model.get("name"))
    if option in options_of("model", DENOISERS, name):
        return model | {option: value}
    match model:
        case {"of": dict(inner)}:
            return model | {"of": _with_option(inner, option, value, flag)}
        case {"name": "pretrained", "card": str(card)}:
            published = published_card(card).model
            own = published | (model.get("overrides") or {})
            asked = _with_option(own, option, value, flag)
            return model | {"overrides": {key: asked[key] for key in asked if asked[key] != published.get(key)}}
    raise InputError(f"{flag}: model '{name}' takes no {option}; leave the option out, or use a text-to-image model")


def _made_by(config: SamplerConfig, sampler: Sampler, classes: Sequence[int], batch_size: int) -> dict[str, Any]:
    """Return everything that an image depends on but its seed, for its file."""
    return identity(config, sampler) | {
        "arithmetic": asdict(config.arithmetic),
        "nfe": sampler.nfe,
        "conditions": sampler.model.conditions_digest(Stream.evaluation),
        "classes": list(classes),
        "batch_size": batch_size,
    }


def _check_classes(classes: Sequence[int], num_classes: int) -> None:
    if classes and not num_classes:
        raise InputError(
            "--classes: this model takes no labels; leave the option out, or use a class-conditional model"
        )
    if any(not 0 <= label < num_classes for label in classes):
        raise InputError(f"--classes {list(classes)}: this model's labels are 0 to {num_classes - 1}")
