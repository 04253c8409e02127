"""Guidance and thresholding as denoisers around others."""

from dataclasses import replace

import pytest
import torch
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import rescale_noise_cfg

from amed_lightning.config import InputError, build, complete, digest
from amed_lightning.denoisers.around import Wrapper
from amed_lightning.denoisers.gaussian import GaussianMixture
from amed_lightning.denoisers.guidance import (
    OPEN_CLASS,
    AutoGuidance,
    ClassifierFreeGuidance,
    ClassifierGuidance,
    Manner,
    auto_guided,
    classifier_free,
)
from amed_lightning.denoisers.preconditioning import Preconditioned
from amed_lightning.denoisers.registry import DENOISERS
from amed_lightning.denoisers.thresholding import Thresholded, thresholded
from amed_lightning.flow.model import Denoised, DiffusionModel
from amed_lightning.flow.probability_flow import ProbabilityFlow
from amed_lightning.noise.schedules import NoiseRange, Polynomial, levels
from amed_lightning.sampling.sampler import Sampler, runs_made
from amed_lightning.seeds import Seeds, Stream
from amed_lightning.solvers.registry import SOLVERS

WEIGHTS = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)
MEANS = torch.tensor([-2.0, 0.5, 3.0], dtype=torch.float64).reshape(3, 1, 1, 1).expand(3, 1, 2, 2).clone()
MEANS[:, :, 0] *= -0.5
MIXTURE = GaussianMixture(WEIGHTS, MEANS, torch.full_like(MEANS, 0.4))
LABELS = torch.tensor([0, 1, 2, 0])
SIGMA = torch.tensor(0.7, dtype=torch.float64)
DIGITS = {"name": "digits_conditional"}
PARTLY = {"name": "guided", "of": DIGITS, "scale": 2.0, "interval": [0.1, 5.0]}


def component(label):
    return GaussianMixture(torch.ones(1).double(), MEANS[label, None], MIXTURE.variances[label, None])


class Labelled:
    """The mixture, whose classes are its components; a negative label leaves the class open."""

    cost = 1

    def __call__(self, x, sigma, condition):
        parts = []
        for index, label in enumerate(condition.tolist()):
            level = sigma[index : index + 1] if sigma.ndim else sigma
            data = MIXTURE if label == OPEN_CLASS else component(label)
            parts.append(data(x[index : index + 1], level, None).image)
        return Denoised(torch.cat(parts), condition[:, None].to(x.dtype))


class Opened(Wrapper):
    """Another denoiser, which is told no class."""

    def forward(self, x, sigma, condition):
        return self.denoiser(x, sigma, torch.full_like(condition, OPEN_CLASS))


def points():
    generator = torch.Generator().manual_seed(3)
    return 2 * torch.randn(4, 1, 2, 2, generator=generator, dtype=torch.float64)


def per_class(x, sigma):
    return torch.cat([component(label)(x[i : i + 1], sigma, None).image for i, label in enumerate(LABELS.tolist())])


class TestClassifierFree:
    @pytest.mark.parametrize("scale", [0.0, 1.0, 2.5])
    def test_it_extrapolates_from_the_open_answer_through_the_class(self, scale):
        x = points()
        opened, of_class = MIXTURE(x, SIGMA, None).image, per_class(x, SIGMA)
        answer = ClassifierFreeGuidance(Labelled(), scale)(x, SIGMA, LABELS)
        torch.testing.assert_close(answer.image, opened + scale * (of_class - opened))

    def test_it_takes_levels_per_sample(self):
        guided, x = ClassifierFreeGuidance(Labelled(), 2.0), points()
        own = torch.tensor([0.2, 0.5, 1.0, 3.0], dtype=torch.float64).reshape(4, 1, 1, 1)
        together = guided(x, own, LABELS).image
        for index in range(4):
            alone = guided(x[index : index + 1], own[index, 0, 0, 0], LABELS[index : index + 1]).image
            torch.testing.assert_close(together[index : index + 1], alone)

    def test_it_costs_two_and_shows_the_features_of_the_half_with_the_class(self):
        guided = ClassifierFreeGuidance(Labelled(), 2.0)
        assert guided.cost == 2
        assert guided(points(), SIGMA, LABELS).features[:, 0].tolist() == LABELS.tolist()

    def test_without_labels_it_is_refused(self):
        with pytest.raises(ValueError, match="needs a label"):
            ClassifierFreeGuidance(Labelled(), 2.0)(points(), SIGMA, None)

    def test_an_unconditional_model_is_refused_when_it_is_named(self):
        with pytest.raises(InputError, match="model 'guided': guidance needs a class-conditional model"):
            build("model", DENOISERS, {"name": "guided", "of": {"name": "digits"}, "scale": 2.0})

    def test_a_guided_model_is_another_model(self):
        model = build("model", DENOISERS, {"name": "digits_conditional"})
        digests = {model.digest, *(classifier_free(model, scale).digest for scale in (1.0, 2.0))}
        assert len(digests) == 3


