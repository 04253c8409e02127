"""Small distillations: a watched mixture as the model, and a trainer that writes nothing of its own."""

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch

from amed_lightning.flow.model import DiffusionModel
from amed_lightning.sampling.config import SamplerConfig
from amed_lightning.teacher.trajectories import TeacherConfig
from amed_lightning.training.distillation import AMEDDistillation
from amed_lightning.training.trajectories import TeacherTrajectories

from ..sampling.models import mixture, watched
from ..teacher.stores import CPU, Member, Team

INTERVALS, BATCH, BATCHES = 3, 64, 4
ROWS = 8
OPTIONS = {"route", "loss", "jointly", "scale_dir", "learning_rate", "fine_teacher"}


def watched_mixture() -> DiffusionModel:
    return watched(mixture())[0]


def student(**changes: object) -> SamplerConfig:
    plain = {"model": {"name": "watched"}, "solver": {"name": "amed"}, "schedule": {"name": "polynomial"}}
    return SamplerConfig(**(plain | {"num_intervals": INTERVALS} | changes))


def distillation(folder: Path, scale_time: float = 0.1, **changes: Any) -> AMEDDistillation:
    """A distillation; ``changes`` are the module's options, or else the student's."""
    options = {name: changes.pop(name) for name in OPTIONS & changes.keys()}
    return AMEDDistillation(student(**changes), scale_time=scale_time, **options)


def trajectories(folder: Path, **changes: Any) -> TeacherTrajectories:
    sizes = {"trajectories": BATCHES * BATCH, "validation_trajectories": 2 * BATCH, "batch_size": BATCH}
    plain = {"teacher": TeacherConfig({"name": "heun"}, 1, 64), "root": folder / "store"}
    return TeacherTrajectories(**(plain | sizes | changes))


def trainer(folder: Path, **changes: Any) -> pl.Trainer:
    silent = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    plain = {"accelerator": "cpu", "max_epochs": 1, "num_sanity_val_steps": 0, "enable_model_summary": False}
    return pl.Trainer(default_root_dir=folder, use_distributed_sampler=False, **(silent | plain | changes))


def prepared(folder: Path, **changes: Any) -> tuple[AMEDDistillation, TeacherTrajectories]:
    """A distillation by tables of a few trajectories, which are there; ``changes`` may have options of the route."""
    route = {"name": "table"} | changes.pop("route", {})
    module = distillation(folder, route=route, **({"scale_time": 0.0} | changes))
    data = trajectories(folder, trajectories=ROWS, validation_trajectories=ROWS, batch_size=ROWS)
    module.prepare(data.source(Member(Team(1), 0), CPU))
    return module, data


def disturb(predictor: torch.nn.Module, seed: int) -> dict[str, torch.Tensor]:
    """Give a predictor's weights other values, in place, and return a copy of them."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weights in predictor.parameters():
            weights += 0.5 * torch.randn(weights.shape, generator=generator)
    return {name: value.clone() for name, value in predictor.state_dict().items()}
