"""Coefficients against derivations that share nothing with the code: Lagrange polynomials written out, quadrature in
twenty digits, literal sums, linear systems solved by numpy."""

import math
from dataclasses import dataclass, field
from functools import cache

import mpmath
import numpy as np
import pytest
import torch

from amed_lightning.flow.model import Denoised
from amed_lightning.flow.probability_flow import Evaluation, ProbabilityFlow
from amed_lightning.noise.schedules import Logsnr, NoiseRange, Polynomial, TimeUniform, levels
from amed_lightning.solvers.adams_bashforth import Equidistant, VariableStep
from amed_lightning.solvers.deis import DEIS
from amed_lightning.solvers.dpm_solver_pp import DPMSolverPlusPlus
from amed_lightning.solvers.multistep import usable_order
from amed_lightning.solvers.state import SolverState
from amed_lightning.solvers.unipc import UniPC

RANGE = NoiseRange(0.002, 80.0)
GRIDS = {
    "uniform in sigma": levels(Polynomial(1.0), 6, RANGE),
    "polynomial": levels(Polynomial(7.0), 6, RANGE),
    "log-SNR": levels(Logsnr(), 6, RANGE),
    "time": levels(TimeUniform(2.0), 6, RANGE),
}
every_grid = pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
every_prediction = pytest.mark.parametrize("prediction", ["data", "noise"])
mpmath.mp.dps = 20


def windows(grid, order):
    """Every place on a grid where a rule has ``order`` answers: their levels, newest first, and the next level."""
    values = grid.tolist()
    return [
        (tuple(values[newest - order + 1 : newest + 1][::-1]), values[newest + 1]) for newest in range(order - 1, 6)
    ]


def level(values):
    """A level of shape () from a number, of shape (batch, 1, 1, 1) from a list."""
    tensor = torch.tensor(values, dtype=torch.float64)
    return tensor.reshape(-1, 1, 1, 1) if tensor.ndim else tensor


def unit_answers(past, length, first=0):
    """Answers at the given levels, of which the k-th predicts 1 in entry ``first + k`` and 0 elsewhere."""
    answers = []
    for index, sigma in enumerate(past):
        sigma = level(sigma)
        unit = torch.zeros(sigma.numel(), 1, 1, length, dtype=torch.float64)
        unit[..., first + index] = 1
        answers.append(Evaluation(sigma, unit, unit, unit.flatten(1), 1))
    return answers


def coefficients(rule, past, sigma_next, updates_left=9):
    """What a rule multiplies each answer with, newest first; a row per sample."""
    answers = unit_answers(past, len(past))
    x = torch.zeros_like(answers[0].derivative)
    carried, increment = rule(x, answers, level(sigma_next), updates_left)
    assert not carried.any()
    rows = increment[:, 0, 0].numpy()
    return rows[0] if answers[0].sigma.ndim == 0 else rows


def carries(rule, past, sigma_next):
    """What a rule multiplies the state with."""
    answers = unit_answers(past, len(past))
    x = torch.ones_like(answers[0].derivative)
    return rule(x, answers, level(sigma_next), 9)[0][0, 0, 0, 0].item()


def lagrange(nodes, own, point):
    """The polynomial that is 1 at ``nodes[own]`` and 0 at the others."""
    product = mpmath.mpf(1)
    for index, node in enumerate(nodes):
        if index != own:
            product *= (point - node) / (nodes[own] - node)
    return product


@cache
def sigma_integrals(past, sigma_next):
    """Integrate each Lagrange polynomial in sigma."""
    return integrals(exact(past), past[0], sigma_next)


def integrals(nodes, start, stop, kernel=lambda point: mpmath.mpf(1)):
    """Integrate each Lagrange polynomial of ``nodes`` against a kernel."""
    cuts = mpmath.linspace(start, stop, 3)
    return np.array(
        [
            float(mpmath.quad(lambda point, own=own: lagrange(nodes, own, point) * kernel(point), cuts))
            for own in range(len(nodes))
        ]
    )


def exact(values):
    return [mpmath.mpf(value) for value in values]


