"""``sample``: images for a range of seeds, as PNG files or one grid."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import Any

from jsonargparse import Namespace
from lightning.fabric import Fabric

from amed_lightning.cli.parsing import seed_range
from amed_lightning.config import InputError, Spec, options_of
from amed_lightning.data.output import VERB, Samples
from amed_lightning.data.picture import Record, require_picture
from amed_lightning.denoisers.interruptible import interruptible
from amed_lightning.denoisers.registry import DENOISERS, published_card
from amed_lightning.runtime.micro_batches import halving
from amed_lightning.runtime.processes import launch
from amed_lightning.runtime.provenance import provenance
from amed_lightning.runtime.work import shared
from amed_lightning.sampling.config import SamplerConfig
from amed_lightning.sampling.images import generate
from amed_lightning.sampling.parts import build_sampler, identity
from amed_lightning.sampling.sampler import Sampler, require_classes, runs_made
from amed_lightning.seeds import Seeds, Stream


def run(options: Namespace) -> int:
    """Sample and write."""
    seeds, config = seed_range(options.seeds), _asked(options.sampler, options.prompt, options.guidance)
    sampler = build_sampler(config)
    require_classes(options.classes, sampler.model.num_classes)
    require_picture(sampler.model.image_shape)
    fabric = launch(options.accelerator)
    made_by = _made_by(config, sampler, options.classes, options.batch_size)
    source = provenance(fabric.device, fabric.world_size) | {"model": config.model["name"], "schedule": config.schedule}
    samples = Samples(options.output, Record(VERB, made_by, [seeds.start, seeds.stop], source))
    earlier = samples.to_replace(options.overwrite)
    fabric.broadcast(None)  # all have looked before anything changes
    for image in earlier if fabric.is_global_zero else ():
        image.unlink(missing_ok=True)
    fabric.broadcast(None)
    sampler.to(fabric.device)
    _fill(samples, replace(sampler, model=interruptible(sampler.model)), options.batch_size, options.classes, fabric)
    if fabric.is_global_zero:
        print(f"{len(seeds)} images at {made_by['nfe']} network runs each: {options.output}")
    return 0


def _fill(samples: Samples, sampler: Sampler, batch_size: int, classes: Sequence[int], fabric: Fabric) -> None:
    """Write the images that are missing, with whoever else does, and their grid if it is wanted."""
    room = batch_size

    def made(batch: Seeds, size: int) -> None:
        first, facts = batch.start, {} if size == batch_size else {"batch_size": size}
        for generated in generate(sampler, batch, size, fabric.device, classes):
            stop = first + len(generated.images)
            samples.write(range(first, stop), generated.pixels.cpu(), **facts)
            first = stop

    seeds = Seeds(Stream.evaluation, *samples.record.seeds)
    batches = {f"{batch.start:06d}-{batch.stop:06d}": batch for batch in seeds.blocks(batch_size)}

    def are_there(name: str) -> bool:
        return samples.are_there(range(batches[name].start, batches[name].stop))

    try:
        with shared(VERB, batches, are_there, samples.folder, fabric, "batches") as mine:
            for name in mine:
                _, room = halving(partial(made, batches[name]), room, VERB)
        if samples.is_grid:
            with shared("grid", ["grid"], lambda _: samples.output.is_file(), samples.folder, fabric, "grids") as mine:
                for _ in mine:
                    samples.join()
    finally:
        samples.close()


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
        "nfe": runs_made(sampler),
        "conditions": sampler.model.conditions_digest(Stream.evaluation),
        "classes": list(classes),
        "batch_size": batch_size,
    }
