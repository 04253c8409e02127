"""The Frechet distance against closed forms and a second way to compute it."""

import numpy as np
import pytest
import torch

from amed_lightning.metrics.frechet import Moments, frechet_distance

SIZE = 12


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def rotation(seed):
    return torch.linalg.qr(torch.randn(SIZE, SIZE, generator=generator(seed), dtype=torch.float64)).Q


def gaussian(seed, basis):
    """A Gaussian with a random mean and random variances along the columns of ``basis``."""
    mean, logarithms = torch.randn(2, SIZE, generator=generator(seed), dtype=torch.float64)
    variances = logarithms.exp()
    return Moments(99, mean, (basis * variances) @ basis.T), variances


class TestDistance:
    def test_it_is_the_closed_form_where_the_covariances_commute(self):
        basis = rotation(7)
        (one, a), (two, b) = gaussian(1, basis), gaussian(2, basis)
        expected = (one.mean - two.mean).square().sum() + (a.sqrt() - b.sqrt()).square().sum()
        assert frechet_distance(one, two) == pytest.approx(expected.item(), rel=1e-12)

    def test_it_follows_from_the_eigenvalues_of_the_product_where_they_do_not(self):
        (one, _), (two, _) = gaussian(1, rotation(7)), gaussian(2, rotation(8))
        assert not (one.covariance @ two.covariance).allclose(two.covariance @ one.covariance)
        products = torch.linalg.eigvals(one.covariance @ two.covariance)
        expected = (one.mean - two.mean).square().sum() + one.covariance.trace() + two.covariance.trace()
        expected -= 2 * products.sqrt().sum().real
        assert frechet_distance(one, two) == pytest.approx(expected.item(), rel=1e-10)

    def test_it_is_symmetric_and_zero_between_equals(self):
        (one, _), (two, _) = gaussian(1, rotation(7)), gaussian(2, rotation(8))
        assert frechet_distance(one, two) == pytest.approx(frechet_distance(two, one), rel=1e-12)
        assert abs(frechet_distance(one, one)) < 1e-10

    def test_fewer_images_than_features_give_a_distance_too(self):
        few = torch.randn(5, SIZE, generator=generator(3), dtype=torch.float64)
        (one, _), few = gaussian(1, rotation(7)), Moments.from_sums(5, few.sum(0), few.T @ few)
        products = torch.linalg.eigvals(one.covariance @ few.covariance)
        expected = (one.mean - few.mean).square().sum() + one.covariance.trace() + few.covariance.trace()
        expected -= 2 * products.real.clamp(min=0).sqrt().sum()
        assert frechet_distance(one, few) == pytest.approx(expected.item(), rel=1e-6)
        assert frechet_distance(few, one) == pytest.approx(expected.item(), rel=1e-6)

    def test_the_root_of_the_reference_is_taken_once(self, monkeypatch):
        (one, _), (two, _) = gaussian(1, rotation(7)), gaussian(2, rotation(8))
        first = frechet_distance(one, two)
        monkeypatch.setattr(torch.linalg, "eigh", None)
        assert frechet_distance(one, two) == first


class TestMoments:
    def test_they_are_mean_and_sample_covariance(self):
        features = torch.randn(50, SIZE, generator=generator(4), dtype=torch.float64) + 3
        moments = Moments.from_sums(50, features.sum(0), features.T @ features)
        np.testing.assert_allclose(moments.mean, features.numpy().mean(0), rtol=1e-12)
        np.testing.assert_allclose(moments.covariance, np.cov(features.numpy(), rowvar=False), rtol=0, atol=1e-12)

    def test_the_root_squared_is_the_covariance(self):
        moments, _ = gaussian(1, rotation(7))
        torch.testing.assert_close(moments.root @ moments.root, moments.covariance, rtol=0, atol=1e-12)
        torch.testing.assert_close(moments.root, moments.root.T, rtol=0, atol=1e-12)

    @pytest.mark.parametrize("count", [0, 1])
    def test_fewer_than_two_images_have_no_covariance(self, count):
        with pytest.raises(ValueError, match=f"at least two images, got {count}"):
            Moments.from_sums(count, torch.zeros(2), torch.zeros(2, 2))
