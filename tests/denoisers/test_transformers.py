"""Transformers through diffusers: its own pipelines are the oracle, on tiny random models saved to disk."""

import math
import shutil
import sys
from pathlib import Path

import diffusers
import pytest
import torch
from diffusers.pipelines.flux.pipeline_flux import calculate_shift
from torch.nn.functional import adaptive_avg_pool2d

from amed_lightning.config import InputError, build
from amed_lightning.denoisers import diffusers_models, encoded_prompts
from amed_lightning.denoisers.arithmetic import Arithmetic
from amed_lightning.denoisers.computing import computing
from amed_lightning.denoisers.registry import DENOISERS
from amed_lightning.flow.probability_flow import ProbabilityFlow
from amed_lightning.noise.schedules import Flow, levels
from amed_lightning.sampling.sampler import Sampler
from amed_lightning.seeds import Seeds, Stream
from amed_lightning.solvers.registry import SOLVERS
from amed_lightning.solvers.state import solve

from ..pretended.places import CPU, DEVICE
from . import transformers
from .loading import CAPTIONS, PROMPTS, copied, watched

STEPS = 4
T5_XXL, CLIP_L, CLIPS, GEMMA = 4.7623, 0.1231, 0.8177, 2.6143
AUTOENCODER, DEEP_AUTOENCODER = 0.0838, 0.3528
"""Billions of parameters of what stands beside the published networks."""
MAKERS = (transformers.sd3, transformers.flux, transformers.dit, transformers.pixart, transformers.sana)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """The folders of one model of each family."""
    root = tmp_path_factory.mktemp("transformers")
    return {make.__name__: make(root / make.__name__) for make in MAKERS}


def loaded(path, **options):
    spec = {"name": "transformer", "path": str(path), "prompts": PROMPTS} | options
    return build("model", DENOISERS, {name: option for name, option in spec.items() if option is not None})


def in_double(model):
    model.denoiser.double()
    model.decoder.double()
    return model


def pipeline_of(kind, folder, **parts):
    pipeline = kind.from_pretrained(folder, local_files_only=True, **parts).to(torch.float64)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def noise_for(model, batch=3):
    return Seeds(Stream.evaluation, 0, batch).noise(model.shape).double()


def network_of(model):
    inner = model.denoiser
    while not hasattr(inner, "model"):
        inner = inner.denoiser
    return inner.model


def flow_times(model):
    """Levels of the schedule, and their times before the shift, as pipelines take them."""
    sigmas = levels(Flow(), STEPS, model.noise_range)
    unshifted = sigmas / model.noise_range.shift
    return sigmas, (unshifted / (1 + unshifted)).tolist()


def flow_latents(model, start):
    """Go through the levels by Euler's method, and from the last to the clean latent."""
    sigmas, _ = flow_times(model)
    condition = model.condition_for(Seeds(Stream.evaluation, 0, len(start)))
    flow = ProbabilityFlow(model.denoiser, condition)
    with torch.inference_mode():
        state = solve(SOLVERS["euler"](), flow, start * sigmas[0], sigmas)
        return flow(state.x, sigmas[-1]).denoised


def assert_same_images(model, latents, expected, images):
    """Diffusers' scheduler computes its times and its steps in single precision."""
    torch.testing.assert_close(latents, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))
    with torch.inference_mode():
        ours = (model.decode(latents) / 2 + 0.5).clamp(0, 1)
    torch.testing.assert_close(ours, images.double(), rtol=0, atol=1e-5)
    assert ours.std() > 0.05


