"""A teacher's own distance: what twice as many steps would change, and when that is too much."""

import math

import pytest
import torch

from amed_lightning.flow.probability_flow import ProbabilityFlow
from amed_lightning.noise.schedules import Polynomial, levels
from amed_lightning.sampling.config import SamplerConfig
from amed_lightning.sampling.parts import SamplerParts
from amed_lightning.seeds import Seeds, Stream
from amed_lightning.solvers.registry import SOLVERS
from amed_lightning.solvers.state import solve
from amed_lightning.teacher.accuracy import Accuracy, accuracy, halved
from amed_lightning.teacher.trajectories import TeacherConfig, recipe_for

from ..sampling.models import mixture, watched
from .stores import CPU

heun, ipndm = SOLVERS["heun"], SOLVERS["ipndm"]
SEEDS = Seeds(Stream.validation, 0, 8)


def told(inner_levels, **changes):
    model, _ = watched(mixture())
    student = {"model": {"name": "given"}, "solver": {"name": "euler"}, "schedule": {"name": "polynomial"}} | changes
    parts = SamplerParts(SamplerConfig(**student, num_intervals=3), model)
    recipe = recipe_for(parts, TeacherConfig({"name": "heun"}, inner_levels, 8))
    return parts, recipe, accuracy(parts, recipe, 4, SEEDS, CPU)


def test_distances_are_those_of_samples_of_the_same_noise():
    parts, recipe, found = told(1)
    sigmas = torch.tensor(recipe.sigmas, dtype=torch.float64)
    noise = SEEDS.noise(parts.model.shape)

    def samples(solver, own):
        flow = ProbabilityFlow(parts.model.denoiser)
        return solve(solver, flow, noise * own[0].to(noise), own).x

    fine = samples(heun(), halved(sigmas))
    plain = levels(Polynomial(), 4, parts.model.noise_range)
    for value, (solver, own) in {
        found.teacher: (heun(), sigmas),
        found.untrained: (ipndm(order=3), plain),
    }.items():
        expected = (samples(solver, own) - fine).double().square().mean().sqrt()
        assert value == pytest.approx(float(expected), rel=1e-4)
    assert found.count == 8


def test_denoise_to_zero_is_one_of_the_network_runs_and_no_part_of_a_distance():
    parts, recipe, found = told(1, denoise_to_zero=True)
    assert accuracy(parts, recipe, 5, SEEDS, CPU) == told(1)[2]
    assert found.untrained > told(1)[2].untrained, "an interval less"


def test_a_finer_teacher_stops_in_the_middle_of_every_logarithm():
    sigmas = torch.tensor([80.0, 5.0, 0.002], dtype=torch.float64)
    steps = halved(sigmas).log().diff()
    assert halved(sigmas)[::2].equal(sigmas)
    assert steps.tolist() == pytest.approx(sigmas.log().diff().repeat_interleave(2).div(2).tolist())


def test_a_teacher_of_more_steps_is_nearer_to_its_limit_by_the_square_of_them():
    coarse, fine = (told(inner)[-1].teacher for inner in (9, 19))
    assert math.log2(coarse / fine) == pytest.approx(2, abs=0.5)


def test_levels_that_are_told_leave_nothing_to_compare_with():
    explicit = {"name": "explicit", "levels": [80.0, 10.0, 1.0, 0.002]}
    *_, found = told(0, schedule=explicit)
    assert found.untrained is None
    assert len(found.lines()) == 1


def test_a_teacher_that_is_no_better_than_what_nobody_trains_is_warned_of():
    assert len(Accuracy(0.19, 0.2, 64).lines()) == 2
    said, other, warning = Accuracy(0.2, 0.2, 64).lines()
    assert said.startswith("teacher: 0.2 (RMSE, 64 seeds)")
    assert other.endswith(" 0.2")
    assert warning.startswith("warning: a student copies its teacher's error; raise teacher.inner_levels")
