"""The commands on a device: they end well, and what they write is what they write on the CPU."""

import json

import pytest
import yaml
from PIL import Image

from amed_lightning.runtime.tensor_file import read_with_facts
from amed_lightning.training import constants

from ..pretended.device import PretendedDevice
from .command import call

STUDENT = {
    "model": {"name": "anisotropic_gaussian", "height": 8, "width": 8},
    "solver": {"name": "amed"},
    "schedule": {"name": "time_uniform"},
    "num_intervals": 2,
    "afs": True,
}
FIT = {
    "seed_everything": 0,
    "model": {
        "class_path": "amed_lightning.training.distillation.AMEDDistillation",
        "init_args": {"student": STUDENT, "route": {"name": "table"}},
    },
    "data": {
        "class_path": "amed_lightning.training.trajectories.TeacherTrajectories",
        "init_args": {"teacher": {"solver": {"name": "heun"}, "batch_size": 32}, "root": "store", "batch_size": 32}
        | {"trajectories": 32, "validation_trajectories": 32},
    },
    "trainer": {"max_epochs": 2, "logger": False, "default_root_dir": "out", "enable_model_summary": False},
}
SUITE = {
    "name": "small",
    "datasets": [
        {"name": "grey", "model": STUDENT["model"], "detector": {"name": "digits"}, "dataset": {"name": "digits"}}
        | {"reference": {"solver": {"name": "heun"}, "schedules": [{"name": "polynomial"}], "nfe": [6]}}
    ],
    "entries": [{"solver": {"name": "unipc"}, "schedules": [{"name": "logsnr"}], "nfe": [3]}],
    "num_blocks": 1,
    "block_size": 8,
    "batch_size": 8,
}
TELLING = ("predictor.json", "constants.json", "coefficients.json", "gits.json")
"""Files of JSON without a date or a device in them."""


def placed(**placer):
    return STUDENT | {"solver": STUDENT["solver"] | {"placer": placer}}


def options(prefix, content):
    return [f"--{prefix}.{key}={json.dumps(value)}" for key, value in content.items()]


def commands(accelerator):
    """What a user does with a model, in order."""
    here, trains = ("--accelerator", accelerator), (f"--trainer.accelerator={accelerator}", "--trainer.devices=1")
    few = ("--seeds", "0-7", "--batch_size", 4)
    search = {"model": STUDENT["model"], "solver": {"name": "euler"}, "num_intervals": 2, "afs": True}
    search |= {"fine_intervals": 6, "trajectories": 32, "batch_size": 32, "root": "store"}
    yield "precompute", "--config", "fit.yaml", *trains
    yield "fit", "--config", "fit.yaml", *trains
    yield "validate", "--config", "fit.yaml", *trains, "--ckpt_path", "out/last.ckpt"
    yield "sample", *options("sampler", placed(predictor="out/predictor.json")), *few, "--output", "images", *here
    scored = ("--sampler", json.dumps(placed(constants="out/constants.json")), "--teacher", json.dumps(STUDENT))
    yield "evaluate", *scored, *few, "--metrics=[fid,is,kid,precision_recall]", "--output", "scores.json", *here
    yield "evaluate", "--images", "images", "--output", "files.json", *here
    yield "reference", "--output", "statistics.npz", *here
    yield "schedule", *options("search", search), "--search.output", "gits.json", *here
    yield "bench", "run", "--config", "suite.yaml", "--output", "bench", *here


@pytest.fixture(autouse=True)
def _short(monkeypatch):
    monkeypatch.setattr(constants, "APPROACH_STEPS", 3)


def _content(path):
    """What is there but for where and how fast it was made, which pictures and blocks say too."""
    if path.parent.name == "blocks":
        return {name: tensor.tolist() for name, tensor in read_with_facts(path)[0].items()}
    return Image.open(path).tobytes() if path.suffix == ".png" else path.read_bytes()


def worked(folder, accelerator, monkeypatch):
    """Return what all commands leave: bytes, and of what is dated the scores."""
    folder.mkdir()
    monkeypatch.chdir(folder)
    (folder / "fit.yaml").write_text(yaml.safe_dump(FIT))
    (folder / "suite.yaml").write_text(yaml.safe_dump(SUITE))
    for command in commands(accelerator):
        assert call(*command) == 0, command
    suffixes = (".safetensors", ".mdb", ".png", ".npz")
    left = {path for path in folder.rglob("*") if path.suffix in suffixes and "sums" not in path.parts}
    left |= {path for path in folder.rglob("*.json") if path.name in TELLING}
    scores = [folder / "scores.json", folder / "files.json", *sorted(folder.glob("bench/rows/*.json"))]
    return {path.relative_to(folder): _content(path) for path in left} | {
        path.relative_to(folder): json.loads(path.read_text())["values"] for path in scores
    }


@pytest.mark.slow
def test_every_command_writes_on_a_device_what_it_writes_on_the_cpu(tmp_path, monkeypatch):
    expected = worked(tmp_path / "cpu", "cpu", monkeypatch)
    with PretendedDevice():
        found = worked(tmp_path / "there", "cuda", monkeypatch)
    assert found.keys() == expected.keys()
    assert [path for path, content in expected.items() if found[path] != content] == []
    assert {path.name for path in expected} >= {*TELLING, "data.mdb", "000007.png", "statistics.npz", "scores.json"}