class TestStableDiffusion3:
    @pytest.mark.parametrize(
        "options",
        [{"guidance": 1.0}, {}, {"guidance": 3.0, "negative": "a dog"}, {"resolution": 20}],
        ids=["plain", "published", "negative", "resolution"],
    )
    def test_its_images_are_those_of_diffusers(self, tiny, options):
        model = in_double(loaded(tiny["sd3"], **options))
        pipeline, start = pipeline_of(diffusers.StableDiffusion3Pipeline, tiny["sd3"]), noise_for(model)
        sigmas, times = flow_times(model)
        asked = {
            "prompt": CAPTIONS,
            "negative_prompt": [options.get("negative", "")] * 3,
            "guidance_scale": options.get("guidance", 7.0),
            "num_inference_steps": STEPS + 1,
            "sigmas": times,
            "height": options.get("resolution", 16),
            "width": options.get("resolution", 16),
        }
        first = start * (sigmas[0] / (1 + sigmas[0]))
        expected, images = (pipeline(**asked, latents=first, output_type=kind).images for kind in ("latent", "pt"))
        assert_same_images(model, flow_latents(model, start), expected, images)

    def test_a_folder_without_t5_has_zeros_for_it(self, tiny, tmp_path):
        none = {"text_encoder_3": None, "tokenizer_3": None}
        diffusers.StableDiffusion3Pipeline.from_pretrained(tiny["sd3"], **none).save_pretrained(tmp_path)
        model = in_double(loaded(tmp_path, guidance=1.0))
        pipeline = pipeline_of(diffusers.StableDiffusion3Pipeline, tmp_path, **none)
        start, (sigmas, times) = noise_for(model), flow_times(model)
        asked = {"prompt": CAPTIONS, "guidance_scale": 1.0, "num_inference_steps": STEPS + 1, "sigmas": times}
        first = start * (sigmas[0] / (1 + sigmas[0]))
        expected, images = (pipeline(**asked, latents=first, output_type=kind).images for kind in ("latent", "pt"))
        assert_same_images(model, flow_latents(model, start), expected, images)


class TestFlux:
    @pytest.mark.parametrize("guidance", [3.5, 1.5])
    def test_its_images_are_those_of_diffusers(self, tiny, guidance):
        model = in_double(loaded(tiny["flux"], guidance=guidance, resolution=16))
        assert model.denoiser.cost == 1
        self.compare(model, tiny["flux"], guidance)

    def test_a_model_that_is_told_no_guidance(self, tmp_path):
        folder = transformers.flux(tmp_path, guidance_embeds=False, use_dynamic_shifting=False, shift=1.0)
        self.compare(in_double(loaded(folder, resolution=16)), folder, 3.5)

    def compare(self, model, folder, guidance):
        pipeline, start = pipeline_of(diffusers.FluxPipeline, folder), noise_for(model)
        sigmas, times = flow_times(model)
        asked = {"prompt": CAPTIONS, "guidance_scale": guidance, "num_inference_steps": STEPS + 1, "sigmas": times}
        asked |= {"height": 16, "width": 16}
        first = pipeline._pack_latents(start * (sigmas[0] / (1 + sigmas[0])), 3, 4, 8, 8)
        expected, images = (pipeline(**asked, latents=first, output_type=kind).images for kind in ("latent", "pt"))
        expected = pipeline._unpack_latents(expected, 16, 16, 2)
        assert_same_images(model, flow_latents(model, start), expected, images)

    def test_its_own_images_have_1024_pixels(self, tiny):
        assert loaded(tiny["flux"]).shape == (4, 128, 128)


def table_latents(model, scheduler, start, condition):
    """Go through the levels of DDIM by Euler's method, and from the last to the clean latent."""
    scheduler.set_timesteps(STEPS)
    alphas = scheduler.alphas_cumprod.double()[scheduler.timesteps]
    sigmas = ((1 - alphas) / alphas).sqrt()
    flow = ProbabilityFlow(model.denoiser, condition)
    with torch.inference_mode():
        state = solve(SOLVERS["euler"](), flow, start * (1 + sigmas[0].square()).sqrt(), sigmas)
        return flow(state.x, sigmas[-1]).denoised


