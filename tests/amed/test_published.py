"""The published predictors' pickles become our predictors, and their settings our samplers'."""

import math
import os

import pytest
import torch

from amed_lightning.amed.predictor import AMEDPredictor
from amed_lightning.amed.published import read_published_predictor
from amed_lightning.config import InputError

from ..denoisers.persistent import Persistent, write_pickle
from ..denoisers.published import AMED_SETTINGS, amed_predictor


def weights(scale_dir=0.01, scale_time=0.0):
    torch.manual_seed(3)
    made = AMEDPredictor(64, scale_dir, scale_time)
    for tensor in made.parameters():
        torch.nn.init.normal_(tensor, std=0.3)
    return made


def written(folder, scales=(0.01, 0.0), **changes):
    made = weights(*scales)
    return made, amed_predictor(folder / "network-snapshot-000010.pkl", AMED_SETTINGS | changes, made.state_dict())


class TestReading:
    @pytest.mark.parametrize("scales", [(0.0, 0.0), (0.01, 0.0), (0.0, 0.2), (0.01, 0.2)])
    def test_every_weight_arrives_and_comes_frozen(self, tmp_path, scales):
        made, path = written(tmp_path, scales, scale_dir=scales[0], scale_time=scales[1])
        read = read_published_predictor(path).predictor
        torch.testing.assert_close(dict(read.state_dict()), dict(made.state_dict()), rtol=0, atol=0)
        assert (read.scale_dir, read.scale_time) == scales
        assert not any(tensor.requires_grad for tensor in read.parameters())

    @pytest.mark.parametrize(
        ("changes", "solver", "schedule"),
        [
            ({}, {"name": "amed"}, {"name": "time_uniform", "rho": 1.0}),
            ({"sampler_stu": "euler", "schedule_type": "logsnr"}, {"name": "euler"}, {"name": "logsnr"}),
            (
                {"sampler_stu": "dpm", "sampler_tea": "dpm", "schedule_type": "polynomial", "schedule_rho": 7},
                {"name": "dpm_solver_2"},
                {"name": "polynomial", "rho": 7.0},
            ),
            (
                {"sampler_stu": "ipndm", "sampler_tea": "ipndm", "max_order": 4, "schedule_type": "discrete"},
                {"name": "ipndm", "order": 4},
                {"name": "discrete", "rho": 1.0},
            ),
            (
                {"sampler_stu": "dpmpp", "max_order": 2, "predict_x0": False, "lower_order_final": False},
                {"name": "dpm_solver_pp", "order": 2, "prediction": "noise", "lower_order_final": False},
                {"name": "time_uniform", "rho": 1.0},
            ),
            (
                {"sampler_stu": "dpmpp", "max_order": 3},
                {"name": "dpm_solver_pp", "order": 3, "prediction": "data", "lower_order_final": True},
                {"name": "time_uniform", "rho": 1.0},
            ),
        ],
    )
    def test_settings_are_a_sampler(self, tmp_path, changes, solver, schedule):
        read = read_published_predictor(written(tmp_path, **changes)[1])
        assert (read.solver, read.schedule) == (solver, schedule)
        assert (read.num_intervals, read.afs) == (3, True)
        assert read.training["dataset_name"] == "cifar10"
        assert read.training["sampler_tea"] == changes.get("sampler_tea", "heun")

    @pytest.mark.parametrize(
        ("changes", "scales"),
        [
            ({"scale_time": True}, (0.01, 0.2)),
            ({"scale_time": False}, (0.01, 0.0)),
            ({"scale_time": True, "sampler_stu": "dpmpp", "max_order": 2}, (0.05, 0.2)),
            ({"scale_time": True, "sampler_stu": "dpmpp", "max_order": 2, "predict_x0": False}, (0.01, 0.2)),
        ],
    )
    def test_the_first_predictors_had_fixed_bounds(self, tmp_path, changes, scales):
        settings = {name: value for name, value in (AMED_SETTINGS | changes).items() if name != "scale_dir"}
        path = amed_predictor(tmp_path / "old.pkl", settings, weights(*scales).state_dict())
        read = read_published_predictor(path).predictor
        assert (read.scale_dir, read.scale_time) == scales


class TestRefusal:
    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"sampler_stu": "heun"}, "unknown solver 'heun'"),
            ({"num_steps": None}, "not an AMED predictor"),
            ({"num_steps": 1}, "it counts levels, two at least"),
            ({"scale_time": 0.2}, "fc_scale_time"),
            ({"scale_dir": "wide"}, "wide"),
            ({"schedule_rho": None}, "not an AMED predictor"),
            ({"schedule_rho": math.inf}, "schedule_rho is inf"),
            ({"scale_dir": math.nan}, "scale_dir is nan"),
        ],
    )
    def test_settings_that_make_no_sense_are_refused(self, tmp_path, changes, message):
        path = amed_predictor(tmp_path / "other.pkl", AMED_SETTINGS | changes, weights().state_dict())
        with pytest.raises(InputError, match=rf"other\.pkl: .*{message}") as refusal:
            read_published_predictor(path)
        assert len(str(refusal.value).splitlines()) == 1

    @pytest.mark.parametrize("wrong", [math.nan, math.inf])
    def test_weights_that_are_not_finite_are_refused(self, tmp_path, wrong):
        made = weights()
        torch.nn.init.constant_(made.fc_r.bias, wrong)
        path = amed_predictor(tmp_path / "other.pkl", AMED_SETTINGS, made.state_dict())
        with pytest.raises(InputError, match=r"other\.pkl: .* 'fc_r\.bias' have a NaN or an infinity$"):
            read_published_predictor(path)

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (lambda: {"ema": 3}, "there is no 'model'"),
            (lambda: {"model": Persistent("EDMPrecond")}, "a 'EDMPrecond' where an AMED_predictor is expected"),
            (lambda: {"model": Persistent("AMED_predictor")}, "there is no '"),
            (lambda: {"model": os.system}, "names 'posix.system'"),
        ],
    )
    def test_another_object_is_refused(self, tmp_path, content, message):
        path = write_pickle(tmp_path / "other.pkl", content)
        with pytest.raises(InputError, match=rf"other\.pkl: .*{message}"):
            read_published_predictor(path)
