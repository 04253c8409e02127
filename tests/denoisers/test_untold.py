"""What a state dict of OpenAI's does not tell: read as it is said, taken aloud, or refused."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from amed_lightning.config import InputError, build
from amed_lightning.denoisers.families import consistency, guided_diffusion
from amed_lightning.denoisers.openai import openai_model
from amed_lightning.denoisers.registry import DENOISERS
from amed_lightning.denoisers.untold import Untold
from amed_lightning.noise.schedules import Discrete, levels

from .described import Described, cosine_alphas, level, linear_alphas
from .published import (
    CLASSIFIER,
    CONSISTENCY,
    TINY,
    TINY_CLASSIFIER,
    TINY_CONSISTENCY,
    TINY_OPTIONS,
    UNTOLD,
    OpenAI,
    openai_shapes,
    random_state,
    write_openai,
)
from .reference import reference

WIDE = replace(TINY, channel_mult=(1, 3), attention=(16, 8))
"""32 and 96 channels: two heads in every block are heads of 16 and of 48 channels."""
BY_CONVOLUTIONS = replace(WIDE, resblock_updown=False)
PLAIN = replace(BY_CONVOLUTIONS, num_classes=0, learn_sigma=False, scale_shift=False, channel_mult=(1, 2, 2))
HALVED = replace(WIDE, model_channels=64, channel_mult=(0.5, 1.5))
LINEAR = {"noise_schedule": "linear", "diffusion_steps": 1000}
COSINE = {"noise_schedule": "cosine", "diffusion_steps": 1000}
LEGACY, NEW = {"attention_order": "legacy"}, {"attention_order": "new"}
TWO, OF_16 = {"num_heads": 2}, {"head_channels": 16}
STEPS = [0.0, 1.0, 62.0, 499.5, 998.0, 999.0]
READINGS = {
    "heads of 16": (WIDE, OF_16 | LEGACY | LINEAR),
    "two heads": (WIDE, TWO | LEGACY | LINEAR),
    "two heads, new order": (WIDE, TWO | NEW | LINEAR),
    "heads of 16, new order, cosine": (WIDE, OF_16 | NEW | COSINE),
    "convolutions": (BY_CONVOLUTIONS, TWO | LEGACY | COSINE),
    "convolutions, linear": (BY_CONVOLUTIONS, TWO | LEGACY | LINEAR),
    "no classes, variance or scales": (PLAIN, TWO | LEGACY | COSINE),
    "one level": (replace(PLAIN, channel_mult=(2,)), TWO | LEGACY | LINEAR),
    "half the channels first": (HALVED, OF_16 | LEGACY | LINEAR),
    "4000 rescaled": (BY_CONVOLUTIONS, TWO | LEGACY | COSINE | {"diffusion_steps": 4000, "rescale_timesteps": True}),
    "4000 as they are": (
        BY_CONVOLUTIONS,
        TWO | LEGACY | COSINE | {"diffusion_steps": 4000, "rescale_timesteps": False},
    ),
    "100 linear": (WIDE, TWO | LEGACY | LINEAR | {"diffusion_steps": 100, "rescale_timesteps": False}),
}
every_reading = pytest.mark.parametrize(("options", "said"), READINGS.values(), ids=READINGS)


def state_of(options):
    """Draw a network whose attention is sharp enough to tell its readings apart."""
    return {
        name: 2 * value if name.endswith("qkv.weight") else value
        for name, value in random_state(openai_shapes(options), 0).items()
    }


def read(options, said):
    return openai_model(Path("a.pt"), state_of(options), Untold(img_resolution=16, **said))


class Compared:
    """Our reading of a network, and its description."""

    def __init__(self, options, said):
        self.said, self.stored = said, read(options, said)
        self.denoiser = self.stored.denoiser().double()
        state = {name: value.double() for name, value in state_of(options).items()}
        self.network = Described(state, options, said.get("num_heads"), said["attention_order"] == "new")
        generator = torch.Generator().manual_seed(1)
        self.scaled = torch.randn(2, 3, 16, 16, generator=generator, dtype=torch.float64)
        self.labels = torch.tensor([1, 7]) if options.num_classes else None
        self.alphas = {"linear": linear_alphas, "cosine": cosine_alphas}[said["noise_schedule"]](
            said["diffusion_steps"]
        )

    def level(self, step):
        """Return the level of a step of training, linear in the log of alpha between two."""
        below = int(step)
        left, right = self.alphas.log()[[below, min(below + 1, len(self.alphas) - 1)]]
        return level((left + (step - below) * (right - left)).exp())

    def ours(self, step):
        """Return what our reading takes the noise to be in a scaled image."""
        sigma = self.level(step)
        x = self.scaled * (1 + sigma**2).sqrt()
        return (x - self.denoiser(x, sigma, self.labels).image) / sigma

    def right(self, step):
        """Return what the description says it is."""
        told = step * 1000 / len(self.alphas) if self.said.get("rescale_timesteps") else step
        if LINEAR.items() <= self.said.items():  # AMED's tool tells the network continuous time
            root = (0.1**2 + 2 * 19.9 * (1 + self.level(step) ** 2).log()).sqrt()
            told = 999 * float((root - 0.1) / 19.9)
            assert abs(told - step) < 4
        return self.network(self.scaled, torch.full((2,), told, dtype=torch.float64), self.labels)[:, :3]


class TestDescription:
    """The network that ours is compared with is itself compared with the published implementations' numbers."""

    def test_it_computes_guided_diffusion_s_numbers(self):
        content = reference("e")
        network = Described({name: value.double() for name, value in content.part("model").items()}, TINY)
        x, sigma, step = (content.values[name].double() for name in ("x", "sigma", "c_noise64"))
        got = network(x / (1 + sigma**2).sqrt().reshape(-1, 1, 1, 1), step.expand(len(x)), content.labels)[:, :3]
        torch.testing.assert_close(got, content.values["raw_eps64"], rtol=0, atol=1e-9)

    def test_it_computes_the_consistency_models_numbers(self):
        content = reference("d")
        state = {name: value.double() for name, value in content.state.items()}
        network = Described(state, TINY_CONSISTENCY, new_order=True)
        x, sigma = (content.values[name].double() for name in ("x", "sigma"))
        level = sigma.reshape(-1, 1, 1, 1)
        total = (level**2 + 0.25).sqrt()
        answer = (level / 2 * network(x / total, 250 * sigma.log().expand(len(x))) + 0.25 / total * x) / total
        torch.testing.assert_close(answer, content.values["out64"], rtol=0, atol=1e-9)


