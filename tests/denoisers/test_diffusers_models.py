"""Latent models through diffusers: its own pipelines are the oracle, on tiny random models saved to disk."""

import contextlib
import gc
import json
import os
import shutil
import subprocess
import sys
import weakref

import diffusers
import huggingface_hub.constants
import pytest
import safetensors.torch
import torch

from amed_lightning.config import InputError, build
from amed_lightning.denoisers.arithmetic import Arithmetic
from amed_lightning.denoisers.computing import computing
from amed_lightning.denoisers.guidance import OPEN_CLASS, ClassifierFreeGuidance
from amed_lightning.denoisers.registry import DENOISERS, load
from amed_lightning.flow.probability_flow import ProbabilityFlow
from amed_lightning.seeds import Seeds, Stream
from amed_lightning.solvers.registry import SOLVERS
from amed_lightning.solvers.state import solve

from . import pipelines
from .loading import CAPTIONS, PROMPTS, copied, latent, noise, text, watched

STEPS = 5
SIGMA = torch.tensor(1.3, dtype=torch.float64)
BETAS = torch.linspace(1e-4, 0.015, 1000, dtype=torch.float64).tolist()
PER_SAMPLE = torch.tensor([0.1, 1.3, 9.0]).reshape(3, 1, 1, 1)


def unet_of(model):
    inner = model.denoiser.denoiser if isinstance(model.denoiser, ClassifierFreeGuidance) else model.denoiser
    return inner.model.unet


def ddim(model, scheduler, start):
    """Run Euler's method over the levels at which diffusers' DDIM stops; return the last state as DDIM scales it."""
    scheduler.set_timesteps(STEPS)
    alphas = scheduler.alphas_cumprod.double()[[*scheduler.timesteps.tolist(), 0]]
    sigmas = ((1 - alphas) / alphas).sqrt()
    condition = model.condition_for(Seeds(Stream.evaluation, 0, len(start)))
    with torch.inference_mode():
        x = start * (1 + sigmas[0].square()).sqrt().float()
        state = solve(SOLVERS["euler"](), ProbabilityFlow(model.denoiser, condition), x, sigmas)
    return state.x / (1 + sigmas[-1].square()).sqrt(), state.nfe


def assert_same_images(latents, decoded, expected_latents, expected_images):
    """Rounding moves latents by 2e-5 of their size, guidance being chaotic; other prompts move them by 4e-2."""
    torch.testing.assert_close(latents, expected_latents, rtol=0, atol=2e-4 * float(expected_latents.abs().max()))
    torch.testing.assert_close((decoded / 2 + 0.5).clamp(0, 1), expected_images, rtol=0, atol=2e-3)