class TestManner:
    """The mixture of the classes as the open answer; a class is known exactly."""

    def test_outside_its_interval_there_is_only_the_answer_with_the_class_at_its_cost(self):
        guided, x = ClassifierFreeGuidance(Labelled(), 2.5, Manner((0.5, 2.0))), points()
        plain = ClassifierFreeGuidance(Labelled(), 2.5)
        for level, inside in ((0.4, False), (0.5, False), (0.6, True), (2.0, True), (2.1, False)):
            sigma = torch.tensor(level, dtype=torch.float64)
            answer, cost = guided(x, sigma, LABELS), ProbabilityFlow(guided, LABELS)(x, sigma).cost
            expected = plain(x, sigma, LABELS).image if inside else per_class(x, sigma)
            torch.testing.assert_close(answer.image, expected)
            assert cost == (2 if inside else 1)
            assert answer.features[:, 0].tolist() == LABELS.tolist()

    def test_where_levels_differ_each_sample_has_its_own_and_both_runs_count(self):
        guided, x = ClassifierFreeGuidance(Labelled(), 2.5, Manner((0.5, 2.0))), points()
        own = torch.tensor([0.2, 0.7, 1.0, 3.0], dtype=torch.float64).reshape(4, 1, 1, 1)
        evaluation = ProbabilityFlow(guided, LABELS)(x, own)
        assert evaluation.cost == 2
        for index in range(4):
            alone = guided(x[index : index + 1], own[index, 0, 0, 0], LABELS[index : index + 1]).image
            torch.testing.assert_close(evaluation.denoised[index : index + 1], alone)

    @pytest.mark.parametrize("rescale", [0.7, 1.0])
    def test_it_rescales_as_diffusers_does_what_it_is_given(self, rescale):
        x = points()
        plain = ClassifierFreeGuidance(Labelled(), 2.5)(x, SIGMA, LABELS).image
        answer = ClassifierFreeGuidance(Labelled(), 2.5, Manner(rescale=rescale))(x, SIGMA, LABELS).image
        expected = rescale_noise_cfg(plain, per_class(x, SIGMA), rescale)
        torch.testing.assert_close(answer, expected)
        assert not answer.allclose(plain)

    @pytest.mark.parametrize("scale", [0.0, 1.0, 2.5])
    def test_a_weaker_model_guides(self, scale):
        x, weak = points(), Says(torch.ones(4, 1, 2, 2, dtype=torch.float64))
        guided = AutoGuidance(Labelled(), weak, scale)
        answer = guided(x, SIGMA, LABELS)
        torch.testing.assert_close(answer.image, 1 + scale * (per_class(x, SIGMA) - 1))
        assert answer.features[:, 0].tolist() == LABELS.tolist()
        assert guided.cost == 1 + weak.cost == 4

    def test_a_sampler_counts_the_runs_that_it_made(self):
        model = build("model", DENOISERS, {"name": "guided", "of": DIGITS, "scale": 2.0, "interval": [0.1, 5.0]})
        sampler = Sampler(model, SOLVERS["euler"](), levels(Polynomial(), 6, model.noise_range))
        seeds = Seeds(Stream.evaluation, 0, 2)
        state = sampler.sample(seeds.noise(model.shape), model.condition_for(seeds))
        inside = [0.1 < sigma <= 5.0 for sigma in sampler.sigmas[:-1].tolist()]
        assert state.nfe == sum(1 + each for each in inside) < sampler.nfe
        assert any(inside)

    @pytest.mark.parametrize("change", [{"of": PARTLY}, {"weak": PARTLY}, {"of": PARTLY, "interval": [0.5, 80.0]}])
    def test_runs_of_guidance_inside_another_are_counted_as_they_are_made(self, change):
        told = {"name": "autoguided", "of": DIGITS, "weak": DIGITS, "scale": 2.0} | change
        model = build("model", DENOISERS, told)
        sampler, asked = Sampler(model, SOLVERS["euler"](), levels(Polynomial(), 6, model.noise_range)), []
        for network in {part for part in model.denoiser.modules() if isinstance(part, Preconditioned)}:
            network.register_forward_pre_hook(lambda _, given: asked.append(len(given[0])))
        seeds = Seeds(Stream.evaluation, 0, 2)
        state = sampler.sample(seeds.noise(model.shape), model.condition_for(seeds))
        assert state.nfe == sum(asked) / 2 == runs_made(sampler) < sampler.nfe

    def test_the_last_evaluation_is_guided_too(self):
        plain = build("model", DENOISERS, {"name": "thresholded", "of": DIGITS})
        x, labels = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.arange(4)
        answer = plain.last_denoiser(x, SIGMA, labels).image
        opened = plain.last_denoiser(x, SIGMA, torch.full((4,), OPEN_CLASS)).image
        expected = opened + 2.0 * (answer - opened)
        weak = replace(plain, denoiser=Opened(plain.last_denoiser))
        for guided in (classifier_free(plain, 2.0), auto_guided(plain, weak, 2.0)):
            torch.testing.assert_close(guided.last_denoiser(x, SIGMA, labels).image, expected, rtol=1e-4, atol=1e-5)
            assert guided.digest != plain.digest

    def test_digests_differ_by_every_option_and_a_plain_guidance_has_its_old_one(self):
        model = build("model", DENOISERS, DIGITS)
        old = digest([model.digest, "classifier-free guidance", 2.0])
        assert classifier_free(model, 2.0).digest == old
        others = [
            classifier_free(model, 2.0, Manner((0.1, 5.0))),
            classifier_free(model, 2.0, Manner(rescale=0.5)),
            classifier_free(model, 2.0, negative="a"),
            auto_guided(model, model, 2.0),
            auto_guided(model, model, 2.0, Manner((0.1, 5.0))),
        ]
        assert len({old, *(other.digest for other in others)}) == 6

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"interval": [2.0, 1.0]}, r"interval \[2.0, 1.0\]: levels from one to a larger one"),
            ({"interval": [-1.0, 1.0]}, "zero or more"),
            ({"rescale": 1.5}, "rescale 1.5: it lies between 0 and 1"),
        ],
    )
    def test_what_is_no_manner_is_refused(self, options, message):
        with pytest.raises(InputError, match=message):
            build("model", DENOISERS, {"name": "guided", "of": DIGITS, "scale": 2.0, **options})

    def test_a_weak_model_of_another_kind_is_refused(self):
        for weak, message in (
            ({"name": "digits"}, r"has classes: 10, and the weak one 0"),
            ({"name": "fashion_mnist_conditional"}, r"of shape \(1, 8, 8\), and the weak one \(1, 28, 28\)"),
        ):
            with pytest.raises(InputError, match=message):
                build("model", DENOISERS, {"name": "autoguided", "of": DIGITS, "weak": weak, "scale": 2.0})

    def test_a_weak_model_is_asked_at_its_own_levels_alone(self):
        model = build("model", DENOISERS, DIGITS)
        low, high = model.noise_range.sigma_min, model.noise_range.sigma_max
        weak = replace(model, noise_range=NoiseRange(2 * low, high / 2))
        for manner in (Manner(), Manner((2 * low, high)), Manner((low, high / 2))):
            with pytest.raises(ValueError, match=r"the weak model was trained at levels .*: let `interval` lie inside"):
                auto_guided(model, weak, 2.0, manner)
        assert auto_guided(model, weak, 2.0, Manner((2 * low, high / 2))).noise_range == model.noise_range