class TestReadings:
    @every_reading
    def test_a_network_answers_what_its_description_says(self, options, said):
        compared = Compared(options, said)
        last = said["diffusion_steps"] - 1
        for step in (0.0, 0.31 * last, float(last)):
            right = compared.right(step)
            torch.testing.assert_close(compared.ours(step), right, rtol=0, atol=1e-7)
            assert right.std() > 0.3

    def test_other_readings_of_one_file_answer_otherwise_and_are_other_models(self):
        """A test of a reading could not fail if two of them agreed."""
        said = [split | order | LINEAR for split in (TWO, OF_16) for order in (LEGACY, NEW)]
        said.append(said[0] | COSINE)
        readings = [Compared(WIDE, reading) for reading in said]
        sigma = readings[0].level(620.0)
        answers = [
            reading.denoiser(sigma * reading.scaled, sigma, reading.labels).image / sigma for reading in readings
        ]
        assert len({reading.stored.digest for reading in readings}) == len(said)
        for index, answer in enumerate(answers):
            assert all((answer - other).abs().max() > 0.1 for other in answers[:index])

    def test_a_digest_is_what_it_was_before_there_were_options(self):
        """Stores and predictors name it."""
        digests = {}
        for name, options in {"cm": TINY_CONSISTENCY, "guided": TINY, "classifier": TINY_CLASSIFIER}.items():
            state, first = {}, 0
            for tensor, shape in openai_shapes(options).items():
                count = torch.Size(shape).numel()
                state[tensor] = torch.arange(first, first + count, dtype=torch.float32).reshape(shape)
                first += count
            digests[name] = openai_model(Path("a.pt"), state, UNTOLD).digest
        assert digests == {
            "cm": "aa26268125c8bc8a16e560e9acbc76c69c1d08c9d1c8d3b695ac38eba84d6f7f",
            "guided": "e87efdd56636bd44691b0f40f08e7b72c5f6394f8b14dbc930396a861a5e2ef5",
            "classifier": "021a670e9bb316b4a06de9d6f3d4688b2d0d27e83b3dce81380715b475cd6ede",
        }

    def test_a_cosine_network_works_between_the_levels_of_its_first_and_last_step(self):
        noise_range = read(WIDE, TWO | LEGACY | COSINE).model().noise_range
        alphas = cosine_alphas(1000)
        ends = noise_range.sigma_min, noise_range.sigma_max
        assert ends == pytest.approx([float(level(alphas[step])) for step in (0, -1)], rel=1e-9)
        torch.testing.assert_close(torch.tensor(noise_range.log_alphas, dtype=torch.float64), alphas.log() / 2)
        grid = levels(Discrete(), 9, noise_range)  # from step 999 down to 0 in 111 at a time
        torch.testing.assert_close(grid, level(alphas[torch.arange(999, -1, -111)]), rtol=1e-8, atol=0)

    def test_a_linear_network_s_levels_are_those_of_amed_s_tool(self):
        noise_range = read(WIDE, TWO | LEGACY | LINEAR).model().noise_range
        assert (noise_range.sigma_min, noise_range.sigma_max) == (0.01048384327441454, 152.16697692871094)
        assert noise_range.log_alphas is None


