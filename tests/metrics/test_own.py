"""A user's own metric, by its import path: beside the package's, in a sweep's rows, tables and comparisons."""

import csv
import io
import json

import pytest
import torch
import yaml
from safetensors.torch import save_file

from amed_lightning.bench.cell import prepare
from amed_lightning.bench.compare import compare
from amed_lightning.bench.render import comma_separated, markdown
from amed_lightning.bench.results import Results, lines_of, write_plan
from amed_lightning.bench.suite import load_suite
from amed_lightning.bench.sweep import run
from amed_lightning.bench.table import tables
from amed_lightning.config import InputError
from amed_lightning.data.digits import digits
from amed_lightning.metrics.files import digits_classifier
from amed_lightning.metrics.reference import build_evaluator

from ..bench.suites import CPU, Alone, entry, write_suite
from ..data.files import write_folder
from . import own

DIGITS = {"name": "digits"}
BRIGHTNESS, NEARNESS = "tests.metrics.own.Brightness", "tests.metrics.own.Nearness"
ABOVE = {"name": BRIGHTNESS, "above": 7.5}


def scored(metrics, count=50, dataset=DIGITS):
    evaluator = build_evaluator(DIGITS, dataset, metrics)
    scores = evaluator.scores(count)
    for numbers in torch.arange(count).split(20):
        scores.update(digits()[0][numbers], numbers)
    return evaluator, scores