def assert_close(actual, expected, rtol=1e-10):
    """Compare, relative to the largest of the coefficients: they belong to one sum."""
    np.testing.assert_allclose(actual, expected, rtol=0, atol=rtol * np.abs(expected).max())


class TestAdamsBashforth:
    @every_grid
    @pytest.mark.parametrize("order", [1, 2, 3, 4])
    @pytest.mark.parametrize("rule", [VariableStep, DEIS], ids=["ipndm_v", "deis"])
    def test_the_textbooks_integrate_the_polynomial_in_sigma(self, grid, order, rule):
        rule = rule(4, form="textbook") if rule is VariableStep else rule(4, "rhoAB")
        for past, sigma_next in windows(grid, order):
            expected = sigma_integrals(past, sigma_next)
            assert_close(coefficients(rule, past, sigma_next), expected)

    @every_grid
    @pytest.mark.parametrize("order", [1, 2, 3, 4])
    def test_the_published_are_the_published_formulas(self, grid, order):
        for past, sigma_next in windows(grid, order):
            expected = (sigma_next - past[0]) * published_ipndm_v(past, sigma_next)
            assert_close(coefficients(VariableStep(4), past, sigma_next), expected)

    def test_on_equidistant_levels_the_published_fourth_order_is_not_the_textbooks(self):
        past, sigma_next = [4.0, 5.0, 6.0, 7.0], 3.0
        assert_close(coefficients(VariableStep(4), past, sigma_next), -np.array([57, -65, 43, -11]) / 24)
        for rule in (VariableStep(4, "textbook"), Equidistant(4)):
            assert_close(coefficients(rule, past, sigma_next), -np.array([55, -59, 37, -9]) / 24)

    @pytest.mark.parametrize("order", [1, 2, 3])
    def test_on_equidistant_levels_lower_orders_are_everyones(self, order):
        past, sigma_next = [4.0, 5.0, 6.0][:order], 3.0
        expected = [[1], [3 / 2, -1 / 2], [23 / 12, -16 / 12, 5 / 12]][order - 1]
        for rule in (VariableStep(3), VariableStep(3, "textbook"), Equidistant(3), DEIS(3, "rhoAB")):
            assert_close(coefficients(rule, past, sigma_next), -np.array(expected))

    @every_grid
    @pytest.mark.parametrize(
        ("form", "order"), [("published", 2), ("published", 3), *(("textbook", o) for o in (2, 3, 4))]
    )
    def test_they_integrate_a_constant_and_a_straight_line_exactly(self, grid, form, order):
        for past, sigma_next in windows(grid, order):
            found = coefficients(VariableStep(4, form), past, sigma_next)
            moments = np.array([sum(found), found @ np.array(past)])
            wanted = np.array([sigma_next - past[0], (sigma_next**2 - past[0] ** 2) / 2])
            np.testing.assert_allclose(moments, wanted, rtol=1e-8)

    @every_grid
    def test_the_published_fourth_order_needs_steps_in_geometric_progression_for_that(self, grid):
        """Its weights sum to one where h_1 / h_2 is h_2 / h_3, and on no other grid."""
        for past, sigma_next in windows(grid, 4):
            h1, h2, h3 = -np.diff(past)
            total = coefficients(VariableStep(4), past, sigma_next).sum() / (sigma_next - past[0])
            assert (abs(total - 1) < 1e-9) == (abs(h1 * h3 / h2**2 - 1) < 1e-6)


