"""Schedules that are lists of levels."""

import json

import pytest
import torch

from amed_lightning.config import InputError, build
from amed_lightning.noise.schedules import SCHEDULES, Explicit, NoiseRange, levels

LIST = (80.0, 10.0, 1.0, 0.002)
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


@pytest.mark.parametrize("wrong", [[80.0], [80.0, 80.0, 0.002], [1.0, 2.0], [80.0, 0.0], [80.0, -1.0]])
def test_a_list_that_does_not_decrease_to_above_zero_is_refused(wrong):
    with pytest.raises(ValueError, match=r"decreases|positive"):
        Explicit(wrong)


@pytest.mark.parametrize("ends", [(0.002, 81.0), (0.003, 80.0)])
def test_a_list_for_another_model_is_refused(ends):
    with pytest.raises(ValueError, match=r"the list goes from 80\.0 to 0\.002"):
        levels(Explicit(LIST), 3, NoiseRange(*ends))


def test_a_found_schedule_is_read_from_its_file(tmp_path):
    path = tmp_path / "gits.json"
    path.write_text(json.dumps({"sigmas": list(LIST), "metric": "l2"}))
    assert build("schedule", SCHEDULES, {"name": "gits", "path": str(path)}) == Explicit(LIST)


@pytest.mark.parametrize("content", [None, "no json", "{}", '{"sigmas": 3}', '{"sigmas": ["a"]}', '{"sigmas": [1, 2]}'])
def test_a_file_that_holds_no_schedule_is_bad_input(tmp_path, content):
    path = tmp_path / "gits.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(InputError, match="schedule 'gits'"):
        build("schedule", SCHEDULES, {"name": "gits", "path": str(path)})
