"""Chebyshev points contain the coarser ones, and Lagrange's polynomials through them are exact for polynomials."""

from itertools import pairwise, product

import pytest
import torch

from amed_lightning.solvers.placement import Placement
from amed_lightning.teacher.nodes import AXES, Nodes, cardinals, chebyshev

RANGES = [(0.0, 1.0), (0.8, 1.2), (0.1, 0.9)]
GRID = Nodes(chebyshev(5, 0.0, 1.0), chebyshev(3, 0.8, 1.2), chebyshev(3, 0.99, 1.01))


def points(*values):
    return torch.tensor(values, dtype=torch.float64)


class TestPoints:
    @pytest.mark.parametrize("ends", RANGES)
    @pytest.mark.parametrize("size", [2, 3, 5, 9, 17])
    def test_a_finer_grid_contains_a_coarser_one_and_both_ends(self, size, ends):
        coarse, fine = chebyshev(size, *ends), chebyshev(2 * size - 1, *ends)
        assert fine[::2] == coarse
        assert (fine[0], fine[-1]) == ends
        assert all(a < b for a, b in pairwise(fine))

    def test_they_are_the_extrema_of_the_chebyshev_polynomial(self):
        angles = torch.tensor(chebyshev(9, -1.0, 1.0), dtype=torch.float64).acos()
        torch.testing.assert_close((8 * angles).cos().abs(), torch.ones(9, dtype=torch.float64))

    def test_one_point_is_the_middle(self):
        assert chebyshev(1, 0.5, 1.5) == (1.0,)


class TestPolynomials:
    @pytest.mark.parametrize("size", [1, 2, 5, 9, 17])
    def test_they_reproduce_polynomials_and_their_slopes_also_at_nodes(self, size):
        nodes = chebyshev(size, 0.2, 1.0)
        places = points(0.2, 0.37, nodes[size // 2], 0.93, 1.0).requires_grad_()
        powers = torch.arange(size, dtype=torch.float64)
        values = points(*nodes)[:, None] ** powers
        found = cardinals(nodes, places) @ values
        torch.testing.assert_close(found, places.detach()[:, None] ** powers, rtol=1e-11, atol=1e-11)
        (slopes,) = torch.autograd.grad(found.sum(), places)
        exact = (powers * places.detach()[:, None] ** (powers - 1).clamp(min=0)).sum(1)
        torch.testing.assert_close(slopes, exact, rtol=1e-10, atol=1e-10)


class TestGrid:
    def test_the_weights_at_a_node_are_its_own(self):
        like = torch.zeros(1, dtype=torch.float64)
        weights = torch.cat([GRID.weights(place, like) for place in GRID.placements()])
        torch.testing.assert_close(weights, torch.eye(len(GRID), dtype=torch.float64))
        assert len(GRID) == 5 * 3 * 3

    def test_samples_have_weights_of_their_own(self):
        ratio = points(0.1, 0.7).reshape(-1, 1, 1, 1)
        together = GRID.weights(Placement(ratio, 1.0, 1.05), points(0, 0))
        apart = [GRID.weights(Placement(value, 1.0, 1.05), points(0)) for value in (0.1, 0.7)]
        torch.testing.assert_close(together, torch.cat(apart))

    @pytest.mark.parametrize(
        ("place", "name"),
        [
            (Placement(-0.01), "ratio"),
            (Placement(points(0.5, 1.01).reshape(-1, 1, 1, 1)), "ratio"),
            (Placement(0.5, 1.02), "direction_scale"),
            (Placement(0.5, 1.0, 0.79), "time_scale"),
        ],
    )
    def test_beyond_an_end_there_is_no_answer(self, place, name):
        with pytest.raises(RuntimeError, match=f"a {name} lies outside of the tabulated"):
            GRID.weights(place, points(0, 0))

    def test_the_ends_belong_to_it_also_in_single_precision(self):
        low, high = (torch.tensor(end, dtype=torch.float32) for end in (0.8, 1.2))
        for end in (low, high):
            assert GRID.weights(Placement(0.0, 1.0, end), points(0)).isfinite().all()

    def test_an_axis_of_one_point_knows_that_point_alone_but_a_step_is_linear_in_its_direction_scale(self):
        plain = Nodes(chebyshev(5, 0.0, 1.0))
        assert plain.weights(Placement(0.4, 0.3), points(0)).equal(plain.weights(Placement(0.4), points(0)))
        with pytest.raises(RuntimeError, match="a time_scale lies outside of the tabulated"):
            plain.weights(Placement(0.4, 1.0, 1.01), points(0))

    def test_a_smooth_function_of_three_variables_is_interpolated(self):
        def f(place):
            return torch.as_tensor(place.ratio - 2 * place.time_scale * place.direction_scale).sin()

        values = torch.stack([f(place) for place in GRID.placements()]).double()
        for ratio, time_scale, direction in product((0.13, 0.77), (0.9, 1.13), (0.993, 1.007)):
            place = Placement(ratio, direction, time_scale)
            assert float(GRID.weights(place, points(0)) @ values - f(place)) == pytest.approx(0, abs=2e-3)

    @pytest.mark.parametrize("axis", AXES)
    def test_the_coarser_grid_of_a_finer_one_is_the_first_and_knows_its_places(self, axis):
        finer = GRID.finer(axis)
        coarser, places = finer.coarser(axis)
        assert coarser == GRID
        assert len(finer) > len(GRID)
        found = list(finer.placements())
        assert [found[place] for place in places] == list(GRID.placements())

    def test_united_grids_contain_both(self):
        one, other = GRID.finer("ratio"), GRID.finer("time_scale")
        both = one.united(other)
        assert both == GRID.finer("ratio").finer("time_scale")
        assert {*one.placements(), *other.placements()} <= set(both.placements())
