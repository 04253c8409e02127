"""FID and IS against torch-fidelity and against plain numpy; sums that add up, and what is refused."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_isc import isc_features_to_metric

from amed_lightning.metrics import feature_metrics
from amed_lightning.metrics.detector import Detection
from amed_lightning.metrics.feature_metrics import kernel_distance, precision_recall
from amed_lightning.metrics.frechet import Moments, feature_sums
from amed_lightning.metrics.statistics import Statistics

from .known import Known, known_scores, pictures_of

FEATURES, CLASSES = 8, 5
TOTAL = 123
NUM_SPLITS = 10
"""The published number."""


def detection(total=TOTAL, seed=0):
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(FEATURES, FEATURES, generator=generator)
    features = torch.randn(total, FEATURES, generator=generator) @ mixing + seed
    return Detection(features, 2 * torch.randn(total, CLASSES, generator=generator))


def statistics(features):
    moments = Moments.from_sums(len(features), *feature_sums(features))
    return Statistics(moments, "of nothing", features=features)


REAL = detection(200, seed=1).features
REFERENCE = statistics(REAL)


def scores_of(seen, total=None, order=None):
    """Score the images in the order given, all at once."""
    total = total or len(seen.features)
    order = torch.arange(len(seen.features)) if order is None else order
    scores = known_scores(seen, REFERENCE, total)
    scores.update(pictures_of(order), order)
    return scores


def empty(metrics=("fid", "is")):
    """Scores of the images of ``detection``, none of which has been shown."""
    return known_scores(detection(), REFERENCE, TOTAL, metrics)


def inception_scores(logits, bounds):
    """IS on each part between two bounds, in plain numpy."""
    values = []
    for first, last in pairwise(bounds):
        exponentials = np.exp(logits[first:last].double().numpy())
        probability = exponentials / exponentials.sum(1, keepdims=True)
        divergence = (probability * np.log(probability / probability.mean(0))).sum(1)
        values.append(np.exp(divergence.mean()))
    return np.array(values)


class TestAgainstTorchFidelity:
    @pytest.mark.parametrize("total", [20, TOTAL, 1000])
    def test_fid_is_the_same(self, total):
        seen = detection(total)
        statistics = [fid_features_to_statistics(features.double()) for features in (seen.features, REAL)]
        expected = fid_statistics_to_metric(*statistics, verbose=False)["frechet_inception_distance"]
        assert scores_of(seen).compute()["fid"] == pytest.approx(expected, rel=1e-6)

    @pytest.mark.parametrize("total", [10, 27, TOTAL])
    def test_is_and_its_deviation_are_the_same_without_shuffling(self, total):
        seen = detection(total)
        expected = isc_features_to_metric(seen.logits, splits=NUM_SPLITS, shuffle=False)
        values = scores_of(seen).compute()
        assert values["is"] == pytest.approx(expected["inception_score_mean"], rel=1e-12)
        assert values["is_deviation"] == pytest.approx(expected["inception_score_std"], rel=1e-9, abs=1e-12)


class TestInceptionScore:
    @pytest.mark.parametrize("total", [27, 100, TOTAL])
    def test_split_j_begins_at_the_floor_of_its_tenth(self, total):
        bounds = [part * total // NUM_SPLITS for part in range(NUM_SPLITS + 1)]
        expected = inception_scores(detection(total).logits, bounds)
        values = scores_of(detection(total)).compute()
        assert values["is"] == pytest.approx(expected.mean(), rel=1e-10)
        assert values["is_deviation"] == pytest.approx(expected.std(), rel=1e-8)

    def test_a_split_goes_by_the_index_whatever_the_order_of_arrival(self):
        order = torch.randperm(TOTAL, generator=torch.Generator().manual_seed(2))
        straight, mixed = scores_of(detection()).compute(), scores_of(detection(), order=order).compute()
        assert mixed == pytest.approx(straight, rel=1e-12)

    def test_the_whole_is_one_split(self):
        (expected,) = inception_scores(detection().logits, [0, TOTAL])
        assert scores_of(detection()).compute()["is_whole"] == pytest.approx(expected, rel=1e-10)

    def test_empty_splits_are_left_out(self):
        first = Detection(*(part[:30] for part in (detection().features, detection().logits)))
        bounds = [part * TOTAL // NUM_SPLITS for part in range(3)]
        expected = inception_scores(first.logits, [*bounds, 30])
        assert scores_of(first, total=TOTAL).compute()["is"] == pytest.approx(expected.mean(), rel=1e-10)

    def test_a_class_that_never_comes_is_worth_nothing(self):
        logits = torch.tensor([[0.0, 0.0, -1e4]]).expand(20, 3)
        scores = scores_of(Detection(detection(20).features, logits))
        assert scores.compute()["is"] == pytest.approx(1, abs=1e-12)


class TestFrechetDistance:
    def exactly(self, mean, covariance, total=300, seed=4):
        """Features whose own mean and covariance are these: noise, whitened, then coloured."""
        noise = torch.randn(total, FEATURES, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        noise -= noise.mean(0)
        white = noise @ torch.linalg.inv(torch.linalg.cholesky(noise.T.cov(), upper=True))
        return white @ torch.linalg.cholesky(covariance, upper=True) + mean

    def test_on_features_of_two_gaussians_it_is_the_closed_form(self):
        basis = torch.linalg.qr(torch.randn(8, 8, generator=torch.Generator().manual_seed(5), dtype=torch.float64)).Q
        variances = torch.linspace(0.5, 4, 8, dtype=torch.float64), torch.linspace(3, 0.1, 8, dtype=torch.float64)
        means = torch.zeros(8, dtype=torch.float64), torch.linspace(-1, 2, 8, dtype=torch.float64)
        real, generated = (
            self.exactly(mean, (basis * variance) @ basis.T) for mean, variance in zip(means, variances, strict=True)
        )
        seen = Detection(generated, torch.zeros(len(generated), CLASSES))
        scores = known_scores(seen, statistics(real), len(generated))
        for part in torch.arange(len(generated)).split(77):
            scores.update(pictures_of(part), part)
        expected = (means[1] - means[0]).square().sum() + (variances[0].sqrt() - variances[1].sqrt()).square().sum()
        assert scores.compute()["fid"] == pytest.approx(expected.item(), rel=1e-9)


class TestFeatureMetrics:
    METRICS = ("fid", "kid", "precision_recall")

    def block(self, numbers):
        scores = empty(self.METRICS)
        scores.update(pictures_of(numbers), numbers)
        return scores

    def test_blocks_hand_their_features_on_and_the_order_of_arrival_does_not_matter(self, monkeypatch):
        monkeypatch.setattr(feature_metrics, "KID_SUBSET_SIZE", 40)  # then it matters which image is which
        whole = self.block(torch.arange(TOTAL)).compute()
        numbers = torch.arange(TOTAL).split(50)
        added = empty(self.METRICS)
        for part in reversed(numbers):
            added.add(self.block(part).sums())
        assert set(whole) == {"fid", "kid", "kid_deviation", "precision", "recall"}
        values = added.compute()
        assert {name: values[name] for name in ("kid", "precision", "recall")} == {
            name: whole[name] for name in ("kid", "precision", "recall")
        }
        assert values["fid"] == pytest.approx(whole["fid"], rel=1e-10)

    def test_they_are_those_of_the_features(self):
        expected = kernel_distance(detection().features, REAL) | precision_recall(detection().features, REAL)
        values = self.block(torch.arange(TOTAL)).compute()
        assert {name: values[name] for name in expected} == expected

    def test_features_are_kept_for_them_alone(self):
        assert "features" not in scores_of(detection()).sums()


class TestSums:
    BLOCKS = ((0, 40), (40, 80), (80, TOTAL))

    def block(self, first, last):
        scores = empty()
        self.show(scores, first, last)
        return scores

    def show(self, scores, first, last):
        numbers, images = torch.arange(first, last), self.images()[first:last]
        scores.update(pictures_of(numbers), numbers, pair=(images, torch.zeros_like(images)))

    def images(self):
        return torch.randn(TOTAL, 1, 2, 2, generator=torch.Generator().manual_seed(3))

    def test_the_sums_of_blocks_added_in_order_are_one_pass(self):
        added, passed = empty(), empty()
        for first, last in self.BLOCKS:
            added.add(self.block(first, last).sums())
            self.show(passed, first, last)
        for name, value in passed.sums().items():
            if name in ("split_probability", "split_negative_entropy"):  # a split may lie in two blocks
                torch.testing.assert_close(added.sums()[name], value, rtol=1e-13, atol=0)
            else:
                assert added.sums()[name].equal(value), name
        assert added.compute() == pytest.approx(passed.compute(), rel=1e-12)

    def test_the_same_blocks_in_the_same_order_give_the_same_bits(self):
        sums = [self.block(*bounds).sums() for bounds in self.BLOCKS]
        values = []
        for _ in range(2):
            scores = empty()
            for block in sums:
                scores.add(block)
            values.append(scores.compute())
        assert values[0] == values[1]

    def test_another_partition_moves_the_last_digits_at_most(self):
        one = self.block(0, TOTAL).compute()
        three = empty()
        for bounds in self.BLOCKS:
            three.add(self.block(*bounds).sums())
        assert three.compute() == pytest.approx(one, rel=1e-10)

    def test_every_sum_is_in_double_precision_or_a_count(self):
        sums = self.block(0, 10).sums()
        assert {value.dtype for value in sums.values()} == {torch.float64, torch.int64}
        assert int(sums["count"]) == int(sums["split_count"].sum()) == 10
        assert int(sums["compared_values"]) == 40

    def test_the_distance_to_a_reference_is_the_root_mean_square(self):
        scores = self.block(0, TOTAL)
        assert scores.compute()["rmse"] == pytest.approx(self.images().square().mean().sqrt().item(), rel=1e-6)
        decibels = 10 * np.log10(4 / self.images().double().square().mean().item())
        assert scores.compute()["psnr"] == pytest.approx(decibels, rel=1e-6)
        assert not {"rmse", "psnr"} & scores_of(detection()).compute().keys()

    def test_equal_images_have_no_decibels(self):
        scores = empty()
        scores.update(pictures_of(torch.arange(TOTAL)), torch.arange(TOTAL), pair=(self.images(), self.images()))
        values = scores.compute()
        assert values["rmse"] == 0
        assert "psnr" not in values

    def test_what_is_added_after_a_score_counts_too(self):
        scores = self.block(0, 80)
        before = scores.compute()
        scores.add(self.block(80, TOTAL).sums())
        assert scores.compute() == pytest.approx(self.block(0, TOTAL).compute(), rel=1e-10)
        assert scores.compute()["fid"] != before["fid"]

    def test_adding_sums_leaves_them_as_they_are(self):
        scores = self.block(0, 40)
        before = {name: value.clone() for name, value in scores.sums().items()}
        added = empty()
        added.add(before)
        added.add(self.block(40, 80).sums())
        assert all(value.equal(scores.sums()[name]) for name, value in before.items())


class TestRefusals:
    def forced(self, features, logits):
        """A detection whose shapes nobody has looked at."""
        made = object.__new__(Detection)
        object.__setattr__(made, "features", features)
        object.__setattr__(made, "logits", logits)
        return made

    @pytest.mark.parametrize(
        ("features", "logits", "images"),
        [
            ((FEATURES,), (CLASSES,), 1),
            ((FEATURES,), (1, CLASSES), 1),
            ((1, FEATURES), (CLASSES,), 1),
            ((4, FEATURES, 1, 1), (4, CLASSES), 4),
            ((4, FEATURES), (4, CLASSES), 3),
            ((4, FEATURES), (3, CLASSES), 4),
            ((4, FEATURES + 1), (4, CLASSES), 4),
            ((4, FEATURES), (4, CLASSES - 1), 4),
        ],
    )
    def test_squeezed_or_miscounted_features_are_refused(self, monkeypatch, features, logits, images):
        scores, answer = empty(), self.forced(torch.zeros(features), torch.zeros(logits))
        monkeypatch.setattr(Known, "__call__", lambda detector, pixels: answer)
        with pytest.raises(ValueError, match=r"features .* and logits .*, not"):
            scores.update(pictures_of(torch.arange(images)), torch.arange(images))
        assert scores.sums() == {}

    @pytest.mark.parametrize("first", [-1, TOTAL - 3])
    def test_an_index_outside_the_total_is_refused(self, first):
        scores = empty()
        with pytest.raises(ValueError, match=f"outside 0 .. {TOTAL - 1}"):
            scores.update(pictures_of(torch.arange(4)), torch.arange(first, first + 4))
        assert scores.sums() == {}


class TestCollectives:
    @pytest.fixture
    def group(self, tmp_path):
        store = torch.distributed.FileStore(str(tmp_path / "store"), 1)
        torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
        yield
        torch.distributed.destroy_process_group()

    @pytest.mark.usefixtures("group")
    def test_no_collective_touches_a_score(self, monkeypatch):
        def refuse(*arguments, **options):
            raise AssertionError("a collective was called")

        expected = scores_of(detection())
        for name in ("all_gather", "all_reduce", "barrier", "all_gather_object", "broadcast"):
            monkeypatch.setattr(torch.distributed, name, refuse)
        scores = scores_of(detection())
        added = empty()
        added.add(scores.sums())
        assert added.compute() == scores.compute() == expected.compute()
