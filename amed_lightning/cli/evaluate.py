"""``evaluate``: FID and IS of a sampler, or of a folder of images."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from jsonargparse.typing import PositiveInt

from amed_lightning.bench.results import write_json
from amed_lightning.cli.parsing import parser_for, seed_range
from amed_lightning.config import InputError, digest
from amed_lightning.data.folder import image_folder
from amed_lightning.metrics.reference import examiner
from amed_lightning.runtime.processes import launch
from amed_lightning.runtime.progress import progress
from amed_lightning.runtime.provenance import provenance
from amed_lightning.sampling.sampler import SamplerConfig, build_sampler, sample_seeds
from amed_lightning.seeds import Seeds, Stream
from amed_lightning.tensors import Bytes, quantise


def run(verb: str, arguments: Sequence[str]) -> int:
    """Score and print."""
    parser = parser_for(verb, "Score a sampler, or a folder of images, with FID and IS.")
    parser.add_argument("--config", action="config", help="YAML file with these options")
    parser.add_argument("--sampler", type=SamplerConfig | None, default=None, help="what to score; or name --images")
    parser.add_argument("--images", type=Path | None, default=None, help="folder of PNG files to score instead")
    parser.add_argument("--detector", type=dict[str, Any], default={"name": "digits"}, help="name and options")
    parser.add_argument("--dataset", type=dict[str, Any], default={"name": "digits"}, help="the real images")
    parser.add_argument("--seeds", default="0-2047", help="first and last seed of the sampler")
    parser.add_argument("--batch_size", type=PositiveInt, default=256, help="images at a time")
    parser.add_argument("--output", type=Path | None, default=None, help="also write the scores to this JSON file")
    options = parser.instantiate(parser.parse_args(list(arguments)))
    if (options.sampler is None) == (options.images is None):
        raise InputError("evaluate: name either --sampler or --images, and not both")
    fabric = launch(options.accelerator)
    row = _score(options.sampler, options, fabric.device)
    values = row["values"]
    print(f"FID {values['fid']:.3f}, IS {values['is']:.3f} ± {values['is_deviation']:.3f} (over 10 splits)")
    print(f"n = {row['n']}, NFE {row['nfe']}, protocol {row['protocol'][:12]}")
    if options.output:
        write_json(options.output, row | {"provenance": provenance(fabric.device, 1)})
    return 0


def _score(config: SamplerConfig | None, options: Any, device: torch.device) -> dict[str, Any]:
    judge = examiner(options.detector, options.dataset)
    source: dict[str, Any]
    batches: Iterator[Bytes]
    if config is None:
        images = image_folder(options.images)
        judge.require_shape(tuple(images.shape[1:]))
        total, nfe, source = len(images), None, {"images": str(options.images)}
        batches = iter(torch.split(images, options.batch_size))
    else:
        sampler, seeds = build_sampler(config), seed_range(options.seeds)
        judge.require_shape(sampler.model.shape)
        sampler.to(device)
        total, source = len(seeds), {"sampler": config, "seeds": [seeds.start, seeds.stop]}
        nfe = sampler.nfe
        states = sample_seeds(sampler, Seeds(Stream.evaluation, seeds.start, seeds.stop), options.batch_size, device)
        batches = (quantise(sampler.model.decode(state.x)).cpu() for state in states)
    scores, done = judge.scores(total), 0
    with progress("evaluate", total, "images") as advance:
        for batch in batches:
            with torch.inference_mode():
                scores.update(judge.detector(batch), done + torch.arange(len(batch)))
            done += len(batch)
            advance(len(batch))
    protocol = digest([source, judge.digest, options.batch_size])
    return {"values": scores.compute(), "n": done, "nfe": nfe, "protocol": protocol}
