"""The jackknife's error is the deviation of what it is of, and its test errs as often as it says."""

import math
from functools import partial
from itertools import product
from statistics import fmean, stdev

import pytest
import torch

from amed_lightning.bench.jackknife import LEVEL, Estimate
from amed_lightning.bench.row import scored
from amed_lightning.metrics.detector import Detection
from amed_lightning.metrics.frechet import Moments, feature_sums, frechet_distance
from amed_lightning.metrics.statistics import Statistics

from ..metrics.known import known_scores, pictures_of

BLOCKS, SIZE, FEATURES, CLASSES = 9, 64, 16, 10
REAL = Moments(None, torch.zeros(FEATURES, dtype=torch.float64), torch.eye(FEATURES, dtype=torch.float64))
TOLERANCE = 0.25


def estimated(features):
    """Return the FID of blocks of features."""
    sums = [feature_sums(block) for block in features]
    total, outer = (sum(parts) for parts in zip(*sums, strict=True))

    def fid(count, total, outer):
        return frechet_distance(REAL, Moments.from_sums(count, total, outer))

    others = [fid((BLOCKS - 1) * SIZE, total - its_total, outer - its_outer) for its_total, its_outer in sums]
    return Estimate(fid(BLOCKS * SIZE, total, outer), others)


def root_mean_square(errors):
    return math.sqrt(fmean(error**2 for error in errors))


@pytest.fixture(scope="module")
def pairs():
    """FIDs of two samplers that are equally bad in other ways, on equal seeds, of 200 ranges of seeds."""
    generator, found = torch.Generator().manual_seed(0), []
    for _ in range(200):
        noise = torch.randn(BLOCKS, SIZE, FEATURES, generator=generator, dtype=torch.float64)
        samplers = []
        for axis in (0, 1):
            features = noise.clone()
            features[..., axis] += 0.5
            features[..., 2 + axis] *= 1.3
            samplers.append(estimated(features))
        found.append(samplers)
    return found


class TestError:
    def test_of_fid_it_is_the_deviation_from_one_range_of_seeds_to_the_next(self, pairs):
        truth = stdev(one.value for one, _ in pairs)
        assert root_mean_square(one.error for one, _ in pairs) == pytest.approx(truth, rel=TOLERANCE)

    def test_of_a_difference_on_equal_seeds_too(self, pairs):
        differences = [one - two for one, two in pairs]
        truth = stdev(difference.value for difference in differences)
        assert root_mean_square(difference.error for difference in differences) == pytest.approx(truth, rel=TOLERANCE)

    def test_of_is_and_rmse_it_is_the_deviation_too_as_a_row_has_them(self):
        generator, statistics = torch.Generator().manual_seed(1), Statistics(REAL, "of nothing")
        rows = []
        for _ in range(40):
            sums = []
            for block in range(BLOCKS):
                labels = torch.randint(CLASSES, (SIZE,), generator=generator)
                noise = torch.randn(SIZE, CLASSES, generator=generator)
                logits = 6 * torch.nn.functional.one_hot(labels, CLASSES) + noise
                images = torch.randn(SIZE, 1, 2, 2, generator=generator)
                scores = known_scores(Detection(torch.zeros(SIZE, FEATURES), logits), statistics, BLOCKS * SIZE, ["is"])
                numbers = torch.arange(SIZE)
                scores.update(pictures_of(numbers), block * SIZE + numbers, pair=(images, torch.zeros_like(images)))
                sums.append(scores.sums())
            nothing = Detection(torch.zeros(0, FEATURES), torch.zeros(0, CLASSES))
            rows.append(scored(partial(known_scores, nothing, statistics, BLOCKS * SIZE, ["is"]), sums, []))
        for score in ("is", "rmse"):
            truth = stdev(row["values"][score] for row in rows)
            errors = [row["values"][f"{score}_error"] for row in rows]
            assert root_mean_square(errors) == pytest.approx(truth, rel=TOLERANCE)

    def test_there_is_none_without_two_blocks(self):
        assert Estimate(1.0).error is None
        assert Estimate(1.0, [1.0]).error is None


class TestPairedTest:
    def test_what_is_equal_is_told_apart_as_often_as_the_level_says(self, pairs):
        told = sum((one - two).is_told_from_zero for one, two in pairs) / len(pairs)
        assert told == pytest.approx(LEVEL, abs=0.03)

    def test_what_is_not_is_told_apart_though_either_error_would_cover_it(self, pairs):
        worse = [Estimate(two.value + 0.1, [part + 0.1 for part in two.leave_one_out]) for _, two in pairs]
        differences = [two - other for (_, two), other in zip(pairs, worse, strict=True)]
        assert all(difference.is_told_from_zero for difference in differences)

    @pytest.mark.parametrize(("blocks", "quantile"), [(2, 12.7062), (3, 4.3027), (9, 2.3060), (31, 2.0423)])
    def test_its_bound_is_student_s_of_the_tables(self, blocks, quantile):
        """Without one of the blocks the value is off so that its error is 1."""
        off = [math.sqrt(blocks / (2 * (blocks - 1)))] * 2
        parts = [off[0], -off[1], *[0.0] * (blocks - 2)]
        assert Estimate(0.0, parts).error == pytest.approx(1.0)
        for sign, factor in product((1, -1), (0.9999, 1.0001)):
            assert Estimate(sign * factor * quantile, parts).is_told_from_zero == (factor > 1)

    def test_where_there_is_none_whatever_is_not_zero_is_told_from_it(self):
        assert Estimate(1e-9).is_told_from_zero
        assert not Estimate(0.0).is_told_from_zero

    def test_equal_scores_are_never_told_apart_and_no_number_always_is(self):
        same = Estimate(2.0, [1.0, 2.0, 3.0])
        assert not (same - same).is_told_from_zero
        assert Estimate(float("nan"), [1.0, 2.0]).is_told_from_zero

    def test_unlike_numbers_of_blocks_are_never_paired(self):
        with pytest.raises(ValueError, match="argument 2 is longer"):
            Estimate(1.0, [1.0, 2.0]) - Estimate(1.0, [1.0, 2.0, 3.0])
        assert (Estimate(1.0, [1.0, 2.0]) - Estimate(0.5)).error is None
