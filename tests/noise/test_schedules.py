"""Schedules against formulas written down independently, and what every schedule owes to its users."""

import math
from bisect import bisect
from itertools import accumulate
from operator import mul

import pytest
import torch

from amed_lightning.config import build
from amed_lightning.noise.schedules import (
    FIRST_TIME,
    SCHEDULES,
    Discrete,
    Logsnr,
    NoiseRange,
    Polynomial,
    TimeUniform,
    levels,
    scaled_linear_log_alphas,
)

EDM = (0.002, 80.0)
TABLE = scaled_linear_log_alphas()
SPECS = [
    {"name": "polynomial"},
    {"name": "polynomial", "rho": 1.0},
    {"name": "logsnr"},
    {"name": "time_uniform"},
    {"name": "time_uniform", "rho": 2.0},
    {"name": "discrete"},
]
every_schedule = pytest.mark.parametrize("spec", SPECS, ids=str)


def grid(spec, num_intervals, ends=EDM):
    return levels(build("schedule", SCHEDULES, spec), num_intervals, NoiseRange(*ends, TABLE))


def stable_diffusion_alphas():
    """Cumulative alphas at times 1/1000, ..., 1."""
    roots = [math.sqrt(0.00085) + i / 999 * (math.sqrt(0.012) - math.sqrt(0.00085)) for i in range(1000)]
    return list(accumulate((1 - root**2 for root in roots), mul))


def discrete_time(sigma):
    """Invert sigma(t), straight lines in half the log of alpha, which the outermost two continue beyond the ends."""
    half_logs = [math.log(alpha) / 2 for alpha in stable_diffusion_alphas()]
    wanted = -math.log(1 + sigma**2) / 2
    left = min(max(bisect([-h for h in half_logs], -wanted) - 1, 0), 998)
    fraction = (wanted - half_logs[left]) / (half_logs[left + 1] - half_logs[left])
    return (left + 1 + fraction) / 1000


def test_every_schedule_is_under_test():
    lists = {"explicit", "gits"}  # see test_lists.py
    assert {spec["name"] for spec in SPECS} | lists == set(SCHEDULES)


class TestEverySchedule:
    @every_schedule
    @pytest.mark.parametrize("ends", [EDM, (0.01, 20.0)], ids=str)
    @pytest.mark.parametrize("num_intervals", [1, 2, 5, 18])
    def test_the_ends_are_exact_and_the_levels_decrease_in_double_precision(self, spec, num_intervals, ends):
        sigmas = grid(spec, num_intervals, ends)
        assert sigmas.shape == (num_intervals + 1,)
        assert sigmas.dtype == torch.float64
        assert (sigmas[0].item(), sigmas[-1].item()) == (ends[1], ends[0])
        assert (sigmas.diff() < 0).all()

    @every_schedule
    def test_the_grid_with_inner_levels_contains_the_coarse_grid_bit_for_bit(self, spec):
        different = [
            (num_intervals, parts - 1)
            for num_intervals in range(1, 41)
            for parts in range(2, 10)
            if not grid(spec, num_intervals * parts)[::parts].equal(grid(spec, num_intervals))
        ]
        assert different == []

    @every_schedule
    def test_fewer_than_one_interval_is_refused(self, spec):
        with pytest.raises(ValueError, match="at least one interval, got 0"):
            grid(spec, 0)

    @pytest.mark.parametrize("ends", [(2.0, 0.5), (1.0, 1.0), (0.0, 80.0), (-1.0, 80.0)])
    def test_a_range_that_does_not_increase_from_above_zero_is_refused(self, ends):
        with pytest.raises(ValueError, match="not positive and increasing"):
            NoiseRange(*ends)

    def test_levels_that_do_not_decrease_are_refused(self):
        class Constant:
            def sigmas(self, u, noise_range):
                return torch.ones_like(u)

        with pytest.raises(ValueError, match="do not decrease"):
            levels(Constant(), 3, NoiseRange(*EDM))