def published_ipndm_v(past, sigma_next):
    """The weights of the published tool, from its steps h_0 (to come), h_1, h_2, h_3."""
    h = -np.diff([*past[::-1], sigma_next])[::-1]
    order = len(past)
    if order == 1:
        return np.array([1.0])
    q = h[0] / h[1]
    weights = np.zeros(order)
    weights[:2] = 1 + q / 2, -q / 2
    if order >= 3:
        g = h[1] / h[2]
        a = 0.5 * (1 - h[0] / (3 * (h[0] + h[1])) * (h[0] * (h[0] + h[1])) / (h[1] * (h[1] + h[2])))
        weights[:3] += a, -(1 + g) * a, g * a
    if order == 4:
        e = h[1] * (h[1] + h[2]) / (h[2] * (h[2] + h[3]))
        bracket = 0.5 * (1 - h[0] / (3 * (h[0] + h[1])))
        bracket += (1 - h[0] / (2 * (h[0] + h[1]))) * h[0] / (6 * (h[0] + h[1] + h[2]))
        b = bracket * h[0] * (h[0] + h[1]) * (h[0] + h[1] + h[2])
        b /= h[1] * (h[1] + h[2]) * (h[1] + h[2] + h[3])
        weights += b * np.array([1, -(1 + g + e), g + e * (1 + h[2] / h[3]), -e * g])
    return weights


@cache
def betas():
    """Solve for beta_d and beta_min: ln(1 + sigma^2) is beta_d t^2 / 2 + beta_min t at 0.002, 1/1000 and at 80, 1."""
    system = np.array([[0.5e-6, 1e-3], [0.5, 1.0]])
    return np.linalg.solve(system, np.log1p([0.002**2, 80.0**2]))


def vp_time(sigma):
    beta_d, beta_min = exact(betas())
    return (mpmath.sqrt(beta_min**2 + 2 * beta_d * mpmath.log1p(mpmath.mpf(sigma) ** 2)) - beta_min) / beta_d


def vp_speed(t):
    """The derivative of sqrt(exp(beta_d t^2 / 2 + beta_min t) - 1)."""
    beta_d, beta_min = exact(betas())
    growth = mpmath.exp(beta_d * t**2 / 2 + beta_min * t)
    return (beta_d * t + beta_min) * growth / (2 * mpmath.sqrt(growth - 1))


class TestDEIS:
    @every_grid
    @pytest.mark.parametrize("order", [1, 2, 3, 4])
    def test_the_textbook_integrates_the_polynomial_in_the_sdes_time(self, grid, order):
        for past, sigma_next in windows(grid, order):
            times = [vp_time(sigma) for sigma in past]
            expected = integrals(times, times[0], vp_time(sigma_next), vp_speed)
            assert_close(coefficients(DEIS(4, form="textbook"), past, sigma_next), expected)

    @every_grid
    @pytest.mark.parametrize("order", [2, 3, 4])
    def test_the_published_are_a_left_sum_of_ten_thousand_points(self, grid, order):
        beta_d, beta_min = betas()
        for past, sigma_next in windows(grid, order):
            times = [
                (np.sqrt(beta_min**2 + 2 * beta_d * np.log1p(s**2)) - beta_min) / beta_d for s in [*past, sigma_next]
            ]
            nodes, stop = times[:-1], times[-1]
            points = np.linspace(nodes[0], stop, 10_000)
            growth = np.exp(beta_d * points**2 / 2 + beta_min * points)
            speed = (beta_d * points + beta_min) * growth / (2 * np.sqrt(growth - 1))
            expected = np.zeros(order)
            for own in range(order):
                total = np.zeros_like(points)
                total += speed
                for other in range(order):
                    if other != own:
                        total *= (points - nodes[other]) / (nodes[own] - nodes[other])
                expected[own] = total.sum() * (stop - nodes[0]) / 10_000
            assert_close(coefficients(DEIS(4), past, sigma_next), expected)

    @pytest.mark.parametrize("form", ["published", "textbook"])
    def test_the_first_step_is_eulers(self, form):
        assert_close(coefficients(DEIS(4, form=form), [80.0], 20.0), np.array([-60.0]), rtol=1e-15)

    @pytest.mark.parametrize("order", [2, 3, 4])
    def test_the_published_sum_misses_the_integral_by_what_it_adds_at_the_ends(self, order):
        """Without half of both ends it is the trapezoidal sum of 9,999 intervals, exact here to 1e-8."""
        for past, sigma_next in windows(levels(Polynomial(), 6, NoiseRange(0.5, 40.0)), order):
            nodes, stop = [vp_time(sigma) for sigma in past], vp_time(sigma_next)
            ends = [[lagrange(nodes, own, end) * vp_speed(end) for own in range(order)] for end in (nodes[0], stop)]
            added = (stop - nodes[0]) * (np.array(ends[0]) + np.array(ends[1])) / 2
            exactly = integrals(nodes, nodes[0], stop, vp_speed)
            expected = (0.9999 * exactly + added / 10_000).astype(float)
            found = coefficients(DEIS(4), past, sigma_next)
            assert_close(found, expected, rtol=1e-7)
            assert np.abs(found - exactly).max() > 1e-6 * np.abs(exactly).max()


