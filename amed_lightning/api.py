"""What ``import amed_lightning as al`` offers: models, samplers and their samples, fits.

Parts are named as in YAML, ``{"name": "ipndm", "order": 3}``, and a word alone is a name: ``"ipndm"``.
"""

import json
from collections.abc import Mapping, Sequence
from operator import index
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor

from amed_lightning.config import InputError, Spec
from amed_lightning.denoisers.own import discrete_model, flow_model
from amed_lightning.denoisers.registry import load
from amed_lightning.flow.model import Denoised, DiffusionModel
from amed_lightning.flow.probability_flow import ProbabilityFlow
from amed_lightning.noise.schedules import SCHEDULES, NoiseRange, levels
from amed_lightning.runtime.micro_batches import halving
from amed_lightning.runtime.shipped import samplers
from amed_lightning.runtime.signals import listening
from amed_lightning.sampling.images import generate
from amed_lightning.sampling.parts import build_sampler, config_of, learned_sampler
from amed_lightning.sampling.sampler import Sampler, require_classes
from amed_lightning.seeds import SEEDS_PER_STREAM, Seeds, Stream
from amed_lightning.solvers.registry import SOLVERS
from amed_lightning.solvers.state import solve
from amed_lightning.tensors import Images

__all__ = [
    "SCHEDULES",
    "SOLVERS",
    "Denoised",
    "DiffusionModel",
    "InputError",
    "NoiseRange",
    "ProbabilityFlow",
    "Sampler",
    "discrete_model",
    "distill",
    "flow_model",
    "levels",
    "load_model",
    "load_sampler",
    "sample",
    "shipped",
    "solve",
]

PARTS = ("model", "solver", "schedule")
SamplerSource: TypeAlias = str | Path | Mapping[str, Any] | Sampler
"""A learned file, the name of a shipped one, a sampler's configuration, or a sampler."""


def shipped() -> list[str]:
    """Return the names of the learned samplers that the package ships, such as ``digits/amed-5``."""
    return sorted(samplers())


def load_model(model: str | Path | Spec) -> DiffusionModel:
    """Load a model, frozen.

    Args:
        model: the path of a ``.json`` that ``fit`` or ``convert`` wrote, or a part: ``"digits"``,
            ``{"name": "pretrained", "card": "cifar10"}``, an import path of one's own.

    Raises:
        InputError: an unknown name or option, or a file that is missing or damaged.
    """
    is_file = isinstance(model, Path) or (isinstance(model, str) and model.endswith(".json"))
    return load({"name": "file", "path": str(model)} if is_file else _part(model))


def load_sampler(source: SamplerSource, model: DiffusionModel | None = None) -> Sampler:
    """Build a sampler.

    Args:
        source: the ``.json`` that a fit has written, which knows model, solver, schedule, intervals and analytic first
            step; the name of a shipped one (:func:`shipped`); or a configuration as in YAML:
            ``{"model": "digits", "solver": "heun", "schedule": "polynomial", "nfe": 9}``.
        model: the sampler's, in the place of the one that the source names.

    Raises:
        InputError: what the source says is unknown, missing or does not fit together.
    """
    if isinstance(source, Sampler):
        if model is not None:
            raise InputError("a sampler has its model; give the model with a file or a configuration")
        return source
    if isinstance(source, Mapping):
        told = {"model": {}} | dict(source) if model is not None else dict(source)
        return build_sampler(config_of(told | {key: _part(told[key]) for key in PARTS if key in told}), model)
    return learned_sampler(_file(source), model)


def sample(
    source: SamplerSource,
    seeds: range = range(64),
    *,
    model: DiffusionModel | None = None,
    classes: Sequence[int] | Tensor = (),
    batch_size: int = 64,
    device: torch.device | str = "cpu",
) -> Images:
    """Sample the images of seeds, the same as those of ``amed-lightning sample``.

    Args:
        source: see :func:`load_sampler`.
        seeds: of the images, one after the other, none below 0.
        model: the sampler's, in the place of the one that the source names.
        classes: labels that the seeds take in turn, instead of each its own.
        batch_size: images per network run, halved where memory runs out; another one may change their last digits.
        device: where to compute; the weights move there.

    Returns:
        The images in the seeds' order, in [-1, 1], on the CPU.

    Raises:
        InputError: what the source says is unknown, missing or does not fit together, seeds that are not in a row or
            not there, a batch of no images, or labels that the model does not have.
        FloatingPointError: an image is not finite.
    """
    sampler, device = load_sampler(source, model), torch.device(device)
    if not isinstance(seeds, range) or seeds.step != 1 or not 0 <= seeds.start < seeds.stop <= SEEDS_PER_STREAM:
        raise InputError(f"seeds {seeds}: they are one after the other, none below 0, like range(16)")
    if batch_size < 1:
        raise InputError(f"batch_size is {batch_size}; it must be above 0")
    classes = [index(label) for label in classes]
    require_classes(classes, sampler.model.num_classes)
    drawn = Seeds(Stream.evaluation, seeds.start, seeds.stop)

    def made(size: int) -> Images:
        batches = generate(sampler.to(device), drawn, size, device, classes)
        return torch.cat([batch.images.cpu() for batch in batches])

    images, _ = halving(made, batch_size, "sample")
    return images


def distill(recipe: str | Path, options: Mapping[str, Any] | None = None) -> Path:
    """Fit what a recipe says, as ``amed-lightning fit --config`` does, or go on where that was stopped.

    Args:
        recipe: the YAML, or its name: ``"digits/amed-5"``.
        options: values in the place of the recipe's, by dotted names: ``{"trainer.max_epochs": 8}``.

    Returns:
        The file of what was learned, for :func:`sample`.

    Raises:
        InputError: the recipe or an option is wrong, or the run's directory is another run's.
    """
    from amed_lightning.cli.options import parsed
    from amed_lightning.cli.parsers import CONFIG
    from amed_lightning.cli.training import TrainingCLI  # brings Lightning
    from amed_lightning.training.exporting import Exporting

    told = [f"--{name}={_written(value)}" for name, value in (options or {}).items()]
    with listening():
        cli = TrainingCLI(["fit", *parsed("fit", [CONFIG, str(recipe), *told]).arguments], run=True)
    if not isinstance(cli.model, Exporting):
        raise InputError(f"{recipe}: a {type(cli.model).__name__} leaves no file of what it has learned")
    return cli.model.result_in(Path(cli.trainer.default_root_dir))


def _part(told: Any) -> Any:
    return {"name": told} if isinstance(told, str) else told


def _written(value: Any) -> str:
    return str(value) if isinstance(value, str | Path) else json.dumps(value)


def _file(source: str | Path) -> Path:
    """Return a path, or that of what the package ships under a name."""
    if Path(source).suffix == ".json":
        return Path(source)
    if str(source) not in (ours := samplers()):
        raise InputError(f"{source}: neither a .json that a fit has written nor one of {', '.join(ours)}")
    return ours[str(source)]