def shaped(options, **said):
    """Read a network of these shapes without numbers."""
    state = {name: torch.empty(shape, device="meta") for name, shape in openai_shapes(options).items()}
    return openai_model(Path("a.pt"), state, Untold(options.image_size, **{"head_channels": 64} | said))


ADM64 = OpenAI(64, 192, 3, (1, 2, 3, 4))
IMPROVED = {"resblock_updown": False, "attention": (16, 8), "num_classes": 0}
PUBLISHED = {
    "64x64_diffusion.pt": (ADM64, {}, "attention_order and noise_schedule"),
    "64x64_diffusion.pt, fine-tuned": (replace(ADM64, num_classes=7), NEW, "noise_schedule"),
    "64x64_classifier.pt": (
        replace(CLASSIFIER, image_size=64, num_res_blocks=4, channel_mult=(1, 2, 3, 4)),
        LEGACY,
        "noise_schedule",
    ),
    "imagenet64_uncond": (OpenAI(64, 128, 3, (1, 2, 3, 4), **IMPROVED), {}, "noise_schedule and diffusion_steps"),
    "imagenet64_cond": (
        replace(ADM64, resblock_updown=False),
        LEGACY | {"noise_schedule": "cosine"},
        "diffusion_steps",
    ),
    "cifar10_uncond": (OpenAI(32, 128, 3, (1, 2, 2, 2), **IMPROVED), {}, "noise_schedule and diffusion_steps"),
    "cifar10_uncond, 4000": (
        OpenAI(32, 128, 3, (1, 2, 2, 2), **IMPROVED),
        COSINE | {"diffusion_steps": 4000},
        "rescale_timesteps",
    ),
    "lsun_uncond": (OpenAI(256, 128, 2, (1, 1, 2, 2, 4, 4), scale_shift=False, **IMPROVED), {}, "noise_schedule"),
    "another by convolutions": (BY_CONVOLUTIONS, {"head_channels": 16}, "noise_schedule"),
}
ORDINARY = {
    "128x128_diffusion.pt": (OpenAI(128, 256, 2, (1, 1, 2, 3, 4)), {"head_channels": None, "num_heads": 4}, "vp"),
    "256x256_diffusion.pt": (OpenAI(), {}, "vp"),
    "512x512_diffusion.pt": (OpenAI(512, channel_mult=(0.5, 1, 1, 2, 2, 4, 4)), {}, "vp"),
    "512x512_classifier.pt": (replace(CLASSIFIER, image_size=512, channel_mult=(0.5, 1, 1, 2, 2, 4, 4)), {}, "vp"),
    "64x64_diffusion.pt": (ADM64, NEW | {"noise_schedule": "cosine"}, "vp_discrete"),
    "lsun_uncond": (
        PUBLISHED["lsun_uncond"][0],
        {"head_channels": None, "num_heads": 1, "noise_schedule": "linear"},
        "vp",
    ),
    "edm_imagenet64_ema.pt": (replace(ADM64, is_cm=True, learn_sigma=False), {}, "cm"),
    "edm_bedroom256_ema.pt": (CONSISTENCY, {}, "cm"),
}


