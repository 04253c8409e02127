"""Constants and coefficients against least squares on the vectors themselves, and where the teacher is within reach."""

from copy import deepcopy
from dataclasses import dataclass, replace

import pytest
import torch

from amed_lightning.amed.predictor import AMEDPredictor
from amed_lightning.denoisers.cached import CachedDenoiser
from amed_lightning.denoisers.gaussian import gaussian
from amed_lightning.flow.probability_flow import ProbabilityFlow
from amed_lightning.solvers.placed import PlacedSolver
from amed_lightning.solvers.placement import FixedPlacement, Placement
from amed_lightning.solvers.registry import SOLVERS
from amed_lightning.teacher.nodes import Nodes, chebyshev
from amed_lightning.teacher.tabulate import tabulate
from amed_lightning.tensors import squared_distance
from amed_lightning.training.constants import approach, best_factors, fit_coefficients, fit_constants, losses_of

from ..solvers.problems import mixture, start

amed = SOLVERS["amed"]
SIGMAS = torch.tensor([2.0, 1.4, 0.9, 0.5], dtype=torch.float64)
FINE = chebyshev(17, 0.0, 1.0)
RATIOS, DIRECTIONS, STARTS = (0.06, 0.5, 0.95), (1.004, 0.7, 1.5), (0.3, -0.4, 0.1)
"""Of a teacher within reach, interval by interval."""
ONE_STEP = ("amed", "dpm_solver_2", "euler")


@dataclass(frozen=True)
class Interval:
    """Where a one-step student starts, and the teacher's states at the end."""

    solver: PlacedSolver
    x: torch.Tensor
    sigmas: torch.Tensor
    target: torch.Tensor

    @property
    def start(self):
        return self.solver.init(self.x, self.sigmas, ProbabilityFlow(mixture())(self.x, self.sigmas[0]))

    def table(self, ratios=FINE):
        """The table that serves every solver that asks like AMED-Solver."""
        memory, nodes = CachedDenoiser(mixture()), Nodes(ratios)
        return tabulate(amed(), memory, None, self.start, self.sigmas, self.target, nodes)

    def towards(self, place, first=0.0, noise=0.0):
        """The same interval with a teacher that is where a placement leads, or not far from there.

        ``first`` is added of the derivative at its start.
        """
        end = self.solver.step_at(ProbabilityFlow(mixture()), self.start, self.sigmas[1], place).x
        end = end + first * (self.sigmas[1] - self.sigmas[0]) * self.start.known.derivative
        return Interval(self.solver, self.x, self.sigmas, end + noise * start(seed=9))

    def by_least_squares(self, name, ratio, kind):
        """Factors and mean loss at a ratio, from derivatives written down as the papers have them."""
        flow, (sigma, sigma_next) = ProbabilityFlow(mixture()), self.sigmas[:2]
        first, step = flow(self.x, sigma).derivative, sigma_next - sigma
        middle = sigma_next**ratio * sigma ** (1 - ratio)
        halfway = self.x + (middle - sigma) * first
        second = flow(halfway, middle).derivative
        carried, columns = {
            "amed": (self.x, [step * second, step * first]),
            "dpm_solver_2": (self.x, [step * (second + (2 * ratio - 1) * first) / (2 * ratio), step * first]),
            "euler": (halfway, [(sigma_next - middle) * second, step * first]),
        }[name]
        columns = columns[:1] if kind == "constants" else columns
        design = torch.stack([column.flatten() for column in columns], 1)
        wanted = (self.target - carried).flatten()
        factors = torch.linalg.lstsq(design, wanted[:, None]).solution[:, 0]
        return factors, (wanted - design @ factors).square().sum() / len(self.x)


def intervals(name):
    solver = SOLVERS[name](FixedPlacement(0.5))
    for index, sigma in enumerate(SIGMAS[:-1]):
        x = start(seed=index) * sigma / SIGMAS[0]
        yield Interval(solver, x, SIGMAS[index:], x)


def within_reach(name, noise=0.0):
    places = (Placement(ratio, scale) for ratio, scale in zip(RATIOS, DIRECTIONS, strict=True))
    return [interval.towards(place, noise=noise) for interval, place in zip(intervals(name), places, strict=True)]


def placements(placer, tables):
    return [placer(table.start, table.sigmas[0], table.sigmas[1]) for table in tables]


def columns(numbers):
    """Ratios, direction scales and what is added of the first derivatives."""
    return numbers.T.tolist()


@pytest.mark.parametrize("name", ONE_STEP)
class TestLeastSquares:
    @pytest.mark.parametrize("kind", ["constants", "coefficients"])
    def test_the_factors_at_a_ratio_are_the_best_and_leave_what_they_say(self, name, kind):
        for interval in within_reach(name, noise=0.05):
            ratios = torch.tensor([0.2, 0.5, 0.9], dtype=torch.float64)
            found, losses = best_factors(kind, interval.solver, interval.table(), ratios)
            assert found[:, 0].equal(ratios)
            for row, ratio, loss in zip(found, ratios, losses, strict=True):
                factors, expected = interval.by_least_squares(name, float(ratio), kind)
                torch.testing.assert_close(row[1 : 1 + len(factors)], factors, rtol=1e-5, atol=1e-5)
                assert not row[1 + len(factors) :].any()
                assert float(loss) == pytest.approx(float(expected), rel=1e-5)

    def test_no_ratio_of_a_fine_grid_is_better_than_the_one_that_is_found(self, name):
        problems = within_reach(name, noise=0.02)
        tables = [interval.table() for interval in problems]
        constants = fit_constants(problems[0].solver, tables)
        for interval, (ratio, direction, first) in zip(problems, constants.tolist(), strict=True):
            factors, loss = interval.by_least_squares(name, ratio, "constants")
            grid = [interval.by_least_squares(name, ratio / 80, "constants")[1] for ratio in range(1, 81)]
            assert (direction, first) == (pytest.approx(float(factors[0]), rel=1e-4), 0)
            assert float(loss) <= 1.001 * float(min(grid))