class TestDiT:
    @pytest.mark.parametrize("guidance", [1.0, 4.0])
    def test_its_images_are_those_of_diffusers(self, tiny, guidance):
        model = in_double(loaded(tiny["dit"], guidance=guidance, prompts=None))
        assert (model.num_classes, model.denoiser.cost) == (1000, 1 if guidance == 1 else 2)
        pipeline = pipeline_of(diffusers.DiTPipeline, tiny["dit"])
        labels, draw = [7, 0, 999], torch.Generator().manual_seed(4)
        start = torch.randn(3, 4, 8, 8, generator=draw, dtype=torch.float64)
        asked = {"class_labels": labels, "guidance_scale": guidance, "num_inference_steps": STEPS, "output_type": "pt"}
        images = pipeline(**asked, generator=torch.Generator().manual_seed(4)).images
        latents = table_latents(model, pipeline.scheduler, start, torch.tensor(labels))
        assert_same_images(model, latents, latents, images)

    def test_an_open_class_is_the_label_after_the_last(self, tiny):
        model = in_double(loaded(tiny["dit"], guidance=1.0, prompts=None))
        question = noise_for(model), torch.tensor(0.7, dtype=torch.float64)
        with torch.no_grad():
            opened = model.denoiser(*question, torch.tensor([-1, 3, -1])).image
            none, third = model.denoiser(*question, None).image, model.denoiser(*question, torch.full((3,), 3)).image
        assert opened[[0, 2]].equal(none[[0, 2]])
        torch.testing.assert_close(opened[1], third[1])
        assert not none.allclose(third, atol=1e-3)

    @pytest.mark.parametrize("options", [{}, {"prompts": None, "negative": "a"}, {"prompts": None, "resolution": 32}])
    def test_it_takes_no_words_and_no_size(self, tiny, options):
        with pytest.raises(InputError, match="DiT has labels and one size"):
            loaded(tiny["dit"], **options)


class TestPixArt:
    @pytest.mark.parametrize("kind", [diffusers.PixArtAlphaPipeline, diffusers.PixArtSigmaPipeline])
    @pytest.mark.parametrize("options", [{"guidance": 1.0}, {"negative": "A Dog"}], ids=["plain", "negative"])
    def test_its_images_are_those_of_diffusers(self, tmp_path, kind, options):
        folder = transformers.pixart(tmp_path, kind)
        model, pipeline = in_double(loaded(folder, **options)), pipeline_of(kind, folder)
        start = noise_for(model)
        asked = {"prompt": CAPTIONS, "negative_prompt": options.get("negative", ""), "num_inference_steps": STEPS}
        asked |= {"guidance_scale": options.get("guidance", 4.5), "height": 16, "width": 16, "clean_caption": False}
        asked |= {"use_resolution_binning": False, "latents": start}
        expected, images = (pipeline(**asked, output_type=kind).images for kind in ("latent", "pt"))
        condition = model.condition_for(Seeds(Stream.evaluation, 0, 3))
        assert_same_images(model, table_latents(model, pipeline.scheduler, start, condition), expected, images)

    def test_one_of_many_sizes_is_told_that_of_the_image(self, tmp_path):
        model = loaded(transformers.pixart(tmp_path, sized=True), guidance=1.0)
        told = []
        adaln = network_of(model).transformer.adaln_single
        adaln.register_forward_pre_hook(lambda block, given, named: told.append(given[1]), with_kwargs=True)
        with torch.no_grad():
            model.denoiser(noise_for(model).float(), torch.tensor(0.7, dtype=torch.float64), None)
        assert told[0]["resolution"].tolist() == [[16.0, 16.0]] * 3
        assert told[0]["aspect_ratio"].tolist() == [[1.0]] * 3


class TestSana:
    @pytest.mark.parametrize("options", [{"guidance": 1.0}, {"guidance": 1.5, "negative": "A Dog"}], ids=str)
    def test_its_images_are_those_of_diffusers(self, tiny, options):
        """It computes steps in single precision, which guidance multiplies, and no height but a multiple of 32."""
        model = in_double(loaded(tiny["sana"], resolution=32, **options))
        pipeline = pipeline_of(diffusers.SanaPipeline, tiny["sana"])
        start, (sigmas, times) = noise_for(model), flow_times(model)
        first = start * (sigmas[0] / (1 + sigmas[0]))
        asked = {"prompt": CAPTIONS, "negative_prompt": options.get("negative", ""), "sigmas": times, "height": 32}
        asked |= {"guidance_scale": options.get("guidance", 4.5), "num_inference_steps": STEPS + 1, "width": 32}
        asked |= {"use_resolution_binning": False, "latents": first}
        expected, images = (pipeline(**asked, output_type=kind).images for kind in ("latent", "pt"))
        assert_same_images(model, flow_latents(model, start), expected.double(), images)


SIZES = {
    "sd3": {},
    "flux": {"resolution": 16, "guidance": 2.0},
    "dit": {"prompts": None},
    "pixart": {},
    "sana": {"resolution": 32},
}
every_family = pytest.mark.parametrize("name", SIZES)


