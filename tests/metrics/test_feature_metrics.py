"""KID, precision and recall against their definitions, written out."""

import numpy as np
import pytest
import torch

from amed_lightning.metrics import feature_metrics
from amed_lightning.metrics.feature_metrics import kernel_distance, precision_recall

SIZE = 6


def cloud(count, seed, shift=0.0):
    return torch.randn(count, SIZE, generator=torch.Generator().manual_seed(seed)) + shift


def discrepancy(x, y):
    """The unbiased estimate of the squared maximum mean discrepancy, pair by pair."""

    def kernel(a, b):
        return (float(np.dot(a, b)) / SIZE + 1) ** 3

    def within(z):
        pairs = [kernel(z[i], z[j]) for i in range(len(z)) for j in range(len(z)) if i != j]
        return np.mean(pairs)

    return within(x) + within(y) - 2 * np.mean([kernel(a, b) for a in x for b in y])


def inside(points, balls):
    """Whether each point lies within some ball's distance to its third neighbour, point by point."""
    radii = [sorted(np.linalg.norm(ball - other) for other in balls)[3] for ball in balls]
    return [
        any(np.linalg.norm(point - ball) <= radius for ball, radius in zip(balls, radii, strict=True))
        for point in points
    ]


class TestKernelDistance:
    def test_it_is_the_unbiased_discrepancy_where_one_subset_is_all(self):
        generated, real = cloud(20, seed=0, shift=0.3), cloud(20, seed=1)
        found = kernel_distance(generated, real)
        assert found["kid"] == pytest.approx(discrepancy(generated.double().numpy(), real.double().numpy()), rel=1e-10)
        assert found["kid_deviation"] == pytest.approx(0, abs=1e-10)

    @pytest.mark.parametrize(("subsets", "size", "fewer"), [(100, 20, "KID_SUBSET_SIZE"), (1, 1000, "KID_SUBSETS")])
    def test_it_is_the_mean_over_a_hundred_subsets_of_a_thousand_from_the_seed_2020(
        self, monkeypatch, subsets, size, fewer
    ):
        """Every constant stands here once more; both numbers at once take half a minute, so one of them is less."""
        monkeypatch.setattr(feature_metrics, fewer, {"KID_SUBSET_SIZE": 20, "KID_SUBSETS": 1}[fewer])
        generated, real = cloud(1010, seed=0, shift=0.3).double(), cloud(1005, seed=1).double()
        draws, expected = np.random.RandomState(2020), []
        for _ in range(subsets):
            x, y = (each.numpy()[draws.choice(len(each), size, replace=False)] for each in (generated, real))
            within = [((z @ z.T / 6 + 1) ** 3, np.eye(size, dtype=bool)) for z in (x, y)]
            between = ((x @ y.T / 6 + 1) ** 3).mean()
            expected.append(sum(kernel[~same].mean() for kernel, same in within) - 2 * between)
        found = kernel_distance(generated, real)
        assert found["kid"] == pytest.approx(np.mean(expected), rel=1e-9)
        assert found["kid_deviation"] == pytest.approx(np.std(expected), rel=1e-9, abs=1e-12)

    def test_its_subsets_are_the_same_each_time_and_have_a_spread(self, monkeypatch):
        monkeypatch.setattr(feature_metrics, "KID_SUBSET_SIZE", 100)
        generated, real = cloud(150, seed=0, shift=0.5), cloud(200, seed=1)
        found = kernel_distance(generated, real)
        assert found == kernel_distance(generated, real)
        assert 0 < found["kid_deviation"] < found["kid"]

    def test_equal_distributions_are_nothing_apart(self):
        near, far = (kernel_distance(cloud(300, seed=0, shift=shift), cloud(300, seed=1)) for shift in (0.0, 0.5))
        assert abs(near["kid"]) < 0.1 * far["kid"]


class TestPrecisionRecall:
    def test_they_are_the_shares_within_the_third_neighbours_distance(self):
        generated, real = cloud(40, seed=0, shift=0.8), cloud(60, seed=1)
        found = precision_recall(generated, real)
        assert found["precision"] == pytest.approx(np.mean(inside(generated.numpy(), real.numpy())))
        assert found["recall"] == pytest.approx(np.mean(inside(real.numpy(), generated.numpy())))
        assert 0 < found["precision"] < 1
        assert 0 < found["recall"] < 1

    def test_half_of_the_modes_have_all_precision_and_half_the_recall(self):
        real = torch.cat([cloud(50, seed=0), cloud(50, seed=1, shift=100.0)])
        assert precision_recall(real[:50], real) == {"precision": 1.0, "recall": 0.5}

    def test_many_images_are_treated_in_parts(self):
        generated, real = cloud(1300, seed=0, shift=0.5), cloud(1100, seed=1)
        distances = torch.cdist(generated.double(), real.double())
        radii = torch.cdist(real.double(), real.double()).sort(1).values[:, 3]
        expected = (distances <= radii).any(1).float().mean()
        assert precision_recall(generated, real)["precision"] == pytest.approx(expected.item(), rel=1e-6)
