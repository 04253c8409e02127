"""``export``: the command."""

import json

import pytest
import torch
import yaml

import amed_lightning as al
from amed_lightning.denoisers.registry import ASSETS

from ..export.programs import scheduler_class
from .command import call, refusal

SHIPPED = ASSETS / "digits" / "samplers"
SAMPLER = {"model": {"name": "digits"}, "solver": {"name": "euler"}, "schedule": {"name": "logsnr"}, "num_intervals": 2}


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "sample.yaml"
    path.write_text(yaml.safe_dump({"sampler": SAMPLER, "seeds": "0-3"}))
    return path


def test_a_learned_table_becomes_a_scheduler_and_the_files_are_named(tmp_path, capsys):
    table = SHIPPED / "union-3.json"
    assert call("export", table, tmp_path / "out", "--to", "diffusers") == 0
    named = capsys.readouterr().out.split()
    assert named == [str(tmp_path / "out" / name) for name in ("amed_scheduler.py", "scheduler_config.json")]
    scheduler, sampler = scheduler_class(tmp_path / "out").from_pretrained(tmp_path / "out"), al.load_sampler(table)
    assert scheduler.runs == sampler.nfe == 3
    noise = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    x, inner = scheduler.init_noise_sigma * noise, sampler.model.denoiser.denoiser.model
    with torch.no_grad():
        for time in scheduler.timesteps:
            x = scheduler.step(inner(x, time.expand(2), None)[0], time, x).prev_sample
        torch.testing.assert_close(x, sampler.sample(noise).x, rtol=1e-5, atol=1e-4)


def test_a_configuration_of_sample_becomes_one(tmp_path, config):
    assert call("export", config, tmp_path / "out", "--to", "comfyui") == 0
    assert json.loads((tmp_path / "out" / "sampler.json").read_text())["levels"][0] == 80.0


def test_a_folder_with_something_in_it_is_left_as_it_is(tmp_path, config, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    line = refusal(capsys, "export", config, tmp_path / "out", "--to", "diffusers")
    assert f"{tmp_path / 'out'}: there is something in it already" in line
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nothing.json", "out", "--to", "diffusers"], "nothing.json: no such file"),
        (["nothing.yaml", "out", "--to", "diffusers"], "nothing.yaml: no such file"),
        (["amed.json", "out", "--to", "comfyui"], "places the steps of each sample"),
        (["amed.json", "out", "--to", "diffusers"], "reads the bottleneck of a U-Net of discrete time"),
        (["plain.yaml", "out", "--to", "diffusers"], "plain.yaml: no 'sampler' in it"),
        (["sample.yaml", "out", "--to", "photoshop"], "photoshop"),
    ],
)
def test_what_cannot_be_exported_is_refused_and_leaves_nothing(tmp_path, config, monkeypatch, capsys, arguments, told):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "plain.yaml").write_text("seeds: 0-3\n")
    for end in ("json", "safetensors"):
        source = SHIPPED / f"amed-3.{end}"
        (tmp_path / f"amed.{end}").write_bytes(source.read_bytes())
    assert told in refusal(capsys, "export", *arguments)
    assert not (tmp_path / "out").exists()
