"""``evaluate``: FID, IS and more of a sampler, or of images in a folder or a zip."""

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jsonargparse import Namespace

from amed_lightning.bench.results import write_json
from amed_lightning.cli.parsing import seed_range
from amed_lightning.config import InputError, canonical_json, digest
from amed_lightning.data.folder import image_files
from amed_lightning.flow.model import DiffusionModel
from amed_lightning.metrics.metric import Metric, Score
from amed_lightning.metrics.reference import Evaluator, build_evaluator
from amed_lightning.metrics.scores import GenerationScores, metrics_of
from amed_lightning.runtime.micro_batches import halving
from amed_lightning.runtime.places import require_place
from amed_lightning.runtime.processes import launch
from amed_lightning.runtime.progress import progress
from amed_lightning.runtime.provenance import provenance
from amed_lightning.sampling.images import generate
from amed_lightning.sampling.parts import build_sampler
from amed_lightning.sampling.sampler import Sampler, repeated_prompts, runs_made
from amed_lightning.seeds import Seeds, Stream
from amed_lightning.tensors import Bytes, Images


@dataclass(frozen=True)
class _ScoredImages:
    """What is scored.

    Attributes:
        total: number of images.
        nfe: network runs that each took, if that is known.
        protocol: what its scores depend on besides the sampler.
        shapes: of its images, and of a teacher's if there is one.
        notes: what a reader of the scores should know about the images.
        prompts: of the images, if they have any.
        batches: of a size, images on the device; with them, before they became bytes, those of a teacher, if there is
            one.
    """

    total: int
    nfe: int | None
    protocol: dict[str, Any]
    shapes: Sequence[tuple[int, ...]]
    notes: Sequence[str]
    prompts: Sequence[str]
    batches: Callable[[int], Iterator[tuple[Bytes, tuple[Images, ...]]]]


def run(options: Namespace) -> int:
    """Score and print."""
    if (options.sampler is None) == (options.images is None):
        raise InputError("evaluate: name either --sampler or --images, and not both")
    if options.teacher is not None and options.sampler is None:
        raise InputError(
            "evaluate: --teacher is compared with a --sampler's images from the same noise, not with files"
        )
    if options.output:
        require_place(options.output)
    fabric = launch(options.accelerator)
    row = _score(options, fabric.device)
    print(describe(row["values"], metrics_of(options.metrics).values()))
    runs = "" if row["nfe"] is None else f"NFE {row['nfe']}, "
    print(f"n = {row['n']}, {runs}protocol {row['protocol'][:12]}")
    if options.output:
        write_json(options.output, row | {"provenance": provenance(fabric.device, 1)})
    return 0


def describe(values: Mapping[str, float], metrics: Iterable[Metric]) -> str:
    """Return the scores as one line, with a digit more than a table has.

    >>> describe({"fid": -1e-9, "rmse": 0.25}, metrics_of(["fid"]).values())
    'FID 0.000, RMSE 0.2500'
    """
    scores = {name: score for metric in metrics for name, score in metric.scores.items() if name in values}
    return ", ".join(_described(values, name, score) for name, score in scores.items())


def _described(values: Mapping[str, float], name: str, score: Score) -> str:
    """Show a score, and its spread if it has one."""
    shown = f"{score.title} {values[name]:z.{score.digits + 1}f}"
    if not score.spread:
        return shown
    spread, over = score.spread
    return f"{shown} ± {values[spread]:.{score.digits + 1}f} ({over})"