class TestScores:
    def test_it_stands_beside_the_others_and_its_options_count(self):
        values = scored(["fid", ABOVE])[1].compute()
        assert values["brightness"] == pytest.approx(digits()[0][:50].double().mean().item() - 7.5)
        assert values["fid"] == scored(["fid", "is"])[1].compute()["fid"]

    def test_its_own_detector_sees_the_real_images_and_has_sums_of_its_own(self):
        _, scores = scored(["fid", NEARNESS])
        detector, _ = digits_classifier()
        means = [detector(images).features.double().mean(0) for images in (digits()[0][:50], digits()[0])]
        assert scores.compute()["nearness"] == pytest.approx(float((means[0] - means[1]).norm()), rel=1e-5)
        assert {"count", f"{NEARNESS}.count"} < scores.sums().keys()

    def test_its_own_reference_is_taken(self, tmp_path):
        folder = write_folder(tmp_path, digits()[0][:50])
        spec = {"name": NEARNESS, "reference": {"name": "images", "path": str(folder)}}
        assert scored([spec])[1].compute()["nearness"] == pytest.approx(0, abs=1e-4)

    def test_other_options_and_other_real_images_are_another_examiner(self, tmp_path):
        folder = write_folder(tmp_path, digits()[0][:50])
        specs = [BRIGHTNESS, ABOVE, NEARNESS, {"name": NEARNESS, "reference": {"name": "images", "path": str(folder)}}]
        assert len({build_evaluator(DIGITS, DIGITS, ["fid", "is", spec]).digest for spec in specs}) == len(specs)

    def test_a_sum_of_its_own_is_no_other_metric_s(self):
        values = scored(["fid", "tests.metrics.own.Counted"])[1].compute()
        assert values["fid"] == scored(["fid"])[1].compute()["fid"]
        assert values["brightness"] == pytest.approx(digits()[0][:50].double().mean().item())

    def test_an_option_is_its_own_whatever_it_is_called(self, tmp_path):
        paths = [tmp_path / "one", tmp_path / "two"]
        specs = [{"name": "tests.metrics.own.FromFile", "path": str(path)} for path in paths]
        for number, path in enumerate(paths):
            path.write_text(str(number))
        assert len({build_evaluator(DIGITS, DIGITS, [spec]).digest for spec in specs}) == 2

    def test_its_own_detector_counts_where_no_option_names_it(self, tmp_path, monkeypatch):
        name, digests = "tests.metrics.own.Kept", []
        for factor in (1, 2):
            path = tmp_path / f"{factor}.safetensors"
            shipped = digits_classifier()[0].state_dict()
            save_file({key: factor * value for key, value in shipped.items()}, path)
            monkeypatch.setattr(own.Kept, "detector", {"name": "digits", "path": str(path)})
            digests.append(build_evaluator(DIGITS, DIGITS, [name]).digest)
        assert digests[0] != digests[1]

    def test_real_images_of_its_own_have_the_images_shape(self, tmp_path):
        folder = write_folder(tmp_path, digits()[0][:50].repeat_interleave(2, 2).repeat_interleave(2, 3))
        looks = {"name": "tests.metrics.own.OfAnything", "reference": {"name": "images", "path": str(folder)}}
        evaluator = build_evaluator(DIGITS, DIGITS, [looks])
        with pytest.raises(InputError, match=r"images of shape \(1, 8, 8\) cannot be scored against \(1, 16, 16\)"):
            evaluator.require_shape((1, 8, 8))

    def test_statistics_of_the_common_detector_do_not_serve_its_own(self):
        shipped = {"name": "shipped", "dataset": "fashion_mnist"}
        with pytest.raises(InputError, match=r"statistics of another detector than nearness's own; .* `reference: "):
            build_evaluator({"name": "fashion_mnist"}, shipped, [NEARNESS])

    @pytest.mark.parametrize(
        ("metrics", "message"),
        [
            (
                ["tests.metrics.own.Brihgtness"],
                "unknown metric 'tests.metrics.own.Brihgtness': use one of fid, is, kid",
            ),
            ([{"name": BRIGHTNESS, "abvoe": 1}], "metric 'tests.metrics.own.Brightness': .*'abvoe': use one of above"),
            (["tests.metrics.own.no_metric"], "metric 'tests.metrics.own.no_metric': it is no amed_lightning"),
            ([BRIGHTNESS, "tests.metrics.own.Again"], "the score 'brightness' would be given twice"),
            (["fid", "fid"], "the score 'fid' would be given twice"),
        ],
    )
    def test_what_is_wrong_is_named_before_anything_is_loaded(self, metrics, message, monkeypatch):
        monkeypatch.setattr("amed_lightning.metrics.reference.load_detector", None)
        with pytest.raises(InputError, match=message):
            build_evaluator(DIGITS, DIGITS, metrics)

    def test_what_it_needs_has_to_be_there(self):
        evaluator = build_evaluator(DIGITS, DIGITS, ["tests.metrics.own.Captioned"])
        evaluator.require_given(prompts=True, pairs=False)
        with pytest.raises(InputError, match=r"metric 'tests.metrics.own.Captioned': it needs prompts"):
            evaluator.require_given(prompts=False, pairs=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own")
    suite = load_suite(write_suite(folder, entries=[entry({"name": "euler"})], metrics=["fid", "is", ABOVE]))
    benches, results = prepare(suite), Results(folder / "results")
    write_plan(suite, benches, results)
    assert run(benches, results, Alone(), CPU) == []
    return results.folder


class TestSweep:
    def test_the_yaml_says_it_and_it_keeps_its_options(self, folder):
        assert yaml.safe_load((folder.parent / "suite.yaml").read_text())["metrics"][2] == ABOVE

    def test_rows_have_the_score_with_its_error_and_say_how_it_is_shown(self, folder):
        for path in (folder / "rows").glob("*.json"):
            row = json.loads(path.read_text())
            assert {"brightness", "brightness_error", "brightness_mean"} < row["values"].keys()
            assert row["own_scores"]["brightness"]["better"] == "higher"
            assert list(row["own_scores"]) == ["brightness"]

    def test_tables_and_comparisons_show_it_without_the_suite(self, folder):
        lines = lines_of(Results(folder))
        (table,), (changes,) = tables(lines), compare(*[[line.row for line in lines]] * 2)
        assert table.header[4:] == ["FID", "IS", "RMSE", "brightness"]
        assert "brightness" in changes.header
        (row,) = (line.row for line in lines if not line.is_reference)
        shown = f"**{row.values['brightness']:.1f} ± {row.values['brightness_error']:.1f}**"
        assert shown in markdown([table]), "the best of its NFE"
        read = list(csv.DictReader(io.StringIO(comma_separated(lines))))
        assert float(read[0]["brightness"]) == row.values["brightness"]