@pytest.mark.parametrize("name", ONE_STEP)
class TestWithinReach:
    def test_the_constants_are_the_teacher_s_where_it_has_some(self, name):
        problems = within_reach(name)
        tables = [interval.table() for interval in problems]
        ratios, directions, starts = columns(fit_constants(problems[0].solver, tables))
        assert ratios == pytest.approx(RATIOS, abs=1e-3)
        assert directions == pytest.approx(DIRECTIONS, abs=1e-3)
        assert starts == [0.0] * 3

    def test_so_are_the_coefficients(self, name):
        numbers = zip(intervals(name), DIRECTIONS, STARTS, strict=True)
        problems = [interval.towards(Placement(0.5, scale), start) for interval, scale, start in numbers]
        tables = [interval.table() for interval in problems]
        found = fit_coefficients(problems[0].solver, tables)
        ratios, directions, starts = columns(found)
        assert ratios == [0.5] * 3
        assert directions == pytest.approx(DIRECTIONS, abs=1e-6)
        assert starts == pytest.approx(STARTS, abs=1e-6)
        for table, interval, row in zip(tables, problems, found, strict=True):
            _, left = interval.by_least_squares(name, 0.5, "coefficients")
            assert losses_of(interval.solver, table, row).mean() == pytest.approx(float(left), abs=1e-9)

    def test_a_ratio_beyond_the_table_is_not_tried(self, name):
        problems = within_reach(name)
        tables = [interval.table(chebyshev(9, 0.25, 0.75)) for interval in problems]
        ratios, *_ = columns(fit_constants(problems[0].solver, tables))
        assert ratios == pytest.approx([0.25, 0.5, 0.75], abs=1e-3)
        assert all(0.25 <= ratio <= 0.75 for ratio in ratios)


class TestWithoutEffect:
    """What leaves the normal equations singular."""

    def test_a_second_half_step_of_no_length_has_no_factor(self):
        *_, interval = within_reach("euler")
        found, losses = best_factors("constants", interval.solver, interval.table(), torch.ones(1, dtype=torch.float64))
        assert found.tolist() == [[1.0, 0.0, 0.0]]
        end = interval.solver.step_at(ProbabilityFlow(mixture()), interval.start, interval.sigmas[1], Placement(1.0))
        assert float(losses) == pytest.approx(float(squared_distance(end.x, interval.target).mean()))

    def test_parallel_derivatives_share_what_one_of_them_would_do(self):
        flow, x = ProbabilityFlow(gaussian(torch.ones(1, 4, 4, dtype=torch.float64))), start()
        state = replace(amed().init(x, SIGMAS), known=flow(x, SIGMAS[0]))
        table = tabulate(amed(), CachedDenoiser(flow.denoiser), None, state, SIGMAS, 0.8 * x, Nodes(FINE))
        found, losses = best_factors("coefficients", amed(), table, torch.full((1,), 0.5, dtype=torch.float64))
        assert found.isfinite().all()
        assert float(losses) == pytest.approx(0, abs=1e-12)


class TestApproach:
    @pytest.mark.parametrize(("ratio", "scale", "reached"), [(0.06, 1.5, 1.009), (0.8, 0.996, 0.996)])
    def test_a_predictor_then_places_where_the_constants_do_or_nine_tenths_of_the_way_to_its_bound(
        self, ratio, scale, reached
    ):
        interval = next(intervals("amed")).towards(Placement(ratio, scale))
        table = interval.table()
        torch.manual_seed(0)
        predictor = AMEDPredictor(3, scale_dir=0.01).double()
        approach(predictor, fit_constants(interval.solver, [table]), [table], scale_dir=0.01)
        (place,) = placements(predictor, [table])
        assert place.ratio.flatten().tolist() == pytest.approx([ratio] * 8, abs=0.02)
        assert place.direction_scale.flatten().tolist() == pytest.approx([reached] * 8, abs=5e-4)

    def test_it_comes_near_to_an_end_that_no_predictor_reaches(self):
        table = next(intervals("amed")).table()
        torch.manual_seed(0)
        predictor = AMEDPredictor(3, scale_dir=0.01).double()
        approach(predictor, torch.tensor([[1.0, 1.0, 0.0]], dtype=torch.float64), [table], scale_dir=0.01)
        (place,) = placements(predictor, [table])
        assert place.ratio.flatten().tolist() == pytest.approx([1.0] * 8, abs=0.01)

    def test_one_that_saturates_begins_where_it_was(self):
        table = next(intervals("amed")).table()
        predictor = AMEDPredictor(3)
        torch.nn.init.constant_(predictor.fc_r.bias, 100.0)
        before = deepcopy(predictor.state_dict())
        approach(predictor, torch.tensor([[0.5, 1.0, 0.0]], dtype=torch.float64), [table], scale_dir=0.0)
        torch.testing.assert_close(predictor.state_dict(), before, rtol=0, atol=0)