def _score(options: Any, device: torch.device) -> dict[str, Any]:
    source = (_files if options.sampler is None else _samples)(options, device)
    evaluator = build_evaluator(options.detector, options.dataset, options.metrics, device)
    for shape in source.shapes:
        evaluator.require_shape(shape)
    evaluator.require_given(prompts=bool(source.prompts), pairs=options.teacher is not None)
    evaluator.scores(source.total)  # refuses too few before anything is said
    caveats = [*source.notes, *evaluator.reference.notes, *evaluator.caveats(source.total)]
    for caveat in caveats:
        print(f"warning: {caveat}", file=sys.stderr)
    scores, batch_size = halving(partial(_scored, source, evaluator), options.batch_size, "evaluate")
    if batch_size < options.batch_size:
        caveats.append(f"memory had room for {batch_size} images at a time, not for batch_size {options.batch_size}")
    return {
        "values": scores.compute(),
        "n": source.total,
        "nfe": source.nfe,
        "scored": json.loads(canonical_json(options.sampler or options.images)),
        "protocol": digest([source.protocol, evaluator.digest, batch_size]),
        "caveats": caveats,
    }


def _scored(source: _ScoredImages, evaluator: Evaluator, batch_size: int) -> GenerationScores:
    """Show all images to the evaluator."""
    scores, done = evaluator.scores(source.total), 0
    with progress("evaluate", source.total, "images") as advance, torch.inference_mode():
        for batch, pair in source.batches(batch_size):
            part = slice(done, done + len(batch))
            scores.update(batch, done + torch.arange(len(batch)), source.prompts[part], pair)
            done += len(batch)
            advance(len(batch))
    return scores


def _files(options: Any, device: torch.device) -> _ScoredImages:
    images = image_files(options.images)

    def batches(size: int) -> Iterator[tuple[Bytes, tuple[Images, ...]]]:
        return ((batch.to(device), ()) for batch, _ in images.batches(size))

    return _ScoredImages(images.count, None, {"n": images.count}, [images.shape], images.notes, (), batches)


def _samples(options: Any, device: torch.device) -> _ScoredImages:
    seeds = seed_range(options.seeds)
    samplers = [build_sampler(config).to(device) for config in (options.sampler, options.teacher) if config is not None]
    require_pairs([sampler.model for sampler in samplers])
    protocol = {
        "model": samplers[0].model.digest,
        "seeds": [seeds.start, seeds.stop],
        "conditions": samplers[0].model.conditions_digest(Stream.evaluation),
        "arithmetic": options.sampler.arithmetic,
        "teacher": options.teacher,
    }
    shapes = [sampler.model.image_shape for sampler in samplers]
    drawn = Seeds(Stream.evaluation, seeds.start, seeds.stop)
    batches = partial(_sampled, samplers, drawn, device)
    notes = repeated_prompts(samplers[0].model, drawn)
    prompts = samplers[0].model.texts_of(drawn)
    return _ScoredImages(len(seeds), runs_made(samplers[0]), protocol, shapes, notes, prompts, batches)


def require_pairs(models: Sequence[DiffusionModel]) -> None:
    """Refuse a teacher whose samples are not of the same noise, labels or prompts: no distance tells anything then.

    Args:
        models: of a sampler and, if there is one, of its teacher, which may be without labels where the other has some.

    Raises:
        InputError: naming both.
    """
    shapes = dict.fromkeys(model.shape for model in models)
    if len(shapes) > 1:
        raise InputError(f"--teacher: its noise has another shape than the sampler's, {' and '.join(map(str, shapes))}")
    conditions = {model.conditions_digest(Stream.evaluation) for model in models} - {None}
    if len(conditions) > 1:
        what = "prompts" if any(model.prompts is not None for model in models) else "labels"
        raise InputError(f"--teacher: its seeds have other {what} than the sampler's; give both the same")


def _sampled(
    samplers: Sequence[Sampler], seeds: Seeds, device: torch.device, batch_size: int
) -> Iterator[tuple[Bytes, tuple[Images, ...]]]:
    """Yield the first sampler's images as bytes and, if there is a second, both samplers' before that."""
    runs = [generate(sampler, seeds, batch_size, device) for sampler in samplers]
    for generated, *teacher in zip(*runs, strict=True):
        yield generated.pixels, (generated.images, teacher[0].images) if teacher else ()
