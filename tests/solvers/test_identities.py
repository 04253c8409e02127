"""Solvers against loops and formulas written down independently, and against each other where they must agree."""

import math
from dataclasses import replace
from fractions import Fraction
from functools import partial
from itertools import pairwise

import pytest
import torch

from amed_lightning.flow.probability_flow import Evaluation, ProbabilityFlow
from amed_lightning.noise.schedules import Logsnr, Polynomial, levels
from amed_lightning.solvers.adams_bashforth import EQUIDISTANT, Equidistant
from amed_lightning.solvers.dpm_solver_pp import DPMSolverPlusPlus
from amed_lightning.solvers.multistep import Multistep, Refined
from amed_lightning.solvers.placement import FixedPlacement, Placement
from amed_lightning.solvers.registry import SOLVERS
from amed_lightning.solvers.state import solve, trajectory
from amed_lightning.solvers.two_stage import TwoStage, mean_direction, second_order

from .problems import RANGE, SpreadPlacement, Watched, mixture, start


def readable(value):
    """Name a test's argument without the address that a function's text would carry."""
    return getattr(value, "__name__", str(value))


amed, dpm_solver_2, dpm_solver_pp, euler, heun, ipndm = (
    SOLVERS[name] for name in ("amed", "dpm_solver_2", "dpm_solver_pp", "euler", "heun", "ipndm")
)
GRADED = levels(Polynomial(), 6, RANGE)
RATIOS = [0.2, 0.5, 0.9]
PREDICTIONS = ["data", "noise"]
assert_equal = partial(torch.testing.assert_close, rtol=1e-11, atol=1e-11)
every_prediction = pytest.mark.parametrize("prediction", PREDICTIONS)


class Scaled:
    """One placement for all, scales included."""

    def __init__(self, ratio, direction_scale=1.0, time_scale=1.0):
        self.placement = Placement(ratio, direction_scale, time_scale)

    def __call__(self, here, sigma, sigma_next):
        return self.placement


def flow():
    return ProbabilityFlow(mixture())


def end(solver, sigmas=GRADED):
    return solve(solver, flow(), start(), sigmas).x


def denoised(x, sigma):
    return mixture()(x, sigma, None).image


def slope(x, sigma):
    return (x - denoised(x, sigma)) / sigma


def dpm_solver_2_loop(ratio, x, sigmas):
    for sigma, sigma_next in pairwise(sigmas):
        s = sigma_next**ratio * sigma ** (1 - ratio)
        d = slope(x, sigma)
        placed = slope(x + (s - sigma) * d, s)
        x = x + (sigma_next - sigma) * (placed / (2 * ratio) + (1 - 1 / (2 * ratio)) * d)
    return x


def heun_loop(x, sigmas):
    for sigma, sigma_next in pairwise(sigmas):
        h, d = sigma_next - sigma, slope(x, sigma)
        x = x + h / 2 * (d + slope(x + h * d, sigma_next))
    return x


def euler_loop(x, sigmas):
    for sigma, sigma_next in pairwise(sigmas):
        x = x + (sigma_next - sigma) * slope(x, sigma)
    return x


def dpm_solver_pp_update(prediction, order, x, levels_back, models, sigma_next):
    """Method.md's third section, letter for letter; levels and models are newest first."""
    sigma = levels_back[0]
    lambdas = [-math.log(level) for level in levels_back]
    step = -math.log(sigma_next) - lambdas[0]
    phi_1 = math.exp(-step) - 1 if prediction == "data" else math.exp(step) - 1
    phi_2 = phi_1 / step + 1 if prediction == "data" else phi_1 / step - 1
    phi_3 = phi_2 / step - 0.5
    terms = phi_1 * models[0]
    if order > 1:
        r_0 = (lambdas[0] - lambdas[1]) / step
        first = (models[0] - models[1]) / r_0
    if order == 2:
        terms = terms + 0.5 * phi_1 * first
    if order == 3:
        r_1 = (lambdas[1] - lambdas[2]) / step
        second = (models[1] - models[2]) / r_1
        slope_ = first + r_0 / (r_0 + r_1) * (first - second)
        curvature = (first - second) / (r_0 + r_1)
        if prediction == "data":
            terms = terms - phi_2 * slope_ + phi_3 * curvature
        else:
            terms = terms + phi_2 * slope_ + phi_3 * curvature
    return sigma_next / sigma * x - terms if prediction == "data" else x - sigma_next * terms