@cache
def exponential_integrals(prediction, past, sigma_next):
    """Integrate each Lagrange polynomial in lambda = -ln sigma against the exponential that the ODE has left.

    The state is sigma' / sigma times x plus the integral of sigma' exp(lambda) D (data), or x minus the integral of
    exp(-lambda) d (noise).
    """
    places = [-mpmath.log(mpmath.mpf(sigma)) for sigma in past]
    stop = -mpmath.log(mpmath.mpf(sigma_next))
    if prediction == "data":
        return integrals(places, places[0], stop, lambda place: sigma_next * mpmath.exp(place))
    return integrals(places, places[0], stop, lambda place: -mpmath.exp(-place))


class TestDPMSolverPlusPlus:
    @every_grid
    @every_prediction
    @pytest.mark.parametrize("order", [1, 3])
    def test_the_textbook_integrates_the_polynomial_in_log_snr(self, grid, prediction, order):
        for past, sigma_next in windows(grid, order):
            rule = DPMSolverPlusPlus(order, prediction, False, "textbook")
            expected = exponential_integrals(prediction, past, sigma_next)
            assert_close(coefficients(rule, past, sigma_next), expected)

    @every_grid
    @every_prediction
    def test_the_published_third_order_has_half_of_the_second_derivative(self, grid, prediction):
        """Take half of phi_3 times the second difference, m'' H^2, away from the exact integral."""
        for past, sigma_next in windows(grid, 3):
            places = np.log(past) * -1
            step = -math.log(sigma_next) - places[0]
            signed = -step if prediction == "data" else step
            phi_3 = ((math.expm1(signed) / signed - 1) / signed) - 0.5
            second = np.array(
                [2 / np.prod([places[own] - places[other] for other in range(3) if other != own]) for own in range(3)]
            )
            missing = phi_3 * second * step**2 / 2 * (1.0 if prediction == "data" else sigma_next)
            expected = exponential_integrals(prediction, past, sigma_next) + missing
            rule = DPMSolverPlusPlus(3, prediction, False, "published")
            assert_close(coefficients(rule, past, sigma_next), expected, rtol=1e-9)

    @every_grid
    @every_prediction
    @pytest.mark.parametrize("form", ["published", "textbook"])
    def test_the_second_order_takes_half_of_the_first_integral_for_the_slope(self, grid, prediction, form):
        """In all forms: x' = ... phi_1 (m_0 + (m_0 - m_1) / (2 r))."""
        for past, sigma_next in windows(grid, 2):
            whole = exponential_integrals(prediction, past[:1], sigma_next)[0]
            r = math.log(past[1] / past[0]) / math.log(past[0] / sigma_next)
            rule = DPMSolverPlusPlus(2, prediction, False, form)
            assert_close(coefficients(rule, past, sigma_next), whole * np.array([1 + 0.5 / r, -0.5 / r]))

    @pytest.mark.parametrize("order", [1, 2, 3])
    def test_the_state_is_carried_by_the_linear_part_alone(self, order):
        past = [1.3, 1.9, 3.1][:order]
        assert carries(DPMSolverPlusPlus(order, "data"), past, 0.8) == pytest.approx(0.8 / 1.3, rel=1e-14)
        assert carries(DPMSolverPlusPlus(order, "noise"), past, 0.8) == 1


