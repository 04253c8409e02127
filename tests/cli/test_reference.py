"""``reference`` writes what ``evaluate`` scores against: folders, zips and samplers, with every metric."""

import json

import pytest
import torch
import yaml

from amed_lightning.data.digits import digits
from amed_lightning.metrics.statistics import read_statistics
from amed_lightning.sampling.config import SamplerConfig
from amed_lightning.sampling.parts import build_sampler
from amed_lightning.seeds import Seeds, Stream

from ..data.files import edm_name, pictures, write_folder, write_zip
from .command import call, refusal

MODEL = {"name": "anisotropic_gaussian", "height": 8, "width": 8}
SAMPLER = {"model": MODEL, "solver": {"name": "euler"}, "schedule": {"name": "logsnr"}, "num_intervals": 4}
TEACHER = SAMPLER | {"solver": {"name": "heun"}, "num_intervals": 9}
ALL = "[fid,is,kid,precision_recall]"
COUNT = 100


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    images, labels = digits()
    named = [[edm_name(number), int(labels[number])] for number in range(COUNT)]
    return write_folder(tmp_path_factory.mktemp("digits"), images[:COUNT], named)


def reference(output, *options):
    return call("reference", "--accelerator", "cpu", "--output", output, *options)


def evaluate(output, *options):
    """Score, and return the row."""
    assert call("evaluate", "--accelerator", "cpu", "--output", output, *options) == 0
    return json.loads(output.read_text())


class TestReference:
    def test_it_writes_statistics_and_says_what_of(self, folder, tmp_path, capsys):
        dataset = ["--dataset.name", "images", "--dataset.path", folder]
        assert reference(tmp_path / "stats.npz", *dataset) == 0
        shown = capsys.readouterr().out
        assert f"{COUNT} images of shape (1, 8, 8), 10 classes of 8 to 12" in shown
        found = read_statistics(tmp_path / "stats.npz")
        assert f"detector {found.detector[:12]}, dataset {found.dataset[:12]}" in shown
        assert not len(found.features)

    def test_features_are_kept_when_asked_for(self, folder, tmp_path, capsys):
        dataset = json.dumps({"name": "images", "path": str(write_zip(tmp_path / "digits.zip", folder))})
        assert reference(tmp_path / "stats.npz", "--dataset", dataset, "--features", "true", "--batch_size", "7") == 0
        assert read_statistics(tmp_path / "stats.npz").features.shape == (COUNT, 64)

    def test_statistics_of_statistics_are_refused(self, tmp_path, capsys):
        dataset = ["--dataset.name", "statistics", "--dataset.path", "stats.npz"]
        line = refusal(capsys, "reference", "--output", tmp_path / "stats.npz", "--accelerator", "cpu", *dataset)
        assert "unknown dataset 'statistics'" in line

    def test_images_of_another_shape_leave_no_file(self, tmp_path, capsys):
        options = ["--dataset.name", "images", "--dataset.path", write_folder(tmp_path / "images", pictures(3))]
        line = refusal(capsys, "reference", "--output", tmp_path / "stats.npz", "--accelerator", "cpu", *options)
        assert "and the detector takes (1, 8, 8)" in line
        assert not (tmp_path / "stats.npz").exists()


class TestEvaluate:
    def test_against_a_file_scores_are_those_against_the_images(self, folder, tmp_path):
        dataset = {"name": "images", "path": str(folder)}
        assert reference(tmp_path / "stats.npz", "--dataset", json.dumps(dataset), "--features", "true") == 0
        rows = [
            evaluate(tmp_path / "row.json", "--images", folder, "--metrics", ALL, "--dataset", json.dumps(spec))
            for spec in (dataset, {"name": "statistics", "path": str(tmp_path / "stats.npz")})
        ]
        assert rows[0]["values"] == rows[1]["values"]
        assert rows[0]["protocol"] == rows[1]["protocol"]
        assert rows[0]["values"]["fid"] == pytest.approx(0, abs=1e-3)
        assert rows[0]["values"]["precision"] == rows[0]["values"]["recall"] == 1

    def test_a_zip_scores_as_its_folder_does(self, folder, tmp_path, capsys):
        places = (folder, write_zip(tmp_path / "digits.zip", folder))
        rows = [evaluate(tmp_path / "row.json", "--images", place, "--metrics", ALL) for place in places]
        assert rows[0]["values"] == rows[1]["values"]
        assert rows[0]["protocol"] == rows[1]["protocol"]
        assert [row["scored"] for row in rows] == [str(place) for place in places]
        values = rows[0]["values"]
        shown = capsys.readouterr().out
        assert f"KID {values['kid']:.6f} ± {values['kid_deviation']:.6f} (over subsets)" in shown
        assert f"precision {values['precision']:.4f}, recall {values['recall']:.4f}" in shown

    def test_the_distance_to_a_teacher_is_from_the_same_noise(self, tmp_path, capsys):
        config = tmp_path / "both.yaml"
        config.write_text(yaml.safe_dump({"sampler": SAMPLER, "teacher": TEACHER}))
        row = evaluate(tmp_path / "row.json", "--config", config, "--seeds", "5-84", "--batch_size", "32")
        noise = Seeds(Stream.evaluation, 5, 85).noise((1, 8, 8))
        student, teacher = (build_sampler(SamplerConfig(**each)).sample(noise).x for each in (SAMPLER, TEACHER))
        expected = (student - teacher).double().square().mean().sqrt()
        assert row["values"]["rmse"] == pytest.approx(expected.item(), rel=1e-5)
        assert row["nfe"] == 4
        assert f"PSNR {row['values']['psnr']:.3f}" in capsys.readouterr().out

    def test_a_sampler_and_a_teacher_may_stand_in_files_of_their_own(self, tmp_path):
        for name, config in (("sampler", SAMPLER), ("teacher", TEACHER)):
            (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(config))
        files = ["--sampler", tmp_path / "sampler.yaml", "--teacher", tmp_path / "teacher.yaml"]
        row = evaluate(tmp_path / "row.json", *files, "--seeds", "0-69")
        assert row["values"]["rmse"] > 0
        assert torch.tensor(row["values"]["fid"]).isfinite()

    def test_too_few_images_are_said_to_be_too_few(self, folder, tmp_path, capsys):
        for last, warned in (("63", True), ("64", False)):
            (tmp_path / "sampler.yaml").write_text(yaml.safe_dump(SAMPLER))
            evaluate(tmp_path / "row.json", "--sampler", tmp_path / "sampler.yaml", "--seeds", f"0-{last}")
            assert ("warning: FID of 64 generated images" in capsys.readouterr().err) == warned

    def test_a_teacher_of_files_is_refused(self, folder, tmp_path, capsys):
        (tmp_path / "teacher.yaml").write_text(yaml.safe_dump(TEACHER))
        line = refusal(capsys, "evaluate", "--images", folder, "--teacher", tmp_path / "teacher.yaml")
        assert "--teacher is compared with a --sampler's images from the same noise" in line

    def test_files_are_looked_at_before_a_reference_is_computed(self, tmp_path, capsys):
        options = ["--images", tmp_path / "none.zip", "--accelerator", "cpu"]
        assert "no such folder or zip" in refusal(capsys, "evaluate", *options)
        call("evaluate", *options)
        assert "reference:" not in capsys.readouterr().err

    def test_metrics_are_checked(self, folder, capsys):
        line = refusal(capsys, "evaluate", "--images", folder, "--accelerator", "cpu", "--metrics", "[fid,fd]")
        assert "unknown metric 'fd': use one of fid, is, kid, precision_recall" in line