def assert_like_its_pipeline(name, folder, guidance=7.5, negative=None):
    """Compare Euler's method with DDIM in the pipeline of a folder, and the decoded images."""
    model = text(folder, guidance=guidance, **({} if negative is None else {"negative": negative}))
    kinds = {"sdxl": diffusers.StableDiffusionXLPipeline, "stable_diffusion": diffusers.StableDiffusionPipeline}
    pipeline = kinds[name].from_pretrained(folder, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    options = {"prompt": CAPTIONS, "num_inference_steps": STEPS, "guidance_scale": guidance}
    options["negative_prompt"] = None if negative is None else [negative] * len(CAPTIONS)
    expected = [pipeline(**options, latents=noise(model), output_type=kind).images for kind in ("latent", "pt")]
    latents, nfe = ddim(model, pipeline.scheduler, noise(model))
    assert nfe == (STEPS if guidance == 1 else 2 * STEPS)
    assert_same_images(latents, model.decode(latents), *expected)


class TestPipelines:
    @pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
    @pytest.mark.parametrize("name", ["stable_diffusion", "sdxl"])
    @pytest.mark.parametrize("guidance", [1.0, 7.5])
    def test_euler_is_the_ddim_of_the_text_pipelines_and_their_images_are_ours(
        self, tiny, tmp_path, name, prediction, guidance
    ):
        folder = copied(tiny[name], tmp_path, scheduler__scheduler_config={"prediction_type": prediction})
        assert_like_its_pipeline(name, folder, guidance)

    @pytest.mark.parametrize("name", ["stable_diffusion", "sdxl"])
    def test_a_negative_prompt_is_what_guidance_leads_away_from(self, tiny, name):
        assert_like_its_pipeline(name, tiny[name], negative="a dog")
        assert text(tiny[name]).digest != text(tiny[name], negative="a dog").digest

    @pytest.mark.parametrize("options", [{"negative": "a dog"}, {"rescale": 0.5}, {"interval": [0.1, 2.0]}])
    def test_options_of_a_guidance_that_there_is_not_are_refused(self, tiny, options):
        with pytest.raises(InputError, match="nothing is guided away from another answer here"):
            text(tiny["stable_diffusion"], guidance=1.0, **options)

    @pytest.mark.parametrize(
        ("name", "changes"),
        [
            ("stable_diffusion", {"scheduler__scheduler_config": {"prediction_type": "sample"}}),
            ("stable_diffusion", {"scheduler__scheduler_config": {"trained_betas": BETAS}}),
            ("stable_diffusion", {"tokenizer__tokenizer_config": {"model_max_length": 8}}),
            ("sdxl", {"vae__config": {"latents_mean": [0.5, -1.0, 0.0, 0.2], "latents_std": [2.0, 0.5, 1.0, 1.5]}}),
        ],
        ids=["sample", "betas", "length", "statistics"],
    )
    def test_so_they_are_whatever_else_the_folder_says(self, tiny, tmp_path, name, changes):
        assert_like_its_pipeline(name, copied(tiny[name], tmp_path, **changes))

    def test_a_clipping_scheduler_does_not_clip_under_stable_diffusion_s_pipeline(self, tiny, tmp_path):
        folder = copied(tiny["stable_diffusion"], tmp_path, scheduler__scheduler_config={"clip_sample": True})
        with pytest.warns(FutureWarning, match="clip_sample"):
            assert_like_its_pipeline("stable_diffusion", folder)
        assert text(folder).digest == text(tiny["stable_diffusion"]).digest

    @pytest.mark.parametrize("bound", [0.3, 1.0])
    @pytest.mark.parametrize("prediction", ["epsilon", "sample"])
    def test_a_clipping_scheduler_s_image_is_ours(self, tiny, tmp_path, prediction, bound):
        clipping = {"prediction_type": prediction, "clip_sample": True, "clip_sample_range": bound}
        folder = copied(tiny["latent_diffusion"], tmp_path, scheduler__scheduler_config=clipping)
        model, step = latent(folder), 500
        scheduler = diffusers.DDIMScheduler.from_pretrained(folder / "scheduler")
        scheduler.set_timesteps(STEPS)
        alpha = scheduler.alphas_cumprod[step].double().sqrt()
        x = noise(model)
        with torch.no_grad():
            said = model.denoiser.denoiser.model.unet(x, step).sample
            answer = model.denoiser(x / alpha.float(), (1 - alpha**2).sqrt() / alpha, None).image
        expected = scheduler.step(said, step, x).pred_original_sample
        assert float(expected.abs().max()) == pytest.approx(bound)
        torch.testing.assert_close(answer, expected, rtol=1e-3, atol=1e-4)
        assert model.digest != latent(tiny["latent_diffusion"]).digest

    def test_images_are_clipped_after_guidance(self, tiny, tmp_path):
        folder = copied(tiny["sdxl"], tmp_path, scheduler__scheduler_config={"clip_sample": True})
        clipped, plain = text(folder), text(tiny["sdxl"])
        question = noise(plain), SIGMA, torch.tensor([1, 2, 1])
        with torch.no_grad():
            expected = plain.denoiser(*question).image
            assert clipped.denoiser(*question).image.equal(expected.clamp(-1, 1))
        assert expected.abs().max() > 1
        assert clipped.denoiser.cost == 2

    def test_euler_is_the_ddim_of_the_unconditional_pipeline_and_its_images_are_ours(self, tiny):
        model = latent(tiny["latent_diffusion"])
        pipeline = diffusers.LDMPipeline.from_pretrained(tiny["latent_diffusion"], local_files_only=True)
        pipeline.set_progress_bar_config(disable=True)
        with watched(pipeline.unet) as runs:
            images = pipeline(3, torch.Generator().manual_seed(5), num_inference_steps=STEPS, output_type="np").images
        assert len(runs) == STEPS
        start = torch.randn(3, *model.shape, generator=torch.Generator().manual_seed(5))
        latents, nfe = ddim(model, pipeline.scheduler, start)
        assert nfe == STEPS
        expected = torch.from_numpy(images).permute(0, 3, 1, 2)
        torch.testing.assert_close((model.decode(latents) / 2 + 0.5).clamp(0, 1), expected, rtol=0, atol=4e-4)

    @pytest.mark.parametrize("name", ["latent_diffusion", "stable_diffusion", "sdxl"])
    def test_a_model_describes_its_pipeline(self, tiny, name):
        model = latent(tiny[name]) if name == "latent_diffusion" else text(tiny[name])
        alphas = pipelines.scheduler().alphas_cumprod.double()
        channels = 3 if name == "latent_diffusion" else 4
        assert model.shape == (channels, 8, 8)
        assert model.image_shape == tuple(model.decode(noise(model, 1)).shape[1:]) == (3, 16, 16)
        assert model.noise_range.log_alphas == pytest.approx((alphas.log() / 2).tolist(), rel=1e-5, abs=1e-7)
        ends = [float(((1 - alpha) / alpha).sqrt()) for alpha in (alphas[0], alphas[-1])]
        assert [model.noise_range.sigma_min, model.noise_range.sigma_max] == pytest.approx(ends, rel=1e-4)
        assert model.is_conditional == (name != "latent_diffusion")
        weights = [*model.denoiser.parameters(), *model.decoder.parameters()]
        assert len(weights) > 100
        assert not any(tensor.requires_grad for tensor in weights)
        layers = [*model.denoiser.modules(), *model.decoder.modules()]
        assert not any(layer.training for layer in layers if isinstance(layer, torch.nn.GroupNorm | torch.nn.Dropout))


class TestFeatures:
    @pytest.mark.parametrize("sigma", [SIGMA, PER_SAMPLE], ids=["one", "per sample"])
    def test_they_are_the_middle_blocks_output_averaged_over_channels(self, tiny, sigma):
        model = latent(tiny["latent_diffusion"])
        with watched(unet_of(model).mid_block) as outputs, torch.no_grad():
            features = model.denoiser(noise(model), sigma, None).features
        assert features.shape == (3, model.feature_size) == (3, 16)
        average = sum(outputs[0].unbind(1)) / outputs[0].shape[1]
        for sample in range(3):
            torch.testing.assert_close(features[sample], torch.cat(list(average[sample])))

    def test_they_are_pooled_where_that_is_asked_for(self, tiny):
        inner = {"name": "latent_diffusion", "path": str(tiny["latent_diffusion"])}
        model = build("model", DENOISERS, {"name": "pooled", "of": inner, "resolution": 2})
        assert model.feature_size == 4
        assert model.image_shape == (3, 16, 16)

    def test_under_guidance_they_are_the_half_s_that_knows_its_prompt(self, tiny):
        guided, plain = text(tiny["stable_diffusion"]), text(tiny["stable_diffusion"], guidance=1.0)
        x, condition = noise(guided), torch.tensor([1, 3, 2])
        with torch.no_grad():
            features = guided.denoiser(x, SIGMA, condition).features
            torch.testing.assert_close(features, plain.denoiser(x, SIGMA, condition).features)
            assert not features.allclose(plain.denoiser(x, SIGMA, None).features, atol=1e-3)

    @pytest.mark.parametrize("interrupted", [False, True])
    def test_nothing_of_a_run_is_kept(self, tiny, interrupted):
        model = latent(tiny["latent_diffusion"])
        unet, alive = unet_of(model), []
        unet.mid_block.register_forward_hook(lambda block, inputs, output: alive.append(weakref.ref(output)))
        if interrupted:
            unet.conv_out.weight = torch.nn.Parameter(torch.zeros(3, 5, 3, 3))
        with torch.no_grad(), contextlib.suppress(RuntimeError):
            answer = model.denoiser(noise(model), SIGMA, None)
            assert not interrupted
            assert answer.features.any()
        gc.collect()
        assert len(alive) == 1
        assert alive[0]() is None

    @pytest.mark.slow
    def test_a_compiled_denoiser_has_the_same_and_encodes_no_prompt_twice(self, tiny):
        model, other = text(tiny["sdxl"]), text(tiny["sdxl"])
        compiled = torch.compile(other.denoiser, backend="eager")
        encoders = other.denoiser.denoiser.model.conditioning.prompts.encoders
        with watched(encoders[0]) as runs, torch.no_grad():
            for factor in (1, -1):
                question = factor * noise(model), SIGMA, torch.tensor([1, 2, 1])
                answer, expected = compiled(*question), model.denoiser(*question)
                torch.testing.assert_close(answer.image, expected.image)
                torch.testing.assert_close(answer.features, expected.features)
        assert len(runs) == 3


class TestGuidance:
    @pytest.mark.parametrize("name", ["stable_diffusion", "sdxl"])
    @pytest.mark.parametrize("sigma", [SIGMA, PER_SAMPLE], ids=["one", "per sample"])
    def test_one_call_of_twice_the_batch_is_two_calls(self, tiny, name, sigma):
        guided, plain = text(tiny[name], guidance=3.0), text(tiny[name], guidance=1.0)
        x, condition = noise(guided), torch.tensor([1, 2, 1])
        with watched(unet_of(guided)) as runs, torch.no_grad():
            answer = guided.denoiser(x, sigma, condition).image
            conditional, opened = (plain.denoiser(x, sigma, c).image for c in (condition, None))
        assert [len(output) for (output,) in runs] == [6]
        assert (guided.denoiser.cost, plain.denoiser.cost) == (2, 1)
        torch.testing.assert_close(answer, opened + 3 * (conditional - opened), rtol=1e-5, atol=1e-4)
        assert not conditional.allclose(opened, atol=1e-2)

    def test_without_a_prompt_a_guided_model_is_refused(self, tiny):
        model = text(tiny["stable_diffusion"])
        with pytest.raises(ValueError, match="needs a label"):
            model.denoiser(noise(model), SIGMA, None)


class TestEmbeddings:
    def test_a_prompt_is_encoded_once_for_all_evaluations(self, tiny):
        model = text(tiny["stable_diffusion"])
        (encoder,) = model.denoiser.denoiser.model.conditioning.prompts.encoders
        with watched(encoder) as runs, torch.no_grad():
            for condition in ([1, 2, 1], [2, 1, 3], [3, 3, 3]):
                model.denoiser(noise(model), SIGMA, torch.tensor(condition))
        assert len(runs) == 4  # three captions and the empty prompt

    def test_what_a_sampler_has_asked_for_serves_a_training_step(self, tiny):
        model = text(tiny["sdxl"])
        condition = torch.tensor([1, 2, 1])
        with torch.inference_mode():
            model.denoiser(noise(model), SIGMA, condition)
        x = noise(model).requires_grad_()
        model.denoiser(x, SIGMA, condition).image.sum().backward()
        assert x.grad.any()

    def test_the_empty_prompt_of_sdxl_is_zeros_only_where_its_pipeline_says_so(self, tiny, tmp_path):
        folder = copied(tiny["sdxl"], tmp_path, model_index={"force_zeros_for_empty_prompt": False})
        for model, zeros in ((text(tiny["sdxl"]), True), (text(folder), False)):
            conditioning = model.denoiser.denoiser.model.conditioning
            further = conditioning(torch.tensor([OPEN_CLASS, 0]), 2)
            opened, known = further["encoder_hidden_states"]
            assert bool(opened.any()) != zeros
            assert bool(further["added_cond_kwargs"]["text_embeds"][0].any()) != zeros
            assert known.any()
            assert further["added_cond_kwargs"]["time_ids"].tolist() == 2 * [[16, 16, 0, 0, 16, 16]]
        assert text(tiny["sdxl"]).digest != text(folder).digest


class TestDecoding:
    def test_an_image_has_the_same_bits_in_every_batch(self, tiny):
        model = text(tiny["stable_diffusion"])
        latents = noise(model, 5)
        together = model.decode(latents)
        for index in (0, 4):
            assert model.decode(latents[index : index + 1]).equal(together[index : index + 1])

    def test_latents_are_scaled_back_before(self, tiny):
        model = text(tiny["stable_diffusion"])
        latents = noise(model)
        expected = model.decoder.autoencoder.decode(latents / 0.3).sample
        torch.testing.assert_close(model.decode(latents), expected, rtol=1e-4, atol=1e-5)

    def test_quantised_latents_are_not_scaled_where_the_file_names_no_factor(self, tiny, tmp_path):
        folder = shutil.copytree(tiny["latent_diffusion"], tmp_path / "old")
        path = folder / "vqvae" / "config.json"
        config = json.loads(path.read_text())
        assert latent(folder).decoder.scaling == config.pop("scaling_factor") == 0.7
        path.write_text(json.dumps(config))
        assert latent(folder).decoder.scaling == 1.0

    def test_a_model_moves_with_all_its_parts(self, tiny):
        model = text(tiny["stable_diffusion"]).to(torch.device("meta"))
        tensors = [*model.denoiser.parameters(), *model.decoder.parameters()]
        assert {tensor.device.type for tensor in tensors} == {"meta"}


class TestDigest:
    def test_it_does_not_depend_on_where_the_files_are_nor_on_the_prompts(self, tiny, tmp_path):
        model, other = text(tiny["stable_diffusion"]), text(copied(tiny["stable_diffusion"], tmp_path), prompts=None)
        assert model.digest == other.digest
        assert model.conditions_digest(Stream.training) == text(
            tiny["stable_diffusion"], prompts={"training": PROMPTS["training"]}
        ).conditions_digest(Stream.training)

    @pytest.mark.parametrize("options", [{"guidance": 7.0}, {"guidance": 1.0}])
    def test_it_changes_with_what_is_asked_for(self, tiny, options):
        assert text(tiny["stable_diffusion"]).digest != text(tiny["stable_diffusion"], **options).digest

    @pytest.mark.parametrize(
        "changes",
        [
            {"scheduler__scheduler_config": {"prediction_type": "v_prediction"}},
            {"scheduler__scheduler_config": {"beta_end": 0.013}},
            {"vae__config": {"scaling_factor": 0.31}},
            {"unet__config": {"attention_head_dim": 4}},
        ],
        ids=str,
    )
    def test_it_changes_with_the_configuration(self, tiny, tmp_path, changes):
        assert (
            text(copied(tiny["stable_diffusion"], tmp_path, **changes)).digest != text(tiny["stable_diffusion"]).digest
        )

    @pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
    def test_it_changes_with_every_weight(self, tiny, tmp_path, part):
        folder = copied(tiny["stable_diffusion"], tmp_path)
        (path,) = (folder / part).glob("*.safetensors")
        weights = safetensors.torch.load_file(path)
        next(iter(weights.values())).flatten()[-1] += 1e-3
        safetensors.torch.save_file(weights, path, {"format": "pt"})
        assert text(folder).digest != text(tiny["stable_diffusion"]).digest

    def test_it_changes_with_the_tokenizer(self, tiny, tmp_path):
        folder = copied(tiny["stable_diffusion"], tmp_path)
        path = folder / "tokenizer" / "tokenizer.json"
        content = json.loads(path.read_text())
        content["model"]["merges"] = content["model"]["merges"][:2]
        path.write_text(json.dumps(content))
        assert text(folder).digest != text(tiny["stable_diffusion"]).digest


class TestPrecision:
    @pytest.mark.parametrize("precision", ["bfloat16", "float16"])
    def test_half_precision_moves_an_answer_a_little_and_no_prompt(self, tiny, precision):
        half, single = (computing(text(tiny["sdxl"]), Arithmetic(name)) for name in (precision, "float32"))
        x, condition = noise(half), torch.tensor([1, 2, 3])
        with torch.no_grad():
            answer, expected = (model.denoiser(x, SIGMA, condition) for model in (half, single))
        assert answer.image.dtype == answer.features.dtype == torch.float32
        error = (answer.image - expected.image).abs().max() / expected.image.abs().max()
        assert 0 < error < 0.1
        conditionings = (
            half.denoiser.denoiser.denoiser.denoiser.model.conditioning,
            single.denoiser.denoiser.denoiser.model.conditioning,
        )
        with torch.autocast("cpu", torch.bfloat16):
            ours, theirs = (conditioning(condition, 3)["encoder_hidden_states"] for conditioning in conditionings)
        assert ours.equal(theirs)

    def test_a_model_in_double_precision_answers_and_decodes(self, tiny):
        model = text(tiny["sdxl"], guidance=1.0)
        x, condition = noise(model), torch.tensor([1, 2, 3])
        with torch.no_grad():
            single = model.denoiser(x, SIGMA, condition).image
            model.denoiser.double()
            double = model.denoiser(x.double(), SIGMA, condition).image
        assert double.dtype == model.decode(double).dtype == torch.float64
        torch.testing.assert_close(double.float(), single, rtol=1e-4, atol=1e-4)


class TestRefusal:
    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"unet__config": {"_class_name": "UNet2DModel"}}, "unet: holds a UNet2DModel where a UNet2DCond"),
            ({"vae__config": {"_class_name": "AutoencoderTiny"}}, "vae: holds a AutoencoderTiny where a AutoencoderKL"),
            ({"unet__config": {"sample_size": None}}, "unet/config.json: sample_size is null; write the height"),
            (
                {"unet__config": {"sample_size": 32, "_diffusers_version": "0.6.0"}},
                "sample_size is 32, as .*; write 64",
            ),
            ({"unet__config": {"num_class_embeds": 7}}, "unet/config.json: num_class_embeds is 7: a label or a noise"),
            ({"unet__config": {"cross_attention_dim": 32}}, "unet: cannot be loaded: .*size mismatch"),
            ({"unet__config": {"layers_per_block": 2}}, "unet: cannot be loaded: .*size mismatch"),
            ({"vae__config": {"latents_mean": [0.1] * 4}}, "latents_mean and latents_std go together"),
            ({"vae__config": {"latents_mean": [0.1], "latents_std": [1.0] * 4}}, "latents_mean is .*, 4 in number"),
            ({"vae__config": {"latents_mean": [0.1] * 4, "latents_std": [0.0] * 4}}, "latents_std is .* positive"),
            ({"vae__config": {"scaling_factor": None}}, "scaling_factor is .None.; it must be positive"),
            ({"vae__config": {"shift_factor": "0.1"}}, "shift_factor is .* finite"),
            ({"text_encoder__config": {"use_attention_mask": True}}, "use_attention_mask is true: the padding"),
            ({"scheduler__scheduler_config": {"rescale_betas_zero_snr": True}}, "zero terminal SNR"),
        ],
        ids=str,
    )
    def test_a_pipeline_that_this_is_not_made_for(self, tiny, tmp_path, changes, message):
        with pytest.raises(InputError, match=message):
            text(copied(tiny["stable_diffusion"], tmp_path, **changes))

    @pytest.mark.parametrize("part", ["unet", "vqvae"])
    @pytest.mark.parametrize("wrong", [torch.nan, torch.inf])
    def test_weights_that_are_not_finite(self, tiny, tmp_path, part, wrong):
        folder = copied(tiny["latent_diffusion"], tmp_path)
        (path,) = (folder / part).glob("*.safetensors")
        weights = safetensors.torch.load_file(path)
        name = next(name for name in weights if name.startswith(("mid_block", "decoder.mid_block")))
        weights[name].view(-1)[0] = wrong
        safetensors.torch.save_file(weights, path, {"format": "pt"})
        spec = {"name": "pooled", "of": {"name": "latent_diffusion", "path": str(folder)}, "resolution": 2}
        with pytest.raises(
            InputError, match=f"{folder}: its weights '.*{name}' have a NaN or an infinity; get them anew"
        ):
            load(spec)

    def test_a_network_that_completes_images(self, tiny, tmp_path):
        folder = copied(tiny["stable_diffusion"], tmp_path)
        pipelines.text_unet(in_channels=9).save_pretrained(folder / "unet")
        with pytest.raises(InputError, match=r"unet/config.json: in_channels is 9 and out_channels 4: .*inpainting"):
            text(folder)

    def test_an_autoencoder_of_other_latents(self, tiny, tmp_path):
        folder = copied(tiny["stable_diffusion"], tmp_path)
        diffusers.AutoencoderKL(**pipelines.AUTOENCODER, latent_channels=16).save_pretrained(folder / "vae")
        with pytest.raises(InputError, match=r"latent_channels is 16, and the network's latents have 4"):
            text(folder)

    def test_a_network_that_attends_to_another_text_encoder(self, tiny, tmp_path):
        folder = copied(tiny["stable_diffusion"], tmp_path)
        pipelines.text_unet(cross_attention_dim=24).save_pretrained(folder / "unet")
        with pytest.raises(InputError, match=r"cross_attention_dim is 24, and the text encoders give 16"):
            text(folder)

    @pytest.mark.parametrize(
        "part",
        ["unet/config.json", "vae/config.json", "text_encoder/config.json", "tokenizer/tokenizer_config.json"],
    )
    def test_a_part_that_is_not_there_is_named(self, tiny, tmp_path, part):
        folder = copied(tiny["stable_diffusion"], tmp_path)
        (folder / part).unlink()
        with pytest.raises(InputError, match=f"{folder / part}: no such file"):
            text(folder)

    def test_weights_that_are_not_there_are_named(self, tiny, tmp_path):
        folder = copied(tiny["stable_diffusion"], tmp_path)
        (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink()
        with pytest.raises(InputError, match=r"unet: no weights; expected diffusion_pytorch_model.safetensors"):
            text(folder)

    @pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
    def test_a_tensor_that_is_not_there_is_named(self, tiny, tmp_path, part):
        folder = copied(tiny["stable_diffusion"], tmp_path)
        (path,) = (folder / part).glob("*.safetensors")
        weights = safetensors.torch.load_file(path)
        dropped = sorted(weights)[3]
        weights.pop(dropped)
        safetensors.torch.save_file(weights, path, {"format": "pt"})
        with pytest.raises(InputError, match=f"{part}: the checkpoint lacks tensor {dropped}, one of 1"):
            text(folder)

    @pytest.mark.parametrize(("part", "name"), [("unet", "diffusion_pytorch_model"), ("text_encoder", "pytorch_model")])
    def test_code_in_a_pickle_is_not_run(self, tiny, tmp_path, part, name):
        class Hostile:
            def __reduce__(self):
                return os.mkdir, (str(tmp_path / "harm"),)

        folder = copied(tiny["stable_diffusion"], tmp_path)
        for path in (folder / part).glob("*.safetensors"):
            path.unlink()
        hostile = {"conv_in.weight": Hostile(), "as large as the network": torch.zeros(1_000_000)}
        torch.save(hostile, folder / part / f"{name}.bin")
        with pytest.raises(InputError, match=f"{part}: cannot be loaded"):
            text(folder)
        assert not (tmp_path / "harm").exists()

    def test_a_name_that_is_nowhere(self, tmp_path):
        with pytest.raises(InputError, match="nowhere: no such folder or file"):
            text(tmp_path / "nowhere")

    def test_without_the_extra_a_line_says_how_to_install_it(self, tiny, monkeypatch):
        monkeypatch.delitem(sys.modules, "amed_lightning.denoisers.diffusers_checkpoint", raising=False)
        monkeypatch.setitem(sys.modules, "diffusers", None)
        with pytest.raises(InputError, match=r"pip install 'amed-lightning\[diffusers\]'"):
            latent(tiny["latent_diffusion"])


class TestHub:
    @pytest.fixture(autouse=True)
    def offline(self, monkeypatch, tmp_path):
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))

    def test_what_has_been_fetched_before_is_found_without_a_network(self, tiny, tmp_path):
        repository = tmp_path / "models--someone--tiny"
        shutil.copytree(tiny["latent_diffusion"], repository / "snapshots" / "0123abc")
        (repository / "refs").mkdir()
        (repository / "refs" / "main").write_text("0123abc")
        assert latent("someone/tiny").digest == latent(tiny["latent_diffusion"]).digest

    def test_what_has_not_is_refused_with_the_cure(self):
        with pytest.raises(
            InputError, match=r"someone/else: no such folder, and the hub did not give it .*name its folder"
        ):
            latent("someone/else")


def test_the_registry_imports_neither_diffusers_nor_transformers():
    code = "import sys, amed_lightning.denoisers.registry; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    imported = set(done.stdout.split())
    assert "amed_lightning.denoisers.diffusers_models" in imported
    assert not {"diffusers", "transformers", "huggingface_hub", "tokenizers"} & imported