class TestClassifier:
    def log_probability(self, x, sigma, labels):
        return MIXTURE(x, sigma, None).features.log()[torch.arange(len(labels)), labels]

    def test_with_the_exact_classifier_at_scale_one_it_is_the_conditional_model(self):
        x = points()
        for mode in (torch.inference_mode, torch.no_grad, torch.enable_grad):
            with mode():
                answer = ClassifierGuidance(MIXTURE, self.log_probability, 1.0)(x, SIGMA, LABELS)
            torch.testing.assert_close(answer.image, per_class(x, SIGMA))

    def test_the_gradient_passes_through_where_it_is_wanted(self):
        x = points().requires_grad_()
        ClassifierGuidance(MIXTURE, self.log_probability, 1.0)(x, SIGMA, LABELS).image.sum().backward()
        expected = torch.autograd.functional.jacobian(lambda x: per_class(x, SIGMA).sum(), points())
        torch.testing.assert_close(x.grad, expected)

    def test_without_labels_it_is_refused(self):
        with pytest.raises(ValueError, match="needs a label"):
            ClassifierGuidance(MIXTURE, self.log_probability, 1.0)(points(), SIGMA, None)


class Says:
    """A denoiser with a fixed answer."""

    cost = 3

    def __init__(self, image):
        self.image = image

    def __call__(self, x, sigma, condition):
        return Denoised(self.image, torch.zeros(len(x), 1, dtype=x.dtype))