class TestAsked:
    @pytest.mark.parametrize(("options", "said", "asked"), PUBLISHED.values(), ids=PUBLISHED)
    def test_a_network_shaped_like_one_of_other_options_is_refused_until_they_are_given(self, options, said, asked):
        with pytest.raises(InputError, match=rf"^a\.pt: give {asked}, which its tensors do not tell") as refusal:
            shaped(options, **said)
        assert len(str(refusal.value).splitlines()) == 1

    @pytest.mark.parametrize(("options", "said", "preconditioning"), ORDINARY.values(), ids=ORDINARY)
    def test_other_published_networks_are_read(self, options, said, preconditioning):
        stored = shaped(options, **said)
        module = stored.classifier() if stored.card.is_classifier else stored.denoiser()
        assert stored.card.preconditioning == preconditioning
        assert module.model.topology.img_resolution == options.image_size

    def test_what_is_taken_is_said_in_a_line(self, tmp_path, capsys):
        path = write_openai(tmp_path / "network.pt", TINY)
        guided_diffusion(str(path), **TINY_OPTIONS)
        guided_diffusion(str(path), **TINY_OPTIONS, noise_schedule="linear")
        guided_diffusion(str(path), **TINY_OPTIONS, **LEGACY, **LINEAR)
        printed = capsys.readouterr()
        assert printed.out == ""
        both, one = printed.err.splitlines()
        assert both == (
            f"note: {path}: read with attention_order legacy, noise_schedule linear, diffusion_steps 1000; "
            "its tensors do not tell, give what differs"
        )
        assert "attention_order legacy, diffusion_steps 1000;" in one

    def test_the_consistency_models_order_is_said_too(self, tmp_path, capsys):
        path = str(write_openai(tmp_path / "edm.pt", TINY_CONSISTENCY))
        zero_init = consistency(path, **TINY_OPTIONS, attention_order="new")
        assert capsys.readouterr().err == ""
        assert consistency(path, **TINY_OPTIONS).digest == zero_init.digest
        assert "read with attention_order new" in capsys.readouterr().err
        assert consistency(path, **TINY_OPTIONS, attention_order="legacy").digest != zero_init.digest

    @pytest.mark.parametrize(
        ("said", "message"),
        [
            ({}, "give img_resolution and head_channels or num_heads, which its tensors do not tell"),
            ({"img_resolution": 16}, "give head_channels or num_heads, which"),
            ({"head_channels": 16}, "give img_resolution, which"),
            (TINY_OPTIONS | {"num_heads": 4}, "head_channels 16 and num_heads 4: give one of them"),
            (TINY_OPTIONS | {"head_channels": 24}, "64 channels are no multiple of 24"),
            ({"img_resolution": 16, "num_heads": 5}, "64 channels are no multiple of 5"),
            ({"img_resolution": 16, "num_heads": 0}, "num_heads is 0; it is a whole number from 1"),
            ({"img_resolution": True, "num_heads": 1}, "img_resolution is True; it is a whole number"),
            (TINY_OPTIONS | {"diffusion_steps": 4000}, "give rescale_timesteps, which"),
            (TINY_OPTIONS | {"diffusion_steps": 20, "rescale_timesteps": False}, "20 steps; there are 21 to 100000"),
            (TINY_OPTIONS | {"diffusion_steps": 10**9, "rescale_timesteps": False}, "there are 21 to 100000"),
        ],
    )
    def test_what_nobody_has_said_or_no_network_has_is_refused_by_name(self, tmp_path, said, message):
        path = write_openai(tmp_path / "network.pt", TINY)
        with pytest.raises(InputError, match=re.escape(message)) as refusal:
            guided_diffusion(str(path), **said)
        assert len(str(refusal.value).splitlines()) == 1

    @pytest.mark.parametrize(
        ("name", "value", "message"),
        [
            ("attention_order", "newest", "attention_order is 'newest'; use one of legacy, new"),
            ("noise_schedule", "sqrt", "noise_schedule is 'sqrt'; use one of linear, cosine"),
            ("rescale_timesteps", "maybe", "rescale_timesteps is 'maybe'; it is true or false"),
        ],
    )
    def test_a_word_that_is_none_is_refused_by_its_own_check_and_in_a_configuration(self, name, value, message):
        """Tests check every call's types before a constructor's own check, which is all that a caller of Python has."""
        unchecked = replace(UNTOLD)
        object.__setattr__(unchecked, name, value)
        with pytest.raises(InputError, match=message):
            unchecked.__post_init__()
        with pytest.raises(InputError, match=f"model 'guided_diffusion': .*{name}"):
            build("model", DENOISERS, {"name": "guided_diffusion", "path": "a.pt", name: value})

    def test_an_unknown_option_is_refused_with_those_that_there_are(self):
        with pytest.raises(InputError, match=r"unknown key 'heads': use one of .*head_channels, num_heads"):
            build("model", DENOISERS, {"name": "guided_diffusion", "path": "a.pt", "heads": 4})

    def test_the_consistency_models_have_no_noise_schedule(self):
        with pytest.raises(InputError, match="has no noise_schedule; leave it out"):
            openai_model(Path("a.pt"), state_of(TINY_CONSISTENCY), Untold(16, 16, noise_schedule="linear"))


