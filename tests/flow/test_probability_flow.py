"""The flow's slope, its time scale, and the first step that needs no network."""

import pytest
import torch

from amed_lightning.denoisers.gaussian import gaussian
from amed_lightning.flow.model import Denoised, DiffusionModel
from amed_lightning.flow.probability_flow import ProbabilityFlow, analytic_first_step
from amed_lightning.noise.schedules import NoiseRange
from amed_lightning.seeds import Seeds, Stream

from ..solvers.problems import Watched, mixture, start


class Echo:
    """A denoiser of another cost that answers with its own question."""

    cost = 2

    def __call__(self, x, sigma, condition):
        self.condition = condition
        return Denoised(sigma + 0 * x, x.flatten(1)[:, :3])


PER_SAMPLE = torch.linspace(0.5, 2.0, 8, dtype=torch.float64).reshape(8, 1, 1, 1)
LEVELS = {"one": torch.tensor(1.7, dtype=torch.float64), "per sample": PER_SAMPLE}
every_level = pytest.mark.parametrize("sigma", LEVELS.values(), ids=LEVELS)


@every_level
def test_the_slope_is_the_state_minus_the_denoised_over_the_level(sigma):
    x, denoiser = start(), mixture()
    answer = ProbabilityFlow(denoiser)(x, sigma)
    denoised = denoiser(x, sigma, None)
    assert answer.sigma is sigma
    assert answer.denoised.equal(denoised.image)
    assert answer.features.equal(denoised.features)
    torch.testing.assert_close(answer.derivative, (x - denoised.image) / sigma, rtol=1e-14, atol=0)


@every_level
@pytest.mark.parametrize("time_scale", [1.25, 1.5 - PER_SAMPLE / 4], ids=["one", "per sample"])
def test_a_time_scale_moves_the_question_but_not_the_division(sigma, time_scale):
    x, denoiser = start(), Watched(mixture())
    answer = ProbabilityFlow(denoiser).scaled(time_scale)(x, sigma)
    (asked,) = denoiser.levels
    expected = mixture()(x, time_scale * sigma, None).image
    torch.testing.assert_close(asked, time_scale * sigma)
    torch.testing.assert_close(answer.denoised, expected)
    torch.testing.assert_close(answer.derivative, (x - expected) / sigma)
    assert answer.sigma is sigma


def test_scaling_replaces_the_scale_and_leaves_the_flow_as_it_was():
    labels = torch.arange(8)
    flow = ProbabilityFlow(Watched(mixture()), labels)
    twice = flow.scaled(2.0).scaled(3.0)
    assert (flow.time_scale, twice.time_scale) == (1.0, 3.0)
    assert twice.condition is labels
    assert twice.denoiser is flow.denoiser


def test_cost_and_condition_are_the_denoisers():
    echo, labels = Echo(), torch.arange(8)
    assert ProbabilityFlow(echo, labels)(start(), LEVELS["one"]).cost == 2
    assert echo.condition is labels


@every_level
def test_the_analytic_first_step_is_exact_for_unit_variance(sigma):
    """Pure noise is shorter than noisy data of its level; the slope given for it is that of the data so lengthened."""
    noise = start() / start().std()
    exact = ProbabilityFlow(gaussian(torch.ones(1, 4, 4, dtype=torch.float64)))(noise * (1 + sigma**2).sqrt(), sigma)
    torch.testing.assert_close(analytic_first_step(noise * sigma, sigma, 3).derivative, exact.derivative)


@every_level
def test_the_analytic_first_step_is_the_published_formula_and_agrees_with_itself(sigma):
    x = start()
    answer = analytic_first_step(x, sigma, 3)
    torch.testing.assert_close(answer.derivative, x / (1 + sigma**2).sqrt(), rtol=1e-14, atol=0)
    torch.testing.assert_close(answer.denoised, x - sigma * answer.derivative, rtol=1e-14, atol=0)
    assert answer.sigma is sigma


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_analytic_first_step_costs_nothing_and_has_no_features(dtype):
    answer = analytic_first_step(start().to(dtype), torch.tensor(80.0, dtype=torch.float64), 5)
    assert answer.cost == 0
    assert answer.features.equal(torch.zeros(8, 5, dtype=dtype))
    assert answer.derivative.dtype == answer.denoised.dtype == dtype


def test_a_detached_answer_is_equal_and_carries_no_gradient():
    sigma = LEVELS["per sample"].clone().requires_grad_()
    answer = ProbabilityFlow(mixture())(start().requires_grad_(), sigma)
    detached = answer.detach()
    assert detached.cost == answer.cost
    for name in ("sigma", "denoised", "derivative", "features"):
        assert getattr(answer, name).requires_grad
        assert not getattr(detached, name).requires_grad
        assert getattr(detached, name).equal(getattr(answer, name))


@pytest.mark.parametrize("num_classes", [0, 10])
def test_a_model_draws_a_label_per_seed_only_if_it_has_classes(num_classes):
    shape, seeds = (1, 4, 4), Seeds(Stream.evaluation, 3, 9)
    condition = DiffusionModel(mixture(), "digest", shape, NoiseRange(0.5, 2.0), 3, num_classes).condition_for(seeds)
    if num_classes:
        assert condition.equal(seeds.labels(shape, num_classes))
    else:
        assert condition is None
