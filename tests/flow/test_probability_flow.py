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
    """A denoiser of another cost that answers with its own query."""

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


class Numbered:
    """Prompts whose numbers are the seeds."""

    texts = ("a cat", "a dog")

    def numbers(self, seeds, shape):
        return torch.arange(seeds.start, seeds.stop)

    def digest(self, stream):
        return stream.name


class Doubled(torch.nn.Module):
    """A decoder that repeats every pixel."""

    shape = (1, 8, 8)

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))

    def forward(self, latents):
        return latents.repeat_interleave(2, 2).repeat_interleave(2, 3)


class TestModel:
    def model(self, **options):
        return DiffusionModel(mixture(), "digest", (1, 4, 4), NoiseRange(0.5, 2.0), 3, **options)

    @pytest.mark.parametrize("stream", [Stream.evaluation, Stream.training])
    def test_its_conditions_are_none_labels_or_prompts(self, stream):
        seeds = Seeds(stream, 3, 9)
        plain, labelled, prompted = self.model(), self.model(num_classes=10), self.model(prompts=Numbered())
        assert [model.is_conditional for model in (plain, labelled, prompted)] == [False, True, True]
        assert prompted.condition_for(seeds).tolist() == [3, 4, 5, 6, 7, 8]
        digests = [model.conditions_digest(stream) for model in (plain, labelled, prompted)]
        assert digests == [None, "10 classes", stream.name]

    def test_noise_and_condition_are_drawn_together_and_the_noise_once(self, monkeypatch):
        seeds, drawn, draw = Seeds(Stream.training, 3, 9), [], torch.randn
        models = self.model(), self.model(num_classes=10), self.model(prompts=Numbered())
        expected = [(seeds.noise(model.shape), model.condition_for(seeds)) for model in models]
        monkeypatch.setattr(torch, "randn", lambda *args, **options: drawn.append(args) or draw(*args, **options))
        for model, (noise, condition) in zip(models, expected, strict=True):
            drawn.clear()
            own, conditions = model.start_of(seeds)
            assert own.equal(noise)
            assert conditions is condition is None or conditions.equal(condition)
            assert len(drawn) == len(seeds)

    def test_an_image_is_a_sample_unless_it_is_decoded(self):
        plain, latent = self.model(), self.model(decoder=Doubled())
        assert plain.decode(start()).equal(start())
        assert (plain.image_shape, latent.image_shape) == ((1, 4, 4), (1, 8, 8))
        assert latent.decode(start()).shape == (8, 1, 8, 8)

    def test_it_moves_with_all_its_parts(self):
        decoder, last = Doubled(), torch.nn.Linear(1, 1)
        last.cost = 1
        model = self.model(decoder=decoder, last_denoiser=last).to(torch.device("meta"))
        assert {part.weight.device.type for part in (model.decoder, model.last_denoiser)} == {"meta"}