class TestFormulas:
    @pytest.mark.parametrize("rho", [1.0, 3.0, 7.0])
    def test_polynomial_is_uniform_in_a_root_of_sigma(self, rho):
        low, high = (end ** (1 / rho) for end in EDM)
        expected = [(high + i / 10 * (low - high)) ** rho for i in range(11)]
        assert levels(Polynomial(rho), 10, NoiseRange(*EDM)).tolist() == pytest.approx(expected, rel=1e-12)

    def test_polynomial_is_edms_by_default(self):
        assert Polynomial() == Polynomial(7.0)

    def test_logsnr_is_geometric(self):
        sigmas = levels(Logsnr(), 12, NoiseRange(*EDM)).tolist()
        expected = [math.exp(math.log(80) + i / 12 * math.log(0.002 / 80)) for i in range(13)]
        assert sigmas == pytest.approx(expected, rel=1e-12)

    @pytest.mark.parametrize("rho", [1.0, 2.0])
    @pytest.mark.parametrize("ends", [EDM, (0.01, 150.0)], ids=str)
    def test_time_uniform_is_uniform_in_a_root_of_the_variance_preserving_time(self, rho, ends):
        first = 1e-3
        system = torch.tensor([[first**2 / 2, first], [1 / 2, 1]], dtype=torch.float64)
        logs = torch.tensor([math.log1p(end**2) for end in ends], dtype=torch.float64)
        beta_d, beta_min = torch.linalg.solve(system, logs).tolist()

        def time(sigma):
            return (math.sqrt(beta_min**2 + 2 * beta_d * math.log1p(sigma**2)) - beta_min) / beta_d

        times = [time(sigma) ** (1 / rho) for sigma in levels(TimeUniform(rho), 10, NoiseRange(*ends)).tolist()]
        expected = [1 + i / 10 * (first ** (1 / rho) - 1) for i in range(11)]
        assert first == FIRST_TIME
        assert times == pytest.approx(expected, rel=1e-9)

    def test_edms_range_gives_the_published_betas_back(self):
        """sigma(t) of beta_d = 19.9, beta_min = 0.1 at t = 1/2, through its own ends."""

        def sigma(t):
            return math.sqrt(math.expm1(19.9 / 2 * t**2 + 0.1 * t))

        middle = TimeUniform().sigmas(
            torch.tensor([0.5 / 0.999], dtype=torch.float64), NoiseRange(sigma(1e-3), sigma(1.0))
        )
        assert middle.item() == pytest.approx(sigma(0.5), rel=1e-9)


class TestDiscrete:
    def test_the_table_is_stable_diffusions(self):
        alphas = stable_diffusion_alphas()
        assert list(scaled_linear_log_alphas()) == pytest.approx([math.log(alpha) / 2 for alpha in alphas], rel=1e-11)
        assert math.sqrt((1 - alphas[-1]) / alphas[-1]) == pytest.approx(14.61, abs=0.005)

    @pytest.mark.parametrize("ends", [(0.0292, 14.6146), (0.1, 5.0), EDM], ids=str)
    def test_it_is_uniform_in_the_models_own_time_within_and_beyond_the_table(self, ends):
        times = [discrete_time(sigma) for sigma in levels(Discrete(), 10, NoiseRange(*ends, TABLE)).tolist()]
        expected = [times[0] + i / 10 * (times[-1] - times[0]) for i in range(11)]
        assert times == pytest.approx(expected, rel=1e-7)

    def test_the_ends_of_the_table_are_the_times_one_and_one_thousandth(self):
        low, high = (math.sqrt(math.expm1(-2 * TABLE[index])) for index in (0, -1))
        assert high == pytest.approx(14.61, abs=0.005)
        assert [discrete_time(sigma) for sigma in (low, high)] == pytest.approx([1e-3, 1.0], rel=1e-9)
        middle = levels(Discrete(), 999, NoiseRange(low, high, TABLE))
        assert middle.flip(0).tolist() == pytest.approx([math.sqrt(math.expm1(-2 * half)) for half in TABLE], rel=1e-9)

    def test_the_warp_takes_no_root_of_the_first_time_as_published(self):
        ends, rho = (0.1, 5.0), 2.0
        first, last = discrete_time(ends[1]), discrete_time(ends[0])
        inner = levels(Discrete(rho), 4, NoiseRange(*ends, TABLE))[2:-1].tolist()
        expected = [(first + i / 4 * (last ** (1 / rho) - first)) ** rho for i in (2, 3)]
        assert [discrete_time(sigma) for sigma in inner] == pytest.approx(expected, rel=1e-7)

    def test_a_model_without_a_table_is_refused(self):
        with pytest.raises(ValueError, match="needs a model with a table"):
            levels(Discrete(), 4, NoiseRange(*EDM))