class TestLowerOrderFinal:
    @staticmethod
    def orders(num_updates, max_order, form, lower_order_final=True):
        """Which answers an update reads: spoil the others and look."""
        rule = DPMSolverPlusPlus(max_order, "data", lower_order_final, form)
        used = []
        for index in range(num_updates):
            past = [1.3, 1.9, 3.1][: min(index + 1, max_order)]
            found = coefficients(rule, past, 0.8, updates_left=num_updates - index)
            used.append(int(np.count_nonzero(found)))
        return used

    @pytest.mark.parametrize(
        ("num_updates", "max_order", "published", "textbook"),
        [
            (1, 3, [1], [1]),
            (2, 3, [1, 2], [1, 1]),
            (3, 3, [1, 2, 1], [1, 2, 1]),
            (4, 3, [1, 2, 2, 1], [1, 2, 2, 1]),
            (6, 3, [1, 2, 3, 3, 2, 1], [1, 2, 3, 3, 2, 1]),
            (1, 2, [1], [1]),
            (2, 2, [1, 1], [1, 1]),
            (4, 2, [1, 2, 2, 1], [1, 2, 2, 1]),
            (3, 1, [1, 1, 1], [1, 1, 1]),
        ],
    )
    def test_the_published_does_not_reach_into_the_warm_up(self, num_updates, max_order, published, textbook):
        assert self.orders(num_updates, max_order, "published") == published
        assert self.orders(num_updates, max_order, "textbook") == textbook
        unbound = [min(index + 1, max_order) for index in range(num_updates)]
        for form in ("published", "textbook"):
            assert self.orders(num_updates, max_order, form, lower_order_final=False) == unbound

    @pytest.mark.parametrize("max_order", [1, 2, 3, 4])
    @pytest.mark.parametrize("num_updates", range(1, 9))
    def test_the_rule_is_the_published_loop(self, max_order, num_updates):
        for index in range(num_updates):
            available = min(index + 1, max_order)
            warming_up = index + 1 < max_order
            expected = index + 1 if warming_up else min(max_order, num_updates - index)
            assert usable_order(available, max_order, num_updates - index, True, "published") == expected
            expected = min(index + 1, max_order, num_updates - index)
            assert usable_order(available, max_order, num_updates - index, True, "textbook") == expected


@dataclass
class Replies:
    """A denoiser that keeps what it was asked, and always predicts one thing: itself the image, or the slope."""

    reply: torch.Tensor
    prediction: str
    cost: int = 1
    asked: list = field(default_factory=list)

    def __call__(self, x, sigma, condition):
        self.asked.append((x, sigma))
        return Denoised(self.reply if self.prediction == "data" else x - sigma * self.reply, x.flatten(1))


def unipc_rows(solver, past, sigma_next):
    """Return the predictor's and the corrector's coefficients: of x, of the answers newest first, of the new one."""
    length = len(past) + 2
    answers = unit_answers(past, length, first=1)
    x, reply = torch.zeros_like(answers[0].derivative), torch.zeros_like(answers[0].derivative)
    x[..., 0], reply[..., -1] = 1, 1
    denoiser = Replies(reply, solver.prediction)
    state = SolverState(x, answers[0].sigma, answers[0], tuple(answers[:0:-1]), 9, 0)
    corrected = solver.step(ProbabilityFlow(denoiser), state, level(sigma_next)).x
    (predicted, asked_at), *others = denoiser.asked
    assert not others
    assert asked_at.equal(level(sigma_next))
    return predicted[:, 0, 0].numpy(), corrected[:, 0, 0].numpy()