def dpm_solver_pp_order(index, num_updates, max_order, lower_order_final):
    """The order at update ``index``, from zero: the warm-up first, then what is left."""
    if index + 1 < max_order:
        return index + 1
    return min(max_order, num_updates - index) if lower_order_final else max_order


class TestTwoStage:
    @pytest.mark.parametrize("ratio", RATIOS)
    def test_second_order_at_a_fixed_ratio_is_dpm_solver_2(self, ratio):
        solver = TwoStage(second_order, FixedPlacement(ratio))
        assert_equal(end(solver), dpm_solver_2_loop(ratio, start(), GRADED))

    def test_second_order_at_the_end_is_heun(self):
        assert_equal(end(TwoStage(second_order, FixedPlacement(1.0))), heun_loop(start(), GRADED))

    def test_without_a_placer_the_named_solvers_are_the_classical_ones(self):
        assert_equal(end(heun()), heun_loop(start(), GRADED))
        assert_equal(end(dpm_solver_2()), dpm_solver_2_loop(0.5, start(), GRADED))

    def test_amed_at_half_the_interval_is_dpm_solver_2(self):
        assert end(amed(FixedPlacement(0.5))).equal(end(dpm_solver_2()))
        assert end(amed()).equal(end(dpm_solver_2()))

    def test_amed_elsewhere_is_not(self):
        assert not end(amed(FixedPlacement(0.6))).allclose(end(dpm_solver_2(FixedPlacement(0.6))))

    @pytest.mark.parametrize("combine", [mean_direction, second_order])
    @pytest.mark.parametrize("per_sample", [False, True], ids=["one", "per sample"])
    def test_scales_act_on_the_whole_update_and_on_the_second_question(self, combine, per_sample):
        here = flow()(start(), GRADED[0])
        place = (SpreadPlacement() if per_sample else Scaled(0.3, 1.05, 0.9))(here, None, None)
        r, c, a = place.ratio, place.direction_scale, place.time_scale
        sigma, sigma_next = GRADED[:2]
        s = sigma_next**r * sigma ** (1 - r)
        middle = start() + (s - sigma) * here.derivative
        placed = (middle - denoised(middle, a * s)) / s
        if combine is second_order:
            placed = placed / (2 * r) + (1 - 1 / (2 * r)) * here.derivative
        solver = TwoStage(combine, lambda *_: place)
        state = solver.step(flow(), solver.init(start(), GRADED), sigma_next)
        assert_equal(state.x, start() + c * (sigma_next - sigma) * placed)


class TestPlacement:
    @pytest.mark.parametrize("ratio", RATIOS)
    def test_the_level_is_the_weighted_geometric_mean(self, ratio):
        sigma, sigma_next = GRADED[:2]
        expected = math.exp(ratio * math.log(sigma_next) + (1 - ratio) * math.log(sigma))
        assert Placement(ratio).level(sigma, sigma_next).item() == pytest.approx(expected, rel=1e-14)

    @pytest.mark.parametrize("ratio", [0.0, -0.1, 1.1, math.nan])
    def test_a_fixed_ratio_outside_the_interval_is_refused(self, ratio):
        with pytest.raises(ValueError, match="above 0 and at most at 1"):
            FixedPlacement(ratio)


class TestEuler:
    def test_it_is_ipndm_of_order_one(self):
        assert end(ipndm(order=1)).equal(end(euler()))

    def test_it_is_the_plain_loop(self):
        assert_equal(end(euler()), euler_loop(start(), GRADED))


class TestAdamsBashforth:
    @pytest.mark.parametrize("order", [1, 2, 3, 4])
    def test_its_weights_integrate_the_extrapolation_exactly(self, order):
        """Nodes 0, -1, -2, ... in units of the step; integrate each Lagrange polynomial from 0 to 1."""
        nodes = [Fraction(-j) for j in range(order)]
        for own, weight in zip(nodes, EQUIDISTANT[order - 1], strict=True):
            polynomial = [Fraction(1)]
            for other in nodes:
                if other != own:
                    shifted, scaled = [Fraction(0), *polynomial], [-other * c for c in polynomial] + [Fraction(0)]
                    polynomial = [(a + b) / (own - other) for a, b in zip(shifted, scaled, strict=True)]
            integral = sum(c / (power + 1) for power, c in enumerate(polynomial))
            assert weight == pytest.approx(float(integral), rel=1e-15)

    @pytest.mark.parametrize("order", [1, 2, 3, 4])
    def test_ipndm_warms_up_and_then_applies_its_own_order(self, order):
        x, slopes = start(), []
        for index, (sigma, sigma_next) in enumerate(pairwise(GRADED)):
            slopes.insert(0, slope(x, sigma))
            weights = EQUIDISTANT[min(index, order - 1)]
            x = x + (sigma_next - sigma) * sum(w * d for w, d in zip(weights, slopes, strict=False))
        assert_equal(end(ipndm(order=order)), x)


