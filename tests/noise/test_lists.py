"""Schedules that are lists of levels."""

import json
import math

import pytest
import torch

from amed_lightning.config import InputError, build
from amed_lightning.noise.schedules import SCHEDULES, Explicit, Logsnr, NoiseRange, levels

from .found import CONTENT, LEVELS, write_found

LIST = LEVELS
RANGE = NoiseRange(0.002, 80.0)


def test_a_list_is_its_own_grid():
    assert levels(Explicit(LIST), 3, RANGE).tolist() == list(LIST)


@pytest.mark.parametrize("inner", [1, 2, 5])
def test_a_finer_grid_contains_the_list_and_is_uniform_in_the_seventh_root_between(inner):
    grid = levels(Explicit(LIST), 3 * (inner + 1), RANGE)
    assert grid[:: inner + 1].tolist() == list(LIST)
    for start in range(3):
        steps = (grid[start * (inner + 1) : (start + 1) * (inner + 1) + 1] ** (1 / 7)).diff()
        torch.testing.assert_close(steps, steps.mean().expand_as(steps))


@pytest.mark.parametrize("number", [1, 2, 4, 5])
def test_a_number_of_intervals_that_does_not_refine_the_list_is_refused(number):
    with pytest.raises(ValueError, match=f"the list has 3 intervals, which {number} do not refine"):
        levels(Explicit(LIST), number, RANGE)


@pytest.mark.parametrize(
    "wrong", [[80.0], [80.0, 80.0, 0.002], [1.0, 2.0], [80.0, 0.0], [80.0, -1.0], [80.0, math.nan, 0.002]]
)
def test_a_list_that_does_not_decrease_to_above_zero_is_refused(wrong):
    with pytest.raises(ValueError, match=r"decreases|positive"):
        Explicit(wrong)


@pytest.mark.parametrize("ends", [(0.002, 81.0), (0.003, 80.0)])
def test_a_list_for_another_model_is_refused(ends):
    with pytest.raises(ValueError, match=rf"from 80 to 0\.002, the model from {ends[1]:g} to {ends[0]}"):
        levels(Explicit(LIST), 3, NoiseRange(*ends))


def test_a_list_of_any_length_is_its_own_grid_to_the_last_bit():
    """A part of 49 times 49 is not 1 in floating point."""
    for length in (*range(1, 12), 49, 98, 103, 107):
        listed = levels(Logsnr(), length, RANGE).tolist()
        assert levels(Explicit(listed), length, RANGE).tolist() == listed
        assert levels(Explicit(listed), 3 * length, RANGE)[::3].tolist() == listed


class TestFound:
    def test_it_is_read_with_how_it_was_found_and_what_for(self, tmp_path):
        path = write_found(tmp_path / "gits.json", afs=True)
        schedule = build("schedule", SCHEDULES, {"name": "gits", "path": str(path)})
        assert levels(schedule, 3, RANGE).tolist() == list(LIST)
        assert (schedule.found.metric, schedule.found.gamma) == ("dev", 1.15)
        assert schedule.made_for == {
            "model": "of another",
            "afs": True,
            "num_intervals": 3,
            "solver": {"name": "euler"},
        }

    def test_without_an_analytic_first_step_it_serves_every_solver(self, tmp_path):
        path = write_found(tmp_path / "gits.json")
        assert "solver" not in build("schedule", SCHEDULES, {"name": "gits", "path": str(path)}).made_for

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"metric": "L2"}, "metric L2 does not exist; use dev, l1, l2"),
            ({"gamma": math.nan}, "NaN is not finite"),
            ({"gamma": math.inf}, "Infinity is not finite"),
            ({"gamma": 0}, "gamma 0 are finite numbers, and gamma is above zero"),
            ({"gamma": "1.15"}, r"gamma is '1\.15'"),
            ({"sigmas": [80.0, math.nan, 0.002]}, "NaN is not finite"),
            ({"sigmas": [80.0, "1", 0.002]}, "sigmas is"),
            ({"sigmas": [80.0, 1.0, 2.0, 0.002]}, "decreases"),
            ({"sigmas": [80.0, 1.0, -0.002]}, "positive"),
            ({"sigmas": 3}, "sigmas is 3"),
            ({"afs": "no"}, "afs is 'no'"),
            ({"solver": "euler"}, "solver is 'euler'"),
            ({"teacher": {"order": 4}}, "teacher {'order': 4} has no name"),
        ],
    )
    def test_a_file_whose_content_cannot_be_is_refused_in_one_line_that_names_it(self, tmp_path, changes, message):
        path = write_found(tmp_path / "gits.json", **changes)
        with pytest.raises(InputError, match=rf"schedule 'gits': .*gits\.json: .*{message}") as refusal:
            build("schedule", SCHEDULES, {"name": "gits", "path": str(path)})
        assert "\n" not in str(refusal.value)

    @pytest.mark.parametrize("missing", ["metric", "gamma", "model", "fine_intervals"])
    def test_what_a_file_does_not_say_is_not_assumed(self, tmp_path, missing):
        path = tmp_path / "gits.json"
        path.write_text(json.dumps({key: value for key, value in CONTENT.items() if key != missing}))
        with pytest.raises(InputError, match=f"it lacks {missing}; search it again"):
            build("schedule", SCHEDULES, {"name": "gits", "path": str(path)})

    @pytest.mark.parametrize("content", [None, "no json", "{}", "[]", "3"])
    def test_a_file_that_holds_no_schedule_is_bad_input(self, tmp_path, content):
        path = tmp_path / "gits.json"
        if content is not None:
            path.write_text(content)
        with pytest.raises(InputError, match="not a schedule that `amed-lightning schedule` wrote"):
            build("schedule", SCHEDULES, {"name": "gits", "path": str(path)})

    def test_ends_that_are_not_the_models_are_refused(self, tmp_path):
        schedule = build("schedule", SCHEDULES, {"name": "gits", "path": str(write_found(tmp_path / "gits.json"))})
        with pytest.raises(ValueError, match="the model from 81 to"):
            levels(schedule, 3, NoiseRange(0.002, 81.0))