def unipc_system(prediction, variant, past, sigma_next):
    """Write the method's formulas for one sample, and solve its two systems."""
    order = len(past)
    lambdas = [-math.log(sigma) for sigma in past]
    step = -math.log(sigma_next) - lambdas[0]
    h = -step if prediction == "data" else step
    b_of_h = h if variant == "bh1" else math.expm1(h)
    rho = np.array([(lam - lambdas[0]) / step for lam in lambdas[1:]] + [1.0])
    psi = [math.expm1(h) / h - 1]
    for k in range(1, order):
        psi.append(psi[-1] / h - 1 / math.factorial(k + 1))
    matrix = np.array([rho**k for k in range(order)])
    right = np.array([math.factorial(k + 1) * psi[k] / b_of_h for k in range(order)])
    predictor = np.array([0.5]) if order == 2 else np.linalg.solve(matrix[:-1, :-1], right[:-1])
    corrector = np.array([0.5]) if order == 1 else np.linalg.solve(matrix, right)
    scale = 1.0 if prediction == "data" else sigma_next
    rows = []
    for weights in (predictor, corrector):
        row = np.zeros(order + 2)
        row[0] = sigma_next / past[0] if prediction == "data" else 1.0
        row[1] = -scale * math.expm1(h)
        for j, weight in enumerate(weights):
            share = scale * b_of_h * weight / rho[j]
            row[j + 2] -= share  # the j-th difference ends at the j-th past answer, or at the new one
            row[1] += share
        rows.append(row)
    if order > 1:
        rows[0][-1] = 0.0
    return rows


every_variant = pytest.mark.parametrize("variant", ["bh1", "bh2"])


class TestUniPC:
    @every_grid
    @every_prediction
    @every_variant
    @pytest.mark.parametrize("order", [1, 2, 3])
    def test_predictor_and_corrector_are_the_solutions_of_their_systems(self, grid, prediction, variant, order):
        solver = UniPC(order, prediction, variant, lower_order_final=False)
        for past, sigma_next in windows(grid, order):
            expected = unipc_system(prediction, variant, past, sigma_next)
            for found, row in zip(unipc_rows(solver, past, sigma_next), expected, strict=True):
                assert_close(found[0], row)

    @every_prediction
    @every_variant
    @pytest.mark.parametrize("order", [1, 2, 3])
    def test_levels_of_their_own_give_each_sample_its_own_solution(self, prediction, variant, order):
        solver = UniPC(order, prediction, variant, lower_order_final=False)
        past = [[1.3, 0.9, 5.0], [1.9, 1.7, 6.1], [3.1, 9.0, 9.0]][:order]
        sigma_next = [0.8, 0.1, 4.5]
        predicted, corrected = unipc_rows(solver, past, sigma_next)
        for sample in range(3):
            alone = unipc_system(prediction, variant, [sigma[sample] for sigma in past], sigma_next[sample])
            assert_close(predicted[sample], alone[0])
            assert_close(corrected[sample], alone[1])

    @every_grid
    @every_prediction
    @every_variant
    @pytest.mark.parametrize(("order", "corrects"), [(3, False), (2, True), (3, True)])
    def test_where_nothing_is_halved_it_integrates_the_polynomial_in_log_snr(
        self, grid, prediction, variant, order, corrects
    ):
        """Whatever B is: it cancels where the whole system is solved."""
        solver = UniPC(order, prediction, variant, lower_order_final=False)
        for past, sigma_next in windows(grid, order):
            nodes = (*past, sigma_next) if corrects else past
            expected = exponential_integrals(prediction, nodes, sigma_next)
            found = unipc_rows(solver, past, sigma_next)[corrects][0]
            assert_close(found[1 : 1 + len(nodes)], expected, rtol=1e-9)


class TestLevelsPerSample:
    @pytest.mark.parametrize(
        "rule",
        [
            VariableStep(3),
            VariableStep(3, "textbook"),
            DEIS(3),
            DEIS(3, form="textbook"),
            DEIS(3, "rhoAB"),
            DPMSolverPlusPlus(3, "data"),
            DPMSolverPlusPlus(3, "noise", form="textbook"),
        ],
        ids=str,
    )
    def test_each_sample_has_the_coefficients_that_it_has_alone(self, rule):
        past = [[1.3, 0.9, 5.0], [1.9, 1.7, 6.1], [3.1, 9.0, 9.0]]
        sigma_next = [0.8, 0.1, 4.5]
        together = coefficients(rule, past, sigma_next)
        for sample in range(3):
            alone = coefficients(rule, [sigma[sample] for sigma in past], sigma_next[sample])
            assert_close(together[sample], alone, rtol=1e-12)