class TestDPMSolverPlusPlus:
    @every_prediction
    @pytest.mark.parametrize("order", [1, 2, 3])
    def test_an_update_is_the_published_formula(self, prediction, order):
        generator = torch.Generator().manual_seed(9)
        x, *others = torch.randn(7, 2, 1, 4, 4, generator=generator, dtype=torch.float64)
        back, sigma_next = [1.3, 1.9, 3.1][:order], torch.tensor(0.8, dtype=torch.float64)
        answers = [
            Evaluation(torch.tensor(level, dtype=torch.float64), others[k], others[k + 3], x.flatten(1), 1)
            for k, level in enumerate(back)
        ]
        models = others[:3] if prediction == "data" else others[3:]
        carried, increment = DPMSolverPlusPlus(order, prediction, False)(x, answers, sigma_next, 1)
        expected = dpm_solver_pp_update(prediction, order, x, back, models, 0.8)
        assert_equal(carried + increment, expected)
        assert_equal(carried, 0.8 / 1.3 * x if prediction == "data" else x)

    @every_prediction
    @pytest.mark.parametrize("max_order", [1, 2, 3])
    @pytest.mark.parametrize("lower_order_final", [True, False])
    @pytest.mark.parametrize("num_intervals", [1, 2, 3, 6])
    def test_a_run_is_the_published_loop(self, prediction, max_order, lower_order_final, num_intervals):
        sigmas = levels(Polynomial(), num_intervals, RANGE)
        x, back, models = start(), [], []
        for index, (sigma, sigma_next) in enumerate(pairwise(sigmas.tolist())):
            back.insert(0, sigma)
            models.insert(0, (denoised if prediction == "data" else slope)(x, torch.tensor(sigma, dtype=torch.float64)))
            order = dpm_solver_pp_order(index, num_intervals, max_order, lower_order_final)
            x = dpm_solver_pp_update(prediction, order, x, back, models, sigma_next)
        solver = dpm_solver_pp(order=max_order, prediction=prediction, lower_order_final=lower_order_final)
        assert_equal(end(solver, sigmas), x)

    @every_prediction
    def test_order_one_is_euler_whatever_is_predicted(self, prediction):
        assert_equal(end(dpm_solver_pp(order=1, prediction=prediction)), end(euler()))

    @every_prediction
    @pytest.mark.parametrize(
        ("num_intervals", "lower_order_final", "orders"),
        [
            (1, True, [1]),
            (2, True, [1, 2]),
            (3, True, [1, 2, 1]),
            (5, True, [1, 2, 3, 2, 1]),
            (5, False, [1, 2, 3, 3, 3]),
        ],
    )
    def test_its_order_shows_in_the_part_of_the_history_that_it_reads(
        self, prediction, num_intervals, lower_order_final, orders
    ):
        sigmas = levels(Polynomial(), num_intervals, RANGE)
        solver = dpm_solver_pp(order=3, prediction=prediction, lower_order_final=lower_order_final)
        states = list(trajectory(solver, flow(), start(), sigmas))
        assert [
            1 + sum(reads(solver, state, index, sigma_next) for index in range(len(state.history)))
            for state, sigma_next in zip(states[:-1], sigmas[1:], strict=True)
        ] == orders


def reads(solver, state, index, sigma_next):
    """Whether a step needs entry ``index`` of its history: spoil it and look."""
    spoilt = replace(
        state.history[index],
        denoised=torch.full_like(state.x, math.nan),
        derivative=torch.full_like(state.x, math.nan),
    )
    history = (*state.history[:index], spoilt, *state.history[index + 1 :])
    return bool(solver.step(flow(), replace(state, history=history), sigma_next).x.isnan().all())