@every_family
class TestEvery:
    def test_its_features_are_the_middle_block_s_tokens_averaged_over_channels(self, tiny, name):
        model = loaded(tiny[name], **SIZES[name])
        network = network_of(model)
        stacks = [getattr(network.transformer, s, []) for s in ("transformer_blocks", "single_transformer_blocks")]
        blocks = [block for stack in stacks for block in stack]
        x, condition = noise_for(model).float(), model.condition_for(Seeds(Stream.evaluation, 0, 3))
        with watched(blocks[len(blocks) // 2]) as outputs, torch.no_grad():
            features = model.denoiser(x, torch.tensor(0.7, dtype=torch.float64), condition).features
        tokens = outputs[0] if isinstance(outputs[0], torch.Tensor) else outputs[0][1]
        side = math.isqrt(tokens.shape[1])
        square = tokens[:3].mean(-1).reshape(3, 1, side, side)
        expected = adaptive_avg_pool2d(square, min(side, 8)).flatten(1)
        torch.testing.assert_close(features, expected)
        assert features.shape == (3, model.feature_size)
        assert features.std() > 0

    def test_a_sampler_samples(self, tiny, name):
        model = loaded(tiny[name], **SIZES[name])
        sampler = Sampler(model, SOLVERS["euler"](), levels(Flow(), 3, model.noise_range), denoise_to_zero=True)
        seeds = Seeds(Stream.evaluation, 0, 2)
        with torch.inference_mode():
            state = sampler.sample(seeds.noise(model.shape), model.condition_for(seeds))
            images = model.decode(state.x)
        assert state.nfe == 4 * model.denoiser.cost
        assert images.shape == (2, *model.image_shape)
        assert images.isfinite().all()

    def test_weights_stay_in_the_folder_s_precision(self, tiny, tmp_path, name):
        pipeline = diffusers.DiffusionPipeline.from_pretrained(tiny[name]).to(torch.bfloat16)
        pipeline.save_pretrained(tmp_path)
        half, single = loaded(tmp_path, **SIZES[name]), loaded(tiny[name], **SIZES[name])
        assert {each.dtype for each in network_of(half).transformer.parameters()} == {torch.bfloat16}
        assert {each.dtype for each in single.denoiser.parameters()} == {torch.float32}
        x, condition = noise_for(half).float(), half.condition_for(Seeds(Stream.evaluation, 0, 3))
        with torch.no_grad():
            answers = [
                model.denoiser(x, torch.tensor(1.0, dtype=torch.float64), condition).image for model in (half, single)
            ]
        assert answers[0].dtype == torch.float32
        error = (answers[0] - answers[1]).abs().mean() / answers[1].abs().mean()
        assert 0 < error < 0.1
        assert half.digest != single.digest

    def test_they_stay_so_where_a_sampler_computes_in_single_precision_and_not_in_double(self, tiny, tmp_path, name):
        diffusers.DiffusionPipeline.from_pretrained(tiny[name]).to(torch.bfloat16).save_pretrained(tmp_path)
        for precision, dtype in (("float32", torch.bfloat16), ("float64", torch.float64)):
            model = computing(loaded(tmp_path, **SIZES[name]), Arithmetic(precision))
            assert {each.dtype for each in network_of(model).transformer.parameters()} == {dtype}
            x = noise_for(model).to(model.state_dtype)
            with torch.no_grad():
                answer = model.denoiser(x, torch.tensor(1.0, dtype=torch.float64), torch.tensor([1, 2, 3]))
            assert answer.image.dtype == model.state_dtype
            assert answer.image.isfinite().all()


class TestDigest:
    def test_it_does_not_depend_on_the_prompts_and_does_on_whatever_changes_an_answer(self, tiny, tmp_path):
        same = loaded(copied(tiny["sd3"], tmp_path), prompts={"evaluation": ["something else"]})
        models = [
            loaded(tiny["sd3"]),
            loaded(tiny["sd3"], guidance=3.0),
            loaded(tiny["sd3"], negative="a dog"),
            loaded(tiny["sd3"], rescale=0.5),
            loaded(tiny["sd3"], resolution=20),
            loaded(tiny["flux"], resolution=16),
            loaded(tiny["flux"], resolution=16, guidance=2.0),
        ]
        assert models[0].digest == same.digest
        assert len({model.digest for model in models}) == len(models)


class TestPrompts:
    def test_a_prompt_is_encoded_once_for_all_models_of_the_same_files(self, tmp_path):
        folder = transformers.sd3(tmp_path, shift=2.5)
        models = [loaded(folder, guidance=guidance) for guidance in (1.0, 3.0)]
        runs = []
        for model in models:
            for encoder in network_of(model).conditioning.encoders:
                encoder.register_forward_hook(lambda *said: runs.append(said))
            for _ in range(2):
                with torch.no_grad():
                    condition = model.condition_for(Seeds(Stream.evaluation, 0, 3))
                    model.denoiser(noise_for(model).float(), torch.tensor(0.7, dtype=torch.float64), condition)
        assert len(runs) == 3 * (len(CAPTIONS) + 1)

    def test_a_batch_of_more_prompts_than_are_kept_is_encoded_once(self, tmp_path, monkeypatch):
        monkeypatch.setattr(encoded_prompts, "KEPT", 2)
        conditioning = network_of(loaded(transformers.sd3(tmp_path, shift=2.25))).conditioning
        runs = []
        for encoder in conditioning.encoders:
            encoder.register_forward_hook(lambda *said: runs.append(said))
        for numbers in ([-1, 0, 1, 2], [0, 1], [-1, 0, 1, 2]):
            with torch.no_grad():
                conditioning(torch.tensor(numbers), len(numbers))
        assert len(runs) == 3 * 4

    @pytest.mark.parametrize("make", ["sd3", "flux", "pixart", "sana"])
    def test_encoders_that_are_let_go_have_said_what_they_would_have(self, tiny, make):
        model, freed = loaded(tiny[make], resolution=16), loaded(tiny[make], resolution=16, free_encoders=True)
        assert freed.digest != model.digest  # under float64 the embeddings stay in the folder's precision
        network = network_of(freed)
        assert {name.partition(".")[0] for name, _ in network.named_parameters()} == {"transformer"}
        condition = torch.tensor([2, 0, 1])
        x, sigma = noise_for(model).float(), torch.tensor(0.7, dtype=torch.float64)
        with torch.no_grad():
            answers = [each.denoiser(x, sigma, condition).image for each in (model, freed)]
            opened = [network_of(each).conditioning(None, 3) for each in (model, freed)]
        assert answers[0].equal(answers[1])
        assert all(kept.equal(told) for kept, told in zip(*opened, strict=True))

    def test_one_prompt_is_not_another_s(self, tiny):
        conditioning = network_of(loaded(tiny["sd3"])).conditioning
        opened, first, second = conditioning(torch.tensor([-1, 1, 2]), 3)[0]
        assert not opened.allclose(first, atol=1e-3)
        assert not first.allclose(second, atol=1e-3)

    def test_what_is_too_long_is_told(self, tiny, capsys):
        loaded(tiny["sd3"], prompts={"evaluation": ["cat " * 40]})
        assert "1 of 1 evaluation prompts have more tokens" in capsys.readouterr().err

    def test_a_negative_one_too(self, tiny, capsys):
        diffusers_models._warn.cache_clear()
        loaded(tiny["sd3"], negative="cat", prompts={"evaluation": ["dog"]})
        assert "negative" not in capsys.readouterr().err
        loaded(tiny["sd3"], negative="cat " * 40, prompts={"evaluation": ["dog"]})
        assert "negative: the prompt has more tokens" in capsys.readouterr().err


class TestTiles:
    @pytest.mark.parametrize("make", ["sd3", "sana"])
    def test_a_large_latent_is_decoded_in_tiles_as_diffusers_does_it(self, tiny, make):
        plain, tiled = (loaded(tiny[make], resolution=1088, tiling=tiling) for tiling in (False, True))
        assert plain.digest != tiled.digest
        kind = diffusers.AutoencoderKL if make == "sd3" else diffusers.AutoencoderDC
        autoencoder = kind.from_pretrained(tiny[make] / "vae").eval()
        autoencoder.enable_tiling()
        size = (24, 24) if make == "sd3" else (520, 264)
        latents = torch.randn(1, 4, *size, generator=torch.Generator().manual_seed(1))
        with torch.inference_mode():
            own = latents / autoencoder.config.scaling_factor + (autoencoder.config.get("shift_factor") or 0)
            expected, images = autoencoder.decode(own).sample, tiled.decode(latents)
            torch.testing.assert_close(images, expected)
            assert not images.allclose(plain.decode(latents), atol=1e-3)


class TestOffloaded:
    @pytest.mark.parametrize("make", [make.__name__ for make in MAKERS])
    def test_weights_visit_the_device_and_answers_stay(self, tiny, pretended, make):
        options = {"prompts": None} if make == "dit" else {"resolution": 16}
        model, offloaded = (loaded(tiny[make], **options, offload=offload) for offload in (False, True))
        assert offloaded.digest == model.digest
        asked = noise_for(model).float(), torch.tensor(0.7, dtype=torch.float64), torch.tensor([2, 0, 1])
        transformer = network_of(offloaded).transformer
        with torch.no_grad():
            expected = model.denoiser(*asked).image
            there = offloaded.denoiser.to(DEVICE)(*(each.to(DEVICE) for each in asked)).image
            assert {weights.device.type for weights in transformer.parameters()} == {"meta"}
            assert there.cpu().equal(expected)
            again = offloaded.denoiser.to(CPU)(*asked).image
        assert {weights.device for weights in transformer.parameters()} == {CPU}
        assert again.equal(expected)

    def test_their_precision_is_what_it_is_told_on_the_device_too(self, tiny, pretended):
        model, offloaded = (loaded(tiny["dit"], prompts=None, offload=offload) for offload in (False, True))
        asked = noise_for(model), torch.tensor(0.7, dtype=torch.float64), torch.tensor([2, 0, 1])
        with torch.no_grad():
            expected = model.denoiser.double()(*asked).image
            there = offloaded.denoiser.to(DEVICE).double()(*(each.to(DEVICE) for each in asked)).image
        assert there.cpu().equal(expected)

    def test_what_moves_them_is_given_none(self, tiny):
        given = []
        transformer = network_of(loaded(tiny["dit"], prompts=None, offload=True)).transformer
        transformer._apply(lambda tensor: given.append(tensor.numel()) or tensor)
        assert set(given) == {0}

    def test_what_does_it_may_be_missing(self, tiny, monkeypatch):
        monkeypatch.setitem(sys.modules, "accelerate", None)
        monkeypatch.delitem(sys.modules, "amed_lightning.denoisers.offloaded", raising=False)
        with pytest.raises(InputError, match=r"`offload` needs the extra diffusers .*: pip install"):
            loaded(tiny["dit"], prompts=None, offload=True)


class TestLevels:
    def test_they_go_from_the_last_finite_step_of_training_to_the_first_both_shifted(self, tiny):
        noise_range = loaded(tiny["sd3"]).noise_range
        assert noise_range.shift == 3.0
        assert [noise_range.sigma_min, noise_range.sigma_max] == pytest.approx([3 / 999, 3 * 999])

    def test_a_dynamic_shift_follows_the_tokens_of_an_image(self, tiny):
        shifts = [loaded(tiny["flux"], resolution=side).noise_range.shift for side in (16, 256)]
        assert shifts == pytest.approx([math.exp(calculate_shift(tokens)) for tokens in (16, 64**2)])

    def test_a_solver_s_file_of_a_flow_says_its_shift(self, tiny, tmp_path):
        said = {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": 3.0}
        folder = shutil.copytree(tiny["sana"], tmp_path / "sana")
        diffusers.DPMSolverMultistepScheduler(**said).save_pretrained(folder / "scheduler")
        assert loaded(folder).noise_range == loaded(tiny["sana"]).noise_range
        diffusers.DPMSolverMultistepScheduler(**said, num_train_timesteps=500).save_pretrained(folder / "scheduler")
        with pytest.raises(InputError, match="told its time out of 1000"):
            loaded(folder)


def test_the_page_counts_the_parameters_of_published_sizes():
    """Of the networks alone; the parts beside them are the same for several."""
    with torch.device("meta"):
        sd3 = {"num_layers": 24, "num_attention_heads": 24, "caption_projection_dim": 1536, "pos_embed_max_size": 192}
        networks = {
            "SD3-medium": (diffusers.SD3Transformer2DModel(**sd3), T5_XXL + CLIPS, AUTOENCODER),
            "FLUX.1-dev": (diffusers.FluxTransformer2DModel(guidance_embeds=True), T5_XXL + CLIP_L, AUTOENCODER),
            "PixArt-XL/2": (diffusers.PixArtTransformer2DModel(caption_channels=4096), T5_XXL, AUTOENCODER),
            "SANA-1.6B": (diffusers.SanaTransformer2DModel(), GEMMA, DEEP_AUTOENCODER),
            "DiT-XL/2": (diffusers.DiTTransformer2DModel(out_channels=8), 0.0, AUTOENCODER),
        }
    page = (Path(__file__).parents[2] / "docs/models.md").read_text()
    for name, (network, encoders, autoencoder) in networks.items():
        without = sum(weights.numel() for weights in network.parameters()) / 1e9 + autoencoder
        (row,) = [line for line in page.splitlines() if line.startswith("|") and f"| {name}" in line]
        assert f"| {without + encoders:.1f} billion" in row
        assert f"| {(without + encoders) * (2 if encoders else 4):.1f} GB" in row
        assert not encoders or f"| {2 * without:.1f} GB |" in row


class TestRefusal:
    @pytest.mark.parametrize(
        ("name", "changes", "options", "message"),
        [
            ("sd3", {"scheduler__scheduler_config": {"shift": -1.0}}, {}, "the shift of its times: a shift multiplies"),
            ("sd3", {"scheduler__scheduler_config": {"shift_terminal": 0.1}}, {}, "the last level is moved"),
            ("sd3", {"scheduler__scheduler_config": {"invert_sigmas": True}}, {}, "time runs the other way"),
            ("sd3", {"scheduler__scheduler_config": {"num_train_timesteps": 500}}, {}, "told its time out of 1000"),
            ("sd3", {"scheduler__scheduler_config": {"surprise": 2}}, {}, "nothing here knows that key"),
            (
                "sd3",
                {"scheduler__scheduler_config": {"_class_name": "DDIMScheduler"}},
                {},
                "_class_name is DDIMScheduler, of which no flow is known",
            ),
            ("sd3", {"model_index": {"_class_name": "HunyuanDiTPipeline"}}, {}, "a pipeline that is not reproduced"),
            ("sd3", {}, {"resolution": 18}, "this model's images have multiples of 4"),
            ("flux", {}, {"negative": "a dog"}, "FLUX is guided without a negative prompt"),
            ("flux", {}, {"rescale": 0.5}, "nothing is guided away"),
            ("flux", {"transformer__config": {"guidance_embeds": False}}, {"guidance": 2.0}, "has the unknown tensor"),
            ("sana", {"transformer__config": {"guidance_embeds": True}}, {}, "lacks tensor time_embed"),
        ],
        ids=str,
    )
    def test_a_model_that_this_is_not_made_for(self, tiny, tmp_path, name, changes, options, message):
        with pytest.raises(InputError, match=message):
            loaded(copied(tiny[name], tmp_path, **changes), **options)

    def test_a_flux_that_is_told_no_guidance_takes_none(self, tmp_path):
        with pytest.raises(InputError, match="guidance_embeds is false: this model is told no guidance"):
            loaded(transformers.flux(tmp_path, guidance_embeds=False), guidance=2.0)

    def test_encoders_that_are_not_there_cannot_be_let_go(self, tiny):
        with pytest.raises(InputError, match="it has no text encoders; leave `free_encoders` out"):
            loaded(tiny["dit"], prompts=None, free_encoders=True)

    def test_a_single_file(self, tiny):
        with pytest.raises(InputError, match="a single file; a transformer is read from a folder"):
            loaded(tiny["sd3"] / "model_index.json")

    def test_a_class_of_an_older_name_is_read(self, tiny, tmp_path):
        old = {"transformer__config": {"_class_name": "Transformer2DModel"}}
        model = loaded(copied(tiny["dit"], tmp_path, **old), prompts=None)
        assert model.digest == loaded(tiny["dit"], prompts=None).digest
