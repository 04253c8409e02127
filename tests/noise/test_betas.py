"""Betas against the papers' formulas, written down for a few steps."""

import math

import pytest

from amed_lightning.noise.betas import cosine_betas, linear_betas, log_alphas_of


def test_a_thousand_linear_ones_are_ddpm_s():
    betas = linear_betas(1000)
    assert betas[0] == pytest.approx(1e-4, rel=1e-12)
    assert betas[-1] == pytest.approx(0.02, rel=1e-12)
    assert betas[500] == pytest.approx(1e-4 + 500 / 999 * (0.02 - 1e-4), rel=1e-12)


def test_fewer_linear_ones_are_larger_so_that_the_noise_at_the_end_is_the_same():
    assert linear_betas(100)[0] == pytest.approx(1e-3, rel=1e-12)
    assert linear_betas(100)[-1] == pytest.approx(0.2, rel=1e-12)


def test_alphas_of_cosine_ones_are_the_squared_cosine_of_their_time_until_they_are_clipped():
    def squared(time):
        return math.cos(math.pi / 2 * (time + 0.008) / 1.008) ** 2

    betas = cosine_betas(4)
    logs = log_alphas_of(betas)
    for step in range(3):
        assert math.exp(2 * logs[step]) == pytest.approx(squared((step + 1) / 4) / squared(0), rel=1e-12)
    assert betas[3] == 0.999


def test_log_alphas_are_half_the_log_of_the_product_of_what_is_kept():
    kept = 0.9 * 0.8 * 0.5
    assert log_alphas_of([0.1, 0.2, 0.5])[-1] == pytest.approx(math.log(math.sqrt(kept)), rel=1e-12)


@pytest.mark.parametrize(("make", "few"), [(linear_betas, 20), (cosine_betas, 1)])
def test_so_few_or_many_steps_that_there_is_no_such_training_are_refused(make, few):
    for steps in (few, 100_001):
        with pytest.raises(ValueError, match=f"{steps} steps; there are {few + 1} to 100000"):
            make(steps)