class TestRefined:
    @pytest.mark.parametrize("ratio", RATIOS)
    def test_refined_euler_equals_euler_on_the_geometric_midgrid(self, ratio):
        pairs = pairwise(GRADED.tolist())
        midgrid = [level for a, b in pairs for level in (a, b**ratio * a ** (1 - ratio))] + [RANGE.sigma_min]
        refined = end(euler(FixedPlacement(ratio)))
        assert_equal(refined, euler_loop(start(), torch.tensor(midgrid, dtype=torch.float64)))
        assert_equal(refined, end(euler(), torch.tensor(midgrid, dtype=torch.float64)))

    @pytest.mark.parametrize(
        ("solver", "options"),
        [
            *((ipndm, {"order": order}) for order in (1, 2, 3, 4)),
            *(
                (dpm_solver_pp, {"order": order, "prediction": prediction, "lower_order_final": final})
                for order in (1, 2, 3)
                for prediction in PREDICTIONS
                for final in (True, False)
            ),
        ],
        ids=readable,
    )
    @pytest.mark.parametrize("num_intervals", [1, 2, 4])
    def test_halving_every_interval_equals_the_base_on_twice_as_many(self, solver, options, num_intervals):
        halved = end(solver(FixedPlacement(0.5), **options), levels(Logsnr(), num_intervals, RANGE))
        assert_equal(halved, end(solver(**options), levels(Logsnr(), 2 * num_intervals, RANGE)))

    @pytest.mark.parametrize(
        ("solver", "options"),
        [(euler, {}), (ipndm, {"order": 4}), *((dpm_solver_pp, {"prediction": p}) for p in PREDICTIONS)],
        ids=readable,
    )
    def test_the_direction_scale_multiplies_the_networks_terms_alone(self, solver, options):
        """Scaling the state by sigma'/s, in data prediction, is no term of the network."""
        c, ratio = 1.3, 0.4
        plain, scaled, base = solver(Scaled(ratio), **options), solver(Scaled(ratio, c), **options), solver(**options)
        states = list(trajectory(plain, flow(), start(), GRADED))
        for state, after, sigma_next in zip(states[:-1], states[1:], GRADED[1:], strict=True):
            s = sigma_next**ratio * state.sigma ** (1 - ratio)
            halfway = base.step(flow(), state, s).x
            carried = sigma_next / s * halfway if options.get("prediction") == "data" else halfway
            expected = carried + c * (after.x - carried)
            assert_equal(scaled.step(flow(), state, sigma_next).x, expected)

    @pytest.mark.parametrize("solver", [amed, dpm_solver_2, euler, ipndm, dpm_solver_pp])
    def test_the_time_scale_moves_the_second_question_alone(self, solver):
        watched = Watched(mixture())
        solve(solver(Scaled(0.4, time_scale=1.2)), ProbabilityFlow(watched), start(), GRADED)
        sigma, sigma_next = GRADED[:-1], GRADED[1:]
        expected = torch.stack([sigma, 1.2 * sigma_next**0.4 * sigma**0.6], 1).flatten()
        assert_equal(torch.stack(watched.levels), expected)

    def test_a_refined_ipndm_divides_the_second_answer_by_the_unscaled_level(self):
        sigma, sigma_next = GRADED[:2]
        s = sigma_next**0.4 * sigma**0.6
        d = slope(start(), sigma)
        middle = start() + (s - sigma) * d
        placed = (middle - denoised(middle, 1.2 * s)) / s
        solver = ipndm(Scaled(0.4, 1.1, 1.2), order=2)
        state = solver.step(flow(), solver.init(start(), GRADED), sigma_next)
        assert_equal(state.x, middle + 1.1 * (sigma_next - s) * (1.5 * placed - 0.5 * d))

    def test_the_history_holds_both_half_steps_at_their_unscaled_levels(self):
        states = list(trajectory(ipndm(Scaled(0.4, 1.1, 1.2), order=4), flow(), start(), GRADED))
        placed = GRADED[1:] ** 0.4 * GRADED[:-1] ** 0.6
        asked = torch.stack([GRADED[:-1], placed], 1).flatten()
        for index, state in enumerate(states):
            held = [answer.sigma.item() for answer in state.history]
            assert held == pytest.approx(asked[: 2 * index][-3:].tolist(), rel=1e-14)

    def test_the_plugin_is_what_a_placer_makes_of_a_rule(self):
        rule = Equidistant(3)
        assert ipndm(order=3) == Multistep(rule)
        assert ipndm(FixedPlacement(0.3), order=3) == Refined(Multistep(rule), FixedPlacement(0.3))