class TestThresholding:
    def test_it_clips_at_the_quantile_of_each_sample_and_divides_by_it(self):
        image = torch.linspace(-4, 2, 32, dtype=torch.float64).reshape(2, 1, 4, 4)
        answer = Thresholded(Says(image), 0.9)(torch.zeros_like(image), SIGMA, None).image
        for given, got in zip(image, answer, strict=True):
            ordered = given.abs().flatten().sort().values
            bound = max(1.0, float(ordered[13] + 0.5 * (ordered[14] - ordered[13])))  # 0.9 of 15 steps is 13.5
            torch.testing.assert_close(got, given.clip(-bound, bound) / bound)

    def test_the_quantile_is_the_published_one_unless_it_is_told_another(self):
        image = torch.arange(201, dtype=torch.float64).reshape(1, 1, 3, 67)  # 0.995 of 200 steps is 199
        model = thresholded(DiffusionModel(Says(image), "", (1, 3, 67), NoiseRange(0.1, 1.0), 1))
        for denoiser in (Thresholded(Says(image)), model.denoiser):
            torch.testing.assert_close(denoiser(image, SIGMA, None).image, image.clip(max=199) / 199)
        assert complete("model", DENOISERS, {"name": "thresholded", "of": {"name": "digits"}})["quantile"] == 0.995

    def test_an_image_within_one_stays_as_it_is(self):
        image = torch.linspace(-1, 0.9, 16, dtype=torch.float64).reshape(1, 1, 4, 4)
        assert Thresholded(Says(image))(image, SIGMA, None).image.equal(image)

    def test_it_costs_what_the_denoiser_costs_and_the_gradient_passes_through_the_bound(self):
        image = torch.linspace(-3, 2.3, 16, dtype=torch.float64).reshape(1, 1, 4, 4).requires_grad_()
        clipped = Thresholded(Says(image), 0.5)
        assert clipped.cost == 3
        assert torch.autograd.gradcheck(lambda x: Thresholded(Says(x), 0.55)(x, SIGMA, None).image, image)

    @pytest.mark.parametrize("quantile", [0.0, 1.5])
    def test_a_quantile_out_of_range_is_refused(self, quantile):
        with pytest.raises(InputError, match="model 'thresholded': a quantile"):
            build("model", DENOISERS, {"name": "thresholded", "of": {"name": "digits"}, "quantile": quantile})

    def test_denoise_to_zero_ends_with_an_answer_that_is_not_thresholded(self):
        image = torch.full((1, 1, 4, 4), 5.0, dtype=torch.float64)
        plain = DiffusionModel(Says(image), "", (1, 4, 4), NoiseRange(0.1, 1.0), 1)
        model = thresholded(plain)
        sigmas = levels(Polynomial(), 3, model.noise_range)
        noise = torch.zeros(1, 1, 4, 4, dtype=torch.float64)
        clipped = Sampler(model, SOLVERS["euler"](), sigmas).sample(noise)
        assert float(clipped.x.max()) <= 1.0
        state = Sampler(model, SOLVERS["euler"](), sigmas, denoise_to_zero=True).sample(noise)
        assert state.x.equal(image)
        assert state.nfe == clipped.nfe + 3
