"""What a sweep will take is told before it starts, even where its weights are not there."""

import os
from dataclasses import replace

import pytest
import torch

from amed_lightning.bench import forecast as dry_run
from amed_lightning.bench.forecast import estimates
from amed_lightning.bench.suite import load_suite
from amed_lightning.config import InputError
from amed_lightning.denoisers.arithmetic import Arithmetic
from amed_lightning.denoisers.prompts import PromptLists

from ..sampling.models import mixture, watched
from .suites import DATASET, entry, write_suite

pytestmark = pytest.mark.usefixtures("unchecked")

CPU = torch.device("cpu")
PLUGIN = {"name": "ipndm", "learned": "nowhere-{nfe}.json"}
EULER = {"name": "euler"}


def estimate(tmp_path, *entries, seconds_per_run=0.5, **changes):
    suite = load_suite(write_suite(tmp_path, **({"entries": list(entries)} if entries else {}), **changes))
    (expected,) = estimates(suite, CPU, seconds_per_run)
    return expected


class TestCounts:
    def test_cells_images_and_network_runs_are_the_suite_s(self, tmp_path):
        expected = estimate(tmp_path)
        assert [cell.nfe for cell in expected.cells] == [12, 3, 4, 3, 4]
        assert expected.images == 5 * 48
        assert expected.network_runs == (12 + 3 + 4 + 3 + 4) * 48

    def test_hours_are_micro_batches_times_network_runs_times_the_seconds_of_one(self, tmp_path):
        assert estimate(tmp_path).hours == pytest.approx(26 * 4 * 0.5 / 3600)

    def test_neither_predictors_nor_the_detector_need_to_be_there(self, tmp_path):
        detector = {"name": "digits", "path": "nowhere.safetensors"}
        expected = estimate(tmp_path, entry(PLUGIN), detector=detector)
        assert [cell.label for cell in expected.cells] == ["heun", "ipndm-4 + plugin"]

    def test_excluded_cells_cost_nothing(self, tmp_path):
        excluded = [{"reason": "it diverges", "nfe": [3]}]
        expected = estimate(tmp_path, excluded=excluded)
        assert [cell.nfe for cell in expected.excluded] == [3, 3]
        assert expected.network_runs == (12 + 4 + 4) * 48

    def test_bytes_are_those_of_sums_and_of_the_reference_s_images(self, tmp_path):
        expected = estimate(tmp_path, entry(EULER))
        assert expected.sum_bytes == 2 * 64 * 65 * 8
        assert expected.image_bytes == 48 * 64 * 4
        assert estimate(tmp_path, entry(EULER), reference=None).image_bytes == 0

    def test_a_metric_that_needs_features_keeps_them(self, tmp_path):
        plain, kid = (
            estimate(tmp_path, entry(EULER), metrics=metrics).sum_bytes for metrics in (["fid"], ["fid", "kid"])
        )
        assert kid - plain == 48 * 64 * 4


class TestModels:
    def test_without_weights_cells_and_network_runs_are_still_told_and_why_the_rest_is_not(self, tmp_path):
        expected = estimate(tmp_path, seconds_per_run=None, model={"name": "file", "path": "nowhere.json"})
        assert expected.network_runs == 26 * 48
        assert "nowhere.json: no such file" in expected.unknown
        assert (expected.hours, expected.image_bytes, expected.seconds_per_run) == (None, None, None)

    def test_a_published_one_is_known_by_its_card_and_nothing_is_fetched(self, tmp_path, monkeypatch):
        monkeypatch.setenv("AMED_CACHE", str(tmp_path / "cache"))
        monkeypatch.delenv("AMED_OFFLINE", raising=False)
        model = {"name": "pretrained", "card": "cifar10"}
        expected = estimate(tmp_path, entry(EULER), seconds_per_run=None, model=model)
        assert expected.image_bytes == 48 * 3 * 32 * 32 * 4
        assert expected.hours is None
        assert expected.unknown.startswith("not timed: ")
        assert not (tmp_path / "cache").exists()
        assert "AMED_OFFLINE" not in os.environ

    def test_its_network_runs_per_evaluation_are_known_too(self, tmp_path):
        model = {"name": "guided", "of": {"name": "pretrained", "card": "imagenet64"}, "scale": 2.0}
        with pytest.raises(InputError, match="costs 2 network runs, which do not divide 5"):
            estimate(tmp_path, entry(EULER, 5), model=model)

    def test_a_card_tells_intervals_and_the_size_of_decoded_images(self, tmp_path):
        expected = estimate(tmp_path, entry(PLUGIN, 12), model={"name": "pretrained", "card": "ms_coco"})
        assert expected.image_bytes == 48 * 3 * 512 * 512 * 4
        assert [cell.intervals(expected.cost) for cell in expected.cells] == [3, 3]

    def test_seconds_that_are_given_make_hours_without_weights(self, tmp_path):
        assert estimate(tmp_path, model={"name": "file", "path": "nowhere.json"}).hours > 0

    def test_one_that_does_not_exist_is_an_error(self, tmp_path):
        with pytest.raises(InputError, match="unknown model 'digts'"):
            estimate(tmp_path, model={"name": "digts"})

    @pytest.mark.parametrize("kind", ["detector", "dataset"])
    def test_nor_may_what_scores_the_images_be_unknown(self, tmp_path, kind):
        with pytest.raises(InputError, match=f"unknown {kind} 'digts'"):
            estimate(tmp_path, **{kind: {"name": "digts"}})

    def test_an_impossible_number_of_network_runs_is_refused_already_here(self, tmp_path):
        with pytest.raises(InputError, match=r"solver 'heun' at 3 NFE: .*nearest"):
            estimate(tmp_path, entry({"name": "heun"}, 3))

    def test_a_micro_batch_is_timed_where_the_model_is_there(self, tmp_path, monkeypatch):
        clock = iter([10.0, 13.0, 14.0])
        monkeypatch.setattr(dry_run.time, "monotonic", lambda: next(clock))
        expected = estimate(tmp_path, entry(EULER), seconds_per_run=None)
        assert expected.seconds_per_run == 1.0, "the second run, without what the first sets up"

    def test_a_run_of_a_guided_model_is_half_an_evaluation(self, tmp_path, monkeypatch):
        clock = iter([10.0, 13.0, 14.0])
        monkeypatch.setattr(dry_run.time, "monotonic", lambda: next(clock))
        model = {"name": "guided", "of": {"name": "digits_conditional"}, "scale": 2.0}
        expected = estimate(tmp_path, entry(EULER), seconds_per_run=None, model=model)
        assert expected.seconds_per_run == 0.5

    def test_a_model_is_timed_on_the_prompts_that_it_is_evaluated_with(self, monkeypatch):
        model, calls = watched(replace(mixture(), prompts=PromptLists(("a", "b"), ("c",))))
        monkeypatch.setitem(dry_run.DENOISERS, "watched", lambda: model)
        dry_run._timed(Arithmetic(), {"name": "watched"}, 3, CPU)
        assert [condition.tolist() for condition in calls.conditions] == [[2, 2, 2]] * 2

    def test_every_dataset_has_an_estimate(self, tmp_path):
        datasets = [DATASET, DATASET | {"name": "blue", "batch_size": 6}]
        grey, blue = estimates(load_suite(write_suite(tmp_path, datasets=datasets)), CPU, 0.5)
        assert blue.hours == 2 * grey.hours
