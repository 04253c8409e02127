"""Schedules against formulas written down independently, and what every schedule owes to its users."""

import math
from bisect import bisect
from dataclasses import dataclass
from itertools import accumulate
from operator import mul

import diffusers
import numpy as np
import pytest
import torch
from diffusers.pipelines.flux.pipeline_flux import calculate_shift

from amed_lightning.config import InputError, build
from amed_lightning.noise.schedules import (
    FIRST_TIME,
    ROUNDING,
    SCHEDULES,
    Discrete,
    Flow,
    Logsnr,
    NoiseRange,
    Polynomial,
    TimeUniform,
    levels,
    scaled_linear_log_alphas,
)
from amed_lightning.noise.shift import dynamic_shift

EDM, WITHIN = (0.002, 80.0), (0.1, 10.0)
"""Levels of EDM, which reach beyond Stable Diffusion's table, and ones that lie within it."""
TABLE = scaled_linear_log_alphas()
FORMS = ("published", "textbook")
SPECS = [
    {"name": "polynomial"},
    {"name": "polynomial", "rho": 1.0},
    {"name": "logsnr"},
    {"name": "time_uniform"},
    {"name": "time_uniform", "rho": 2.0},
    {"name": "discrete"},
    {"name": "discrete", "rho": 2.0, "form": "published"},
    {"name": "discrete", "rho": 2.0, "form": "textbook"},
    {"name": "flow"},
    {"name": "flow", "shift": 3.0},
    {"name": "flow", "tokens": 1024},
]
OWN_START = [spec for spec in SPECS if spec.get("form") == "published"]
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
        assert sigmas[-1].item() == ends[0]
        assert (sigmas[0].item() == ends[1]) == (spec not in OWN_START)
        assert (sigmas.diff() < 0).all()

    @every_schedule
    def test_the_grid_with_inner_levels_contains_the_coarse_grid_bit_for_bit(self, spec):
        pairs = [(number, 2 + number % 8) for number in range(1, 41)]
        different = [
            (number, parts)
            for number, parts in pairs
            if not grid(spec, number * parts)[::parts].equal(grid(spec, number))
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

    @pytest.mark.parametrize("table", [(-0.1,), (-0.1, -0.1), (-0.2, -0.1), (-0.1, math.nan)])
    def test_a_table_of_alphas_that_does_not_decrease_is_refused(self, table):
        with pytest.raises(ValueError, match="table of alphas has at least two entries and decreases"):
            NoiseRange(*EDM, table)


@dataclass(frozen=True)
class Own:
    """A user's schedule: geometric between ends of its own, in a precision of its own."""

    first: float = 80.0
    last: float = 0.002
    dtype: torch.dtype = torch.float64

    def sigmas(self, u, noise_range):
        return (self.first * (self.last / self.first) ** u).to(self.dtype)


class TestEnds:
    @pytest.mark.parametrize("own", [Own(first=79.0), Own(first=81.0), Own(last=0.0021)], ids=str)
    def test_ends_that_are_not_the_models_are_refused_and_both_named(self, own):
        named = rf"from {own.first:g} to {own.last:g}, the model from 80 to 0\.002"
        with pytest.raises(ValueError, match=named):
            levels(own, 4, NoiseRange(*EDM))

    def test_ends_that_differ_by_rounding_are_the_models_and_by_more_than_the_bound_are_not(self):
        for near in (Own(first=80 * (1 + 0.9 * ROUNDING)), Own(last=0.002 * (1 - 0.9 * ROUNDING))):
            sigmas = levels(near, 4, NoiseRange(*EDM))
            assert (sigmas[0].item(), sigmas[-1].item()) == (80.0, 0.002)
        for far in (Own(first=80 * (1 + 1.1 * ROUNDING)), Own(last=0.002 * (1 - 1.1 * ROUNDING))):
            with pytest.raises(ValueError, match="a schedule has the model's ends"):
                levels(far, 4, NoiseRange(*EDM))

    def test_a_schedule_in_single_precision_gives_levels_in_double_with_the_models_ends(self):
        sigmas = levels(Own(dtype=torch.float32), 4, NoiseRange(*EDM))
        assert sigmas.dtype == torch.float64
        assert (sigmas[0].item(), sigmas[-1].item()) == (80.0, 0.002)
        assert sigmas.tolist() == pytest.approx(levels(Own(), 4, NoiseRange(*EDM)).tolist(), rel=1e-6)

    def test_levels_that_do_not_decrease_between_their_ends_are_refused(self):
        class Bump(Own):
            def sigmas(self, u, noise_range):
                return torch.where((u > 0) & (u < 1), 0.5 + u, super().sigmas(u, noise_range))

        with pytest.raises(ValueError, match="do not decrease"):
            levels(Bump(), 4, NoiseRange(*EDM))


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

    @pytest.mark.parametrize("rho", [2.0, 3.0, 0.5])
    def test_the_textbook_warps_both_ends_and_the_published_form_takes_no_root_of_the_first(self, rho):
        first, last = (discrete_time(sigma) for sigma in reversed(WITHIN))
        for form, start in (("textbook", first ** (1 / rho)), ("published", first)):
            sigmas = levels(Discrete(rho, form), 4, NoiseRange(*WITHIN, TABLE)).tolist()
            expected = [(start + i / 4 * (last ** (1 / rho) - start)) ** rho for i in range(5)]
            assert [discrete_time(sigma) for sigma in sigmas] == pytest.approx(expected, rel=1e-7)

    def test_the_published_grid_starts_below_the_largest_level(self):
        sigmas = levels(Discrete(2.0), 3, NoiseRange(*WITHIN, TABLE)).tolist()
        assert sigmas == pytest.approx([7.23490375, 1.29598508, 0.44565977, 0.1], abs=1e-8)
        textbook = levels(Discrete(2.0, "textbook"), 3, NoiseRange(*WITHIN, TABLE)).tolist()
        assert textbook == pytest.approx([10.0, 1.42411768, 0.46444796, 0.1], abs=1e-8)

    @pytest.mark.parametrize(
        "ends", [WITHIN, (math.sqrt(math.expm1(-2 * TABLE[0])), math.sqrt(math.expm1(-2 * TABLE[-1])))]
    )
    def test_both_forms_are_one_where_no_root_is_missing(self, ends):
        rho = 1.0 if ends == WITHIN else 2.0
        published, textbook = (levels(Discrete(rho, form), 5, NoiseRange(*ends, TABLE)) for form in FORMS)
        torch.testing.assert_close(published, textbook, rtol=1e-12, atol=0)
        assert published[0].item() == ends[1]

    def test_another_form_is_refused(self):
        with pytest.raises(InputError, match=r"form: expected one of published, textbook, got book"):
            build("schedule", SCHEDULES, {"name": "discrete", "form": "book"})

    def test_a_model_without_a_table_is_refused(self):
        with pytest.raises(ValueError, match="needs a model with a table"):
            levels(Discrete(), 4, NoiseRange(*EDM))


class TestFlow:
    """Published pipelines have times from 1 on and end at 0; ours has the model's ends, and theirs in between."""

    def test_an_interval_is_as_long_in_time_as_any_other_before_the_shift(self):
        sigmas = levels(Flow(3.0), 5, NoiseRange(0.01, 300.0))
        times = (sigmas / 3) / (1 + sigmas / 3)
        torch.testing.assert_close(times.diff(), times.diff().mean().expand(5))

    @pytest.mark.parametrize("shift", [1.0, 3.0, 0.5])
    @pytest.mark.parametrize("steps", [4, 28])
    def test_its_times_are_those_of_diffusers_with_a_constant_shift(self, shift, steps):
        scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=shift)
        ours = [999 / 1000 * (1 - i / steps) + 1 / 1000 * i / steps for i in range(steps + 1)]
        scheduler.set_timesteps(sigmas=ours)
        ends = NoiseRange(shift / 999, shift * 999, shift=shift)
        for schedule in (Flow(shift), Flow()):
            sigmas = levels(schedule, steps, ends)
            torch.testing.assert_close(sigmas / (1 + sigmas), scheduler.sigmas[:-1].double(), rtol=2e-6, atol=0)

    @pytest.mark.parametrize("line", [{"base_shift": 0.1}, {"max_shift": 3.0, "shift": 2.0}])
    def test_a_line_without_tokens_is_refused(self, line):
        with pytest.raises(ValueError, match="a line over `tokens`"):
            Flow(**line)

    @pytest.mark.parametrize("kind", ["exponential", "linear"])
    @pytest.mark.parametrize("tokens", [64, 1024, 4096, 6000])
    def test_its_times_are_those_of_diffusers_with_a_dynamic_shift(self, kind, tokens):
        scheduler = diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, time_shift_type=kind)
        mu = calculate_shift(tokens)
        shift = dynamic_shift(tokens, kind=kind)
        ends = NoiseRange(shift / 999, shift * 999)
        sigmas = levels(Flow(tokens=tokens) if kind == "exponential" else Flow(shift), 4, ends)
        scheduler.set_timesteps(sigmas=torch.linspace(0.999, 0.001, 5).tolist(), mu=mu)
        torch.testing.assert_close(sigmas / (1 + sigmas), scheduler.sigmas[:-1].double(), rtol=2e-6, atol=0)

    def test_the_steps_of_a_published_pipeline_are_its_own_but_for_the_infinite_first_and_the_zero(self):
        """FLUX's pipeline of N steps goes through times 1, ..., 1/N before the shift, and to 0."""
        scheduler, steps, tokens = diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True), 5, 1024
        scheduler.set_timesteps(sigmas=np.linspace(1.0, 1 / steps, steps), mu=calculate_shift(tokens))
        sigmas = levels(Flow(tokens=tokens), steps, NoiseRange(1e-9, 1e9))
        torch.testing.assert_close(sigmas / (1 + sigmas), scheduler.sigmas.double(), rtol=1e-6, atol=1e-8)

    @pytest.mark.parametrize("options", [{"shift": 0.0}, {"shift": -1.0}, {"shift": 2.0, "tokens": 5}, {"tokens": 0}])
    def test_what_is_no_shift_is_refused(self, options):
        with pytest.raises(InputError, match=r"schedule 'flow': .*(shift|tokens)"):
            build("schedule", SCHEDULES, {"name": "flow", **options})