class TestOtherNetworks:
    @pytest.mark.parametrize("options", [replace(TINY, sees=6), replace(TINY, sees=6, learn_sigma=False)])
    def test_an_up_sampler_is_refused_by_name_whatever_is_said(self, options):
        for untold in (UNTOLD, Untold()):
            with pytest.raises(InputError, match=r"^a\.pt: an up-sampler, which sees a small image too; .*by itself$"):
                openai_model(Path("a.pt"), state_of(options), untold)

    def test_outputs_that_are_neither_noise_nor_noise_and_variance_are_refused(self):
        state = state_of(TINY)
        for kind in ("weight", "bias"):
            state[f"out.2.{kind}"] = state[f"out.2.{kind}"][:5]
        with pytest.raises(InputError, match="5 outputs for images of 3 channels"):
            openai_model(Path("a.pt"), state, UNTOLD)

    @pytest.mark.parametrize("name", ["cd_bedroom256_l2.pt", "ct_cat256.pt"])
    def test_a_consistency_function_is_no_denoiser(self, tmp_path, name):
        path = write_openai(tmp_path / name, TINY_CONSISTENCY)
        with pytest.raises(InputError, match=rf"{name}: by its name a consistency function, which is no denoiser"):
            consistency(str(path), **TINY_OPTIONS)

    def test_a_network_that_resamples_without_tensors_is_refused(self):
        state = {name: value for name, value in state_of(BY_CONVOLUTIONS).items() if not re.search("op|conv", name)}
        with pytest.raises(InputError, match="resample without any are not read"):
            openai_model(Path("a.pt"), state, Untold(16, num_heads=2, noise_schedule="linear"))

    def test_a_file_of_another_family_says_its_name_before_it_asks(self, tmp_path):
        path = str(write_openai(tmp_path / "network.pt", TINY))
        with pytest.raises(InputError, match="name it as 'guided_diffusion'"):
            consistency(path)
