"""A folder in which every verb has something to do, and something that it has finished before."""

import hashlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from ..bench.suites import MODEL, PLAIN, entry
from .forks import run

CPU = "--accelerator cpu"
SAMPLER = {"model": MODEL, "solver": {"name": "euler"}, "schedule": {"name": "logsnr"}, "num_intervals": 3}
FIT: dict[str, Any] = {
    "seed_everything": 0,
    "model": {
        "class_path": "amed_lightning.training.distillation.AMEDDistillation",
        "init_args": {
            "student": SAMPLER | {"solver": {"name": "amed"}},
            "route": {"name": "table"},
            "export": "run/predictor.json",
        },
    },
    "data": {
        "class_path": "amed_lightning.training.trajectories.TeacherTrajectories",
        "init_args": {
            "teacher": {"solver": {"name": "heun"}, "inner_levels": 1, "batch_size": 64},
            "root": "store",
            "trajectories": 64,
            "validation_trajectories": 64,
            "batch_size": 64,
        },
    },
    "trainer": {
        "accelerator": "cpu",
        "max_epochs": 1,
        "num_sanity_val_steps": 0,
        "enable_model_summary": False,
        "default_root_dir": "run",
        "logger": {
            "class_path": "lightning.pytorch.loggers.TensorBoardLogger",
            "init_args": {"save_dir": "run", "name": "charts", "default_hp_metric": False},
        },
    },
}
SUITE = PLAIN | {"entries": [entry({"name": "euler"})]}
NIGHTLY = {"suite": "suite.yaml", "golden": "golden", "tensorboard": "board", "results": "nights"}
PREDICTOR = "done/run/predictor.json"
LEARNED = SAMPLER | {"solver": {"name": "amed", "learned": PREDICTOR}}
CONFIGS = {
    "sample": {"sampler": SAMPLER, "seeds": "0-3", "batch_size": 4},
    "learned": {"sampler": LEARNED, "seeds": "0-3", "batch_size": 4},
    "schedule": {
        "search": {"model": MODEL, "solver": {"name": "euler"}, "num_intervals": 3, "output": "found.json"}
        | {"fine_intervals": 6, "trajectories": 32, "batch_size": 32, "root": "store"}
    },
    "fit": FIT,
    "suite": SUITE,
    "nightly": NIGHTLY,
    "images": {"images": "done/images", "metrics": ["fid"]},
}
VERBS = {
    "sample": f"sample --config sample.yaml --output new {CPU}",
    "grid": f"sample --config sample.yaml --output new.png {CPU}",
    "learned": f"sample --config learned.yaml --output new {CPU}",
    "evaluate": f"evaluate --config images.yaml --output scores.json {CPU}",
    "reference": f"reference --dataset '{{name: images, path: done/images}}' --output reference.npz {CPU}",
    "schedule": f"schedule --config schedule.yaml {CPU}",
    "precompute": "precompute --config fit.yaml",
    "fit": "fit --config fit.yaml",
    "bench": f"bench --config suite.yaml --output bench {CPU}",
    "table": f"bench table --config suite.yaml --output done/bench {CPU}",
    "plot": f"bench plot --config suite.yaml --output done/bench {CPU}",
    "nightly": f"bench nightly --config nightly.yaml {CPU}",
}


IMAGES = f"sample --config sample.yaml --output done/images {CPU}"
RUN = (
    "fit --config fit.yaml --data.root done/store --trainer.default_root_dir done/run "
    "--model.export done/run/predictor.json --trainer.logger.init_args.save_dir done/run"
)
SWEEP = f"bench --config suite.yaml --output done/bench {CPU}"
NIGHT = f"{VERBS['nightly']} --update-golden"


def build(folder: Path, commands: Sequence[str]) -> Path:
    """Make the folder, in which ``done`` has what was finished, and return it."""
    (folder / "done").mkdir(parents=True)
    for name, content in CONFIGS.items():
        write(folder, name, content)
    for command in commands:
        ended = run(folder, command)
        assert ended.code == 0, ended.err
    shutil.rmtree(folder / "nights", ignore_errors=True)
    return folder


def open_to_all(folder: Path) -> None:
    """Let every user read and write all of it."""
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o777 if path.is_dir() else 0o666)


def write(folder: Path, name: str, content: object) -> None:
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")


def change(name: str, *keys: str, value: object):
    """Return what sets an entry of one of the YAML files."""

    def changed(folder: Path) -> None:
        content = yaml.safe_load((folder / f"{name}.yaml").read_text())
        place = content
        for key in keys[:-1]:
            place = place[key]
        place[keys[-1]] = value
        write(folder, name, content)

    return changed


def finished(folder: Path) -> dict[str, str]:
    """Return a digest of every file that was finished before, but for what a table or plot writes anew."""
    files = [path for path in (folder / "done").rglob("*") if path.is_file() and path.parent.name != "small"]
    return {os.fspath(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def pixels(folder: Path) -> list[np.ndarray]:
    return [np.asarray(Image.open(path)) for path in sorted(folder.glob("*.png"))]
