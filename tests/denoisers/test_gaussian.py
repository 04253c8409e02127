"""Exact denoisers against closed forms, numerical integration and what their flow conserves."""

import math

import pytest
import torch

from amed_lightning.config import build
from amed_lightning.denoisers.gaussian import GaussianMixture, anisotropic_gaussian, exact_model
from amed_lightning.denoisers.registry import DENOISERS
from amed_lightning.flow.probability_flow import ProbabilityFlow
from amed_lightning.noise.schedules import Logsnr, NoiseRange, levels
from amed_lightning.solvers.registry import SOLVERS
from amed_lightning.solvers.state import solve

from ..solvers.problems import anisotropic, mixture, start

WEIGHTS, MEANS, VARIANCES = [0.2, 0.5, 0.3], [-1.5, 0.2, 2.0], [0.3, 0.05, 0.6]
PER_SAMPLE = torch.linspace(0.2, 3.0, 8, dtype=torch.float64).reshape(8, 1, 1, 1)
LEVELS = {"one": torch.tensor(0.7, dtype=torch.float64), "per sample": PER_SAMPLE}
every_level = pytest.mark.parametrize("sigma", LEVELS.values(), ids=LEVELS)


def line() -> GaussianMixture:
    """Three components on a line."""
    means, variances = (torch.tensor(value, dtype=torch.float64).reshape(3, 1, 1, 1) for value in (MEANS, VARIANCES))
    return GaussianMixture(torch.tensor(WEIGHTS, dtype=torch.float64), means, variances)


def off_centre() -> GaussianMixture:
    """One component whose mean is not zero."""
    generator = torch.Generator().manual_seed(5)
    mean, variance = torch.rand(2, 1, 1, 4, 4, generator=generator, dtype=torch.float64) + 0.1
    return GaussianMixture(torch.ones(1, dtype=torch.float64), mean, variance)


def density(x, mean, variance):
    return torch.exp(-((x - mean) ** 2) / (2 * variance)) / (2 * math.pi * variance) ** 0.5


@every_level
def test_a_gaussian_shrinks_towards_its_mean_by_the_signal_to_noise_ratio(sigma):
    data, x = off_centre(), start()
    mean, variance = data.means[0], data.variances[0]
    answer = data(x, sigma, None)
    torch.testing.assert_close(answer.image, mean + variance / (variance + sigma**2) * (x - mean))
    assert answer.features.equal(torch.ones(8, 1, dtype=torch.float64))


def test_a_gaussian_named_by_its_variances_has_mean_zero():
    data, sigma = anisotropic(), LEVELS["one"]
    variance = torch.logspace(-0.7, 0.95, 16, dtype=torch.float64).reshape(1, 4, 4)
    torch.testing.assert_close(data(start(), sigma, None).image, variance / (variance + sigma**2) * start())


@every_level
def test_a_mixture_is_the_numerical_posterior_mean(sigma):
    x = torch.linspace(-4, 4, 8, dtype=torch.float64).reshape(8, 1, 1, 1)
    clean = torch.linspace(-9, 9, 20_001, dtype=torch.float64)
    prior = torch.stack([w * density(clean, m, v) for w, m, v in zip(WEIGHTS, MEANS, VARIANCES, strict=True)])
    joint = prior * density(x, clean, sigma**2).reshape(8, 1, -1)
    answer = line()(x, sigma, None)
    evidence = joint.sum((1, 2))
    torch.testing.assert_close(answer.image.flatten(), (joint * clean).sum((1, 2)) / evidence, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(answer.features, joint.sum(2) / evidence[:, None], rtol=1e-8, atol=1e-8)


def test_the_components_of_an_image_are_weighed_by_all_its_pixels():
    data, x, sigma = mixture(), start(), LEVELS["one"]
    likelihood = torch.stack(
        [density(x, m, v + sigma**2).flatten(1).prod(1) for m, v in zip(data.means, data.variances, strict=True)], 1
    )
    weighed = data.weights * likelihood
    torch.testing.assert_close(data(x, sigma, None).features, weighed / weighed.sum(1, keepdim=True))


def test_components_far_from_a_state_do_not_overflow():
    answer = line()(torch.full((1, 1, 1, 1), 1e4), torch.tensor(0.01), None)
    assert answer.image.isfinite().all()
    assert answer.features.sum() == 1


@every_level
def test_the_closed_form_solves_the_differential_equation(sigma):
    data, x = off_centre(), start()
    sigma_next, step = sigma / 3, 1e-4
    before, here, after = (data.gaussian_solution(x, sigma, sigma_next + side * step) for side in (-1, 0, 1))
    slope = (after - before) / (2 * step)
    torch.testing.assert_close(data.gaussian_solution(x, sigma, sigma), x)
    torch.testing.assert_close(slope, ProbabilityFlow(data)(here, sigma_next).derivative, rtol=1e-6, atol=1e-6)


def test_several_components_have_no_closed_form():
    with pytest.raises(ValueError, match="the flow of 3 components has no closed form"):
        line().gaussian_solution(torch.zeros(1, 1, 1, 1), torch.tensor(1.0), torch.tensor(0.5))


def test_the_flow_of_a_mixture_on_a_line_keeps_every_quantile():
    def quantile(x, sigma):
        return sum(
            w * torch.special.ndtr((x - m) / (v + sigma**2).sqrt())
            for w, m, v in zip(WEIGHTS, MEANS, VARIANCES, strict=True)
        )

    sigmas = levels(Logsnr(), 400, NoiseRange(0.01, 20.0))
    x = torch.linspace(-40, 40, 21, dtype=torch.float64).reshape(-1, 1, 1, 1)
    end = solve(SOLVERS["heun"](), ProbabilityFlow(line()), x, sigmas).x
    torch.testing.assert_close(quantile(end, sigmas[-1]), quantile(x, sigmas[0]), rtol=0, atol=2e-5)


def test_an_exact_model_describes_its_denoiser():
    model = exact_model(mixture(), 0.1, 10.0)
    assert model.shape == (1, 4, 4)
    assert model.feature_size == mixture()(start(), LEVELS["one"], None).features.shape[1]
    assert model.noise_range == NoiseRange(0.1, 10.0)
    assert model.num_classes == 0


def test_an_exact_models_digest_tells_mixtures_apart():
    def digest(weights=WEIGHTS, means=MEANS, variances=VARIANCES):
        parts = (torch.tensor(value, dtype=torch.float64) for value in (weights, means, variances))
        weights, *others = parts
        return exact_model(GaussianMixture(weights, *(part.reshape(3, 1, 1, 1) for part in others))).digest

    assert digest() == digest()
    others = {digest(weights=[0.3, 0.4, 0.3]), digest(means=[-1.5, 0.2, 2.1]), digest(variances=[0.3, 0.05, 0.7])}
    assert len(others | {digest()}) == 4


def test_the_anisotropic_model_spans_variances_from_a_hundredth_to_four():
    variances = anisotropic_gaussian().denoiser.variances.flatten()
    assert variances[0] == pytest.approx(0.01)
    assert variances[-1] == pytest.approx(4, rel=1e-3)
    torch.testing.assert_close(variances.log().diff(), variances.log().diff()[:1].expand(15))


def test_the_anisotropic_model_takes_its_size_from_its_description():
    model = build("model", DENOISERS, {"name": "anisotropic_gaussian", "height": 2, "width": 3})
    assert model.shape == (1, 2, 3)
