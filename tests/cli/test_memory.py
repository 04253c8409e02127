"""Where memory runs out every verb ends with what a smaller micro-batch gives, and says so; or refuses by name."""

import json

import pytest
import torch
import yaml

from amed_lightning.data.folder import image_files
from amed_lightning.data.picture import record_in
from amed_lightning.metrics.statistics import read_statistics

from ..hungry import hungry
from .command import call, refusal
from .test_fit import FIT

CPU = ("--accelerator", "cpu")
HALF = "no memory for 64 samples at a time; 32 are taken, which may change last digits"


def sampler(folder, room):
    path = folder / f"{room}.yaml"
    own = {"model": hungry(room), "solver": {"name": "ipndm"}, "schedule": {"name": "logsnr"}, "num_intervals": 4}
    path.write_text(yaml.safe_dump({"sampler": own}))
    return path


def options(part, spec):
    return [f"--{part}.{name}={value}" for name, value in spec.items()]


class TestSample:
    def sampled(self, folder, room, *words):
        output = folder / f"images-{room}"
        assert call("sample", "--config", sampler(folder, room), *CPU, "--seeds", "3-79", "--output", output) == 0
        return torch.cat([batch for batch, _ in image_files(output).batches(100)])

    def test_the_images_are_the_same_and_each_says_its_micro_batch(self, tmp_path, capsys):
        enough = self.sampled(tmp_path, 64)
        assert "memory" not in capsys.readouterr().err
        assert self.sampled(tmp_path, 40).equal(enough)
        assert capsys.readouterr().err.splitlines().count(f"sample: {HALF}") == 1
        assert len(enough) == 77
        plain, halved = (record_in(tmp_path / f"images-{room}" / "000075.png") for room in (64, 40))
        assert plain.made_by == halved.made_by
        assert (plain.made_by["batch_size"], halved.provenance.get("batch_size")) == (64, 32)
        assert "batch_size" not in plain.provenance


class TestEvaluate:
    def row(self, folder, config, *words):
        output = folder / "row.json"
        assert call("evaluate", *config, *CPU, *words, "--output", output) == 0
        return {key: value for key, value in json.loads(output.read_text()).items() if key != "provenance"}

    @pytest.mark.parametrize("hungry_part", ["model", "detector"])
    def test_the_row_is_that_of_the_smaller_micro_batch_and_says_so(self, tmp_path, capsys, hungry_part):
        config = ("--config", sampler(tmp_path, 40 if hungry_part == "model" else 64), "--seeds", "0-99")
        words = options("detector", hungry(40, "detector")) if hungry_part == "detector" else []
        words += ["--dataset.name", "statistics", "--dataset.path", statistics_of(tmp_path)]
        halved = self.row(tmp_path, config, *words)
        assert f"evaluate: {HALF}" in capsys.readouterr().err
        planned = self.row(tmp_path, config, *words, "--batch_size", "32")
        assert halved["caveats"] == [
            *planned["caveats"],
            "memory had room for 32 images at a time, not for batch_size 256",
        ]
        assert halved | {"caveats": 0} == planned | {"caveats": 0}
        assert planned["n"] == 100
        assert planned["protocol"] != self.row(tmp_path, config, *words, "--batch_size", "16")["protocol"]

    def test_files_too(self, tmp_path):
        assert (
            call("sample", "--config", sampler(tmp_path, 64), *CPU, "--seeds", "0-99", "--output", tmp_path / "i") == 0
        )
        files = ("--images", tmp_path / "i", "--dataset.name", "statistics", "--dataset.path", statistics_of(tmp_path))
        halved, planned = (
            self.row(tmp_path, files, *options("detector", hungry(40, "detector")), "--batch_size", size)
            for size in (64, 32)
        )
        assert halved["protocol"] == planned["protocol"]
        assert halved["values"] == planned["values"]


def statistics_of(folder, room=256, *words):
    """Return the path of the digits' statistics."""
    path = folder / f"digits-{room}.npz"
    own = (*options("detector", hungry(room, "detector")), "--dataset.name", "digits", "--features", "true")
    assert call("reference", *own, *CPU, "--output", path, *words) == 0
    return path


def test_a_reference_is_that_of_the_smaller_micro_batch(tmp_path, capsys):
    halved = read_statistics(statistics_of(tmp_path, 100))
    assert "reference: no memory for 128 samples at a time; 64 are taken" in capsys.readouterr().err
    planned = read_statistics(statistics_of(tmp_path, 256, "--batch_size", "64"))
    assert halved.features.equal(planned.features)
    assert halved.moments.covariance.equal(planned.moments.covariance)
    assert halved.moments.count == planned.moments.count
    assert halved.class_counts == planned.class_counts


class TestPrecompute:
    @pytest.fixture
    def fit(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        content = yaml.safe_load(yaml.safe_dump(FIT))
        content["model"]["init_args"]["student"]["model"] = hungry(20)
        content["data"]["init_args"] |= {"trajectories": 256}
        (tmp_path / "fit.yaml").write_text(yaml.safe_dump(content))
        return "--config", "fit.yaml"

    @pytest.mark.parametrize("dry", [[], ["--dry-run"]])
    def test_another_micro_batch_is_refused_because_the_store_is_named_by_it(self, tmp_path, fit, capsys, dry):
        line = refusal(capsys, "precompute", *fit, *dry)
        assert "teacher.batch_size is 64, and there is no memory for so many at a time: set it to 16 or less" in line
        assert not [*tmp_path.glob("store/*/*/data.mdb")]

    def test_the_one_that_is_named_does_it(self, tmp_path, fit, capsys):
        assert call("precompute", *fit, "--data.teacher.batch_size=16") == 0
        assert len([*tmp_path.glob("store/*/*/data.mdb")]) == 2


def test_the_search_of_a_schedule_names_its_own_option(tmp_path, capsys):
    search = {"model": hungry(20), "solver": {"name": "ipndm"}, "num_intervals": 3, "batch_size": 32}
    search |= {"trajectories": 64, "fine_intervals": 6, "output": str(tmp_path / "s.json"), "root": str(tmp_path)}
    (tmp_path / "gits.yaml").write_text(yaml.safe_dump({"search": search}))
    line = refusal(capsys, "schedule", "--config", tmp_path / "gits.yaml", *CPU)
    assert "error: search.batch_size is 32, and there is no memory" in line
    assert "set it to 16 or less" in line


def test_python_s_samples_are_the_same(tmp_path, capsys):
    import amed_lightning

    told = yaml.safe_load(sampler(tmp_path, 40).read_text())["sampler"]
    halved = amed_lightning.sample(told, range(70))
    assert f"sample: {HALF}" in capsys.readouterr().err
    assert halved.equal(amed_lightning.sample(told | {"model": hungry(64)}, range(70)))
