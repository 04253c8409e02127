"""How the intervals' losses weigh against one another, and by what the best predictor is told."""

import math

import pytest
import torch

from amed_lightning.training.objective import OBJECTIVES


def number(value):
    return torch.tensor(value, dtype=torch.float64)


class TestScale:
    def test_a_running_size_keeps_nine_tenths_per_batch_and_the_factor_is_its_reciprocal(self):
        objective = OBJECTIVES["normalised"](2)
        sizes = (8.0, 0.9 * 8 + 0.1 * 2, 0.9 * (0.9 * 8 + 0.1 * 2) + 0.1 * 40)
        for loss, size in zip((8.0, 2.0, 40.0), sizes, strict=True):
            assert float(objective.scale(2, number(loss))) == pytest.approx(1 / size, rel=1e-12)

    def test_each_interval_has_a_size_of_its_own(self):
        objective = OBJECTIVES["normalised"](3)
        factors = [objective.scale(interval, number(4.0**interval)) for interval in (1, 2, 3)]
        assert torch.stack(factors).tolist() == pytest.approx([1 / 4, 1 / 16, 1 / 64])
        assert objective.sizes.tolist() == [4.0, 16.0, 64.0]

    def test_a_loss_of_nothing_has_a_finite_factor(self):
        assert OBJECTIVES["normalised"](1).scale(1, number(0.0)).isfinite()

    def test_published_losses_weigh_as_they_are(self):
        objective = OBJECTIVES["published"](2)
        assert [float(objective.scale(interval, number(9.0))) for interval in (1, 2, 2)] == [1.0] * 3

    def test_end_to_end_only_the_last_one_weighs(self):
        objective = OBJECTIVES["end_to_end"](3)
        assert [float(objective.scale(interval, number(9.0))) for interval in (1, 2, 3)] == [0.0, 0.0, 1.0]

    def test_the_sizes_are_part_of_a_checkpoint(self):
        first, second = OBJECTIVES["normalised"](2), OBJECTIVES["normalised"](2)
        first.scale(1, number(8.0))
        second.load_state_dict(first.state_dict())
        assert float(second.scale(1, number(3.0))) == pytest.approx(1 / (0.9 * 8 + 0.1 * 3))


class TestJudge:
    def test_normalised_by_the_geometric_mean(self):
        assert OBJECTIVES["normalised"](3).judge([0.1, 10.0, 1000.0]) == pytest.approx(10)

    def test_published_by_the_sum(self):
        assert OBJECTIVES["published"](3).judge([0.1, 10.0, 1000.0]) == pytest.approx(1010.1)

    def test_end_to_end_by_the_last(self):
        assert OBJECTIVES["end_to_end"](3).judge([0.1, 10.0, 1000.0]) == 1000

    @pytest.mark.parametrize("form", ["normalised", "published"])
    def test_a_loss_of_nothing_is_the_best_and_one_that_is_no_number_beats_none(self, form):
        objective = OBJECTIVES[form](2)
        assert objective.judge([0.0, -1e-17]) == pytest.approx(0, abs=1e-15)
        assert not objective.judge([math.nan, 1.0]) < math.inf
