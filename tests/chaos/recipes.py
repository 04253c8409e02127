"""What is disturbed: tiny digits runs of four kinds, and what they leave, bit for bit."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import safetensors.torch
import yaml

DIGITS = {"name": "digits"}
FIT: dict[str, Any] = {
    "seed_everything": 0,
    "model": {
        "class_path": "amed_lightning.training.distillation.AMEDDistillation",
        "init_args": {
            "student": {
                "model": DIGITS,
                "solver": {"name": "amed"},
                "schedule": {"name": "logsnr"},
                "num_intervals": 2,
            },
            "export": "run/predictor.json",
        },
    },
    "data": {
        "class_path": "amed_lightning.training.trajectories.TeacherTrajectories",
        "init_args": {
            "teacher": {"solver": {"name": "heun"}, "batch_size": 8, "shard_size": 16},
            "root": "store",
            "trajectories": 64,
            "validation_trajectories": 32,
            "batch_size": 16,
        },
    },
    "trainer": {
        "accelerator": "cpu",
        "max_epochs": 3,
        "logger": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        "default_root_dir": "run",
    },
    "checkpoint": {"every_n_batches": 2},
}
SUITE: dict[str, Any] = {
    "name": "tiny",
    "datasets": [
        {
            "name": "digits",
            "model": DIGITS,
            "detector": DIGITS,
            "dataset": DIGITS,
            "reference": {"solver": {"name": "heun"}, "schedules": [{"name": "polynomial"}], "nfe": [12]},
        }
    ],
    "num_blocks": 3,
    "block_size": 24,
    "batch_size": 12,
    "entries": [{"solver": {"name": "euler"}, "schedules": [{"name": "logsnr"}], "nfe": [3, 4]}],
}
PLACES = ("store", "run", "out")
WHOLE, NAMES = (".mdb", ".safetensors"), ("manifest.json", "predictor.json")


def _fit(route: dict[str, Any]) -> dict[str, Any]:
    own = FIT["model"]["init_args"] | {"route": route}
    return FIT | {"model": FIT["model"] | {"init_args": own}}


CONTENTS = {
    "precompute": FIT,
    "fit": _fit({"name": "network"}),
    "table fit": _fit({"name": "table", "batch_size": 16, "agreement": 100.0, "most_nodes": 5}),
    "bench": SUITE,
}
KINDS = tuple(CONTENTS)


def command(kind: str, ranks: int) -> Sequence[str]:
    """Return the command of a kind."""
    if kind == "bench":
        return ["bench", "--config", "config.yaml", "--output", "out", "--accelerator", "cpu", "--devices", str(ranks)]
    verb = "precompute" if kind == "precompute" else "fit"
    return [verb, "--config", "config.yaml", f"--trainer.devices={ranks}"]


def write(kind: str, folder: Path) -> None:
    """Write the configuration of a kind."""
    (folder / "config.yaml").write_text(yaml.safe_dump(CONTENTS[kind]))


def left_by(folder: Path) -> dict[str, str]:
    """Return what a finished command has left: digests of the files' contents, but for times and places."""
    found = {}
    for path in sorted(path for place in PLACES for path in (folder / place).rglob("*") if path.is_file()):
        name = str(path.relative_to(folder))
        if path.suffix == ".safetensors" and "blocks" in path.parts:  # beside the sums stands how long they took
            tensors = safetensors.torch.load_file(path)
            found[name] = _digest(safetensors.torch.save(dict(sorted(tensors.items()))))
        elif path.parent.name == "rows":
            row = json.loads(path.read_text())
            found[name] = _digest(json.dumps({key: row[key] for key in ("key", "values", "leave_one_out")}).encode())
        elif path.suffix in WHOLE or path.name in NAMES or path.parent.name == "tables":
            found[name] = _digest(path.read_bytes())
    return found


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
