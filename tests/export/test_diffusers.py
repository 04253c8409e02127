"""An exported scheduler drives the pipelines of diffusers as they are, and gives what our own sampler gives."""

import ast
import copy
import json

import diffusers
import pytest
import torch

from amed_lightning import export as export_package
from amed_lightning.amed.predictor import AMEDPredictor
from amed_lightning.config import InputError
from amed_lightning.denoisers.diffusers_models import latent_diffusion, stable_diffusion
from amed_lightning.denoisers.guidance import classifier_free
from amed_lightning.denoisers.own import discrete_model, flow_model
from amed_lightning.denoisers.thresholding import clipped, thresholded
from amed_lightning.export.folder import export
from amed_lightning.export.to_diffusers import scheduler_config
from amed_lightning.flow.probability_flow import ProbabilityFlow
from amed_lightning.sampling.parts import SamplerParts
from amed_lightning.solvers.registry import SOLVERS

from ..denoisers import pipelines
from .programs import (
    BATCH,
    Answering,
    noise_for,
    sampled,
    sampler_config,
    sampler_of,
    scheduler_class,
    scheduler_of,
)

BETAS = torch.linspace(1e-4, 0.002, 1000)
"""Up to a level of 1.4: most pixels of what a random network makes of noise are between black and white."""
SEED = 3


def near(answer, expected):
    """Compare to 1e-5 of the largest number."""
    torch.testing.assert_close(answer, expected, rtol=0, atol=1e-5 * max(1.0, float(expected.abs().max())))


@pytest.fixture(scope="module")
def unet():
    options = {"in_channels": 3, "out_channels": 3, "attention_head_dim": 8}
    blocks = {"down_block_types": ("DownBlock2D",) * 2, "up_block_types": ("UpBlock2D",) * 2}
    return pipelines.drawn(diffusers.UNet2DModel(**pipelines.UNET, **options, **blocks), 2).double().eval()


def unconditional(unet, prediction="epsilon", bottleneck=None):
    network = Answering(unet, lambda unet, x, time: unet(x, time).sample)
    return discrete_model(network, (3, 8, 8), BETAS, prediction, bottleneck=bottleneck)


def placed(model, predictor, **changes):
    """Return a sampler of two intervals around a predictor."""
    plain = {"solver": {"name": "amed"}, "num_intervals": 2} | changes
    config = sampler_config(model, **plain)
    return SamplerParts(config, model).sampler(predictor)


def quiet(pipeline):
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def ddpm_images(unet, scheduler, runs):
    pipeline = quiet(diffusers.DDPMPipeline(unet, scheduler))
    draw = torch.Generator().manual_seed(SEED)
    return pipeline(BATCH, generator=draw, num_inference_steps=runs, output_type="pt").images


def expected_of_ddpm(sampler, scheduler):
    """Return what our sampler makes of noise that the network sees at its own scale."""
    noise = noise_for(sampler.model, SEED)
    return (sampled(sampler, noise / scheduler.init_noise_sigma) / 2 + 0.5).clamp(0, 1)


class TestUnconditional:
    """``DDPMPipeline`` multiplies its noise by nothing."""

    @pytest.mark.parametrize("solver", SOLVERS)
    def test_every_solver(self, unet, tmp_path, solver):
        sampler = sampler_of(unconditional(unet), solver)
        scheduler = scheduler_of(sampler, tmp_path / "out")
        assert scheduler.runs == sampler.nfe
        images = ddpm_images(unet, scheduler, sampler.nfe)
        near(images, expected_of_ddpm(sampler, scheduler))
        assert float(((images > 0) & (images < 1)).float().mean()) > 0.05

    @pytest.mark.parametrize(
        "changes",
        [
            {"afs": True},
            {"denoise_to_zero": True},
            {"solver": {"name": "ipndm", "order": 3, "placer": {"fixed": 0.4}}, "afs": True},
            {"solver": {"name": "amed", "placer": {"fixed": 0.3}}},
            {"schedule": {"name": "discrete"}},
        ],
        ids=["first step", "denoised", "plugin", "placed", "discrete"],
    )
    def test_what_else_a_sampler_may_do(self, unet, tmp_path, changes):
        sampler = sampler_of(unconditional(unet), **changes)
        scheduler = scheduler_of(sampler, tmp_path / "out")
        near(ddpm_images(unet, scheduler, sampler.nfe), expected_of_ddpm(sampler, scheduler))

    @pytest.mark.parametrize("prediction", ["v_prediction", "sample"])
    def test_whatever_the_network_predicts(self, unet, tmp_path, prediction):
        sampler = sampler_of(unconditional(unet, prediction))
        scheduler = scheduler_of(sampler, tmp_path / "out")
        near(ddpm_images(unet, scheduler, 4), expected_of_ddpm(sampler, scheduler))

    def test_images_are_clipped_as_the_model_s(self, unet, tmp_path):
        plain, bounded = unconditional(unet), clipped(unconditional(unet))
        sampler = sampler_of(bounded)
        scheduler = scheduler_of(sampler, tmp_path / "out")
        near(ddpm_images(unet, scheduler, 4), expected_of_ddpm(sampler, scheduler))
        noise = noise_for(plain)
        assert not sampled(sampler, noise).allclose(sampled(sampler_of(plain), noise), atol=0.1)

    def test_a_scheduler_begins_anew_with_every_call(self, unet, tmp_path):
        scheduler = scheduler_of(sampler_of(unconditional(unet)), tmp_path / "out")
        first, again = (ddpm_images(unet, scheduler, 4) for _ in range(2))
        assert first.equal(again)

    def test_a_half_precision_sample_stays_one_and_is_computed_in_single(self, tmp_path, unet):
        scheduler = scheduler_of(sampler_of(unconditional(unet)), tmp_path / "out")
        x = noise_for(unconditional(unet)).float()
        halves = [scheduler.step(x.half(), 0, x.half(), return_dict=False)[0] for _ in range(4)]
        scheduler.set_timesteps()
        singles = [scheduler.step(x.half().float(), 0, x.half().float()).prev_sample for _ in range(4)]
        assert halves[-1].dtype == torch.float16
        assert halves[-1].equal(singles[-1].half())


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pipelines")
    return {name: getattr(pipelines, name)(folder / name) for name in ("stable_diffusion", "sdxl")}


class TestText:
    @pytest.mark.parametrize("name", ["stable_diffusion", "sdxl"])
    def test_a_prompt_s_latents_under_guidance(self, folders, tmp_path, name):
        """These multiply their noise by ``init_noise_sigma``, and begin where our sampler does."""
        model = stable_diffusion(str(folders[name]), guidance=3.0, prompts={"evaluation": ["cat"]})
        sampler = sampler_of(model, schedule={"name": "discrete"}, num_intervals=3)
        kind = diffusers.StableDiffusionPipeline if name == "stable_diffusion" else diffusers.StableDiffusionXLPipeline
        scheduler = scheduler_of(sampler, tmp_path / "out")
        pipeline = quiet(kind.from_pretrained(folders[name], scheduler=scheduler))
        noise = noise_for(model)
        latents = pipeline(
            prompt=["cat"] * BATCH,
            latents=noise.clone(),
            guidance_scale=3.0,
            num_inference_steps=3,
            height=16,
            width=16,
            output_type="latent",
        ).images
        near(latents, sampled(sampler, noise, torch.zeros(BATCH, dtype=torch.long)))

    def test_an_unconditional_latent_pipeline_s_images(self, tmp_path):
        folder = pipelines.latent_diffusion(tmp_path / "ldm")
        model = latent_diffusion(str(folder))
        sampler = sampler_of(model, "dpm_solver_pp")
        scheduler = scheduler_of(sampler, tmp_path / "out")
        pipeline = quiet(diffusers.LDMPipeline.from_pretrained(folder))
        pipeline.scheduler = scheduler
        draw = torch.Generator().manual_seed(SEED)
        images = pipeline(BATCH, generator=draw, num_inference_steps=4, output_type="np").images
        noise = torch.randn(BATCH, *model.shape, generator=torch.Generator().manual_seed(SEED))
        expected = (model.decode(sampled(sampler, noise)) / 2 + 0.5).clamp(0, 1)
        near(torch.from_numpy(images).permute(0, 3, 1, 2), expected)


@pytest.fixture(scope="module")
def autoencoder():
    return pipelines.drawn(diffusers.AutoencoderKL(**pipelines.AUTOENCODER, latent_channels=4, scaling_factor=0.3), 1)


def encoders(*suffixes):
    return dict.fromkeys(f"{kind}{suffix}" for kind in ("text_encoder", "tokenizer") for suffix in suffixes)


class TestFlowMatching:
    """These multiply their noise by nothing."""

    def test_stable_diffusion_3(self, autoencoder, tmp_path):
        sizes = {"attention_head_dim": 8, "num_attention_heads": 2, "joint_attention_dim": 16}
        sizes |= {"caption_projection_dim": 16, "pooled_projection_dim": 16, "num_layers": 1, "patch_size": 1}
        transformer = diffusers.SD3Transformer2DModel(sample_size=8, in_channels=4, out_channels=4, **sizes).eval()
        transformer = pipelines.drawn(transformer, 2)
        prompt, pooled = torch.randn(BATCH, 5, 16, generator=torch.Generator().manual_seed(1)), torch.ones(BATCH, 16)

        def ask(network, x, time):
            count = len(x)
            return network(x, prompt[:count], pooled[:count], time, return_dict=False)[0]

        sampler = sampler_of(flow_model(Answering(transformer, ask), (4, 8, 8)), "ipndm")
        scheduler = scheduler_of(sampler, tmp_path / "out")
        pipeline = quiet(
            diffusers.StableDiffusion3Pipeline(transformer, scheduler, autoencoder, **encoders("", "_2", "_3"))
        )
        noise = noise_for(sampler.model)
        latents = pipeline(
            prompt_embeds=prompt,
            pooled_prompt_embeds=pooled,
            guidance_scale=1.0,
            num_inference_steps=4,
            height=16,
            width=16,
            latents=noise.clone(),
            output_type="latent",
        ).images
        near(latents, sampled(sampler, noise / scheduler.init_noise_sigma))
        assert 0.99 < scheduler.init_noise_sigma < 1

    def test_flux(self, autoencoder, tmp_path):
        sizes = {"num_layers": 1, "num_single_layers": 1, "attention_head_dim": 16, "num_attention_heads": 2}
        sizes |= {"joint_attention_dim": 16, "pooled_projection_dim": 16, "axes_dims_rope": (4, 6, 6)}
        transformer = diffusers.FluxTransformer2DModel(in_channels=16, out_channels=16, **sizes).eval()
        transformer = pipelines.drawn(transformer, 2)
        prompt, pooled = torch.randn(BATCH, 5, 16, generator=torch.Generator().manual_seed(1)), torch.ones(BATCH, 16)
        pack, places = diffusers.FluxPipeline._pack_latents, diffusers.FluxPipeline._prepare_latent_image_ids

        def ask(network, x, time):
            count = len(x)
            told = {"txt_ids": torch.zeros(5, 3), "img_ids": places(count, 4, 4, x.device, x.dtype)}
            told |= {"encoder_hidden_states": prompt[:count], "pooled_projections": pooled[:count]}
            output = network(pack(x, count, 4, 8, 8), timestep=time / 1000, return_dict=False, **told)[0]
            return diffusers.FluxPipeline._unpack_latents(output, 8 * 2, 8 * 2, 2)

        sampler = sampler_of(flow_model(Answering(transformer, ask), (4, 8, 8)), "dpm_solver_pp")
        scheduler = scheduler_of(sampler, tmp_path / "out")
        pipeline = quiet(diffusers.FluxPipeline(scheduler, autoencoder, None, None, None, None, transformer))
        noise = noise_for(sampler.model)
        latents = pipeline(
            prompt_embeds=prompt,
            pooled_prompt_embeds=pooled,
            num_inference_steps=4,
            height=16,
            width=16,
            latents=pack(noise, BATCH, 4, 8, 8),
            output_type="latent",
        ).images
        near(latents, pack(sampled(sampler, noise / scheduler.init_noise_sigma), BATCH, 4, 8, 8))


PLACED = [
    {"solver": {"name": "amed"}, "afs": True},
    {"solver": {"name": "amed"}},
    {"solver": {"name": "dpm_solver_2"}},
    {"solver": {"name": "ipndm", "order": 3}},
    {"solver": {"name": "ipndm", "order": 4}, "afs": True},
    {"solver": {"name": "euler"}},
]


class TestPredictor:
    """Each sample has steps of its own, by the bottleneck that the scheduler is shown."""

    @pytest.fixture
    def predictor(self):
        torch.manual_seed(0)
        return AMEDPredictor(16, 0.1, 0.2).eval().requires_grad_(False)

    @pytest.mark.parametrize("changes", PLACED, ids=str)
    def test_every_solver_that_it_can_be_told(self, unet, predictor, tmp_path, changes):
        model = unconditional(unet, bottleneck=unet.mid_block)
        sampler = placed(model, predictor, **changes)
        shown = copy.deepcopy(unet)
        scheduler = scheduler_of(sampler, tmp_path / "out").watch(shown, shown.mid_block)
        assert scheduler.runs == sampler.nfe
        near(ddpm_images(shown, scheduler, sampler.nfe), expected_of_ddpm(sampler, scheduler))
        with torch.no_grad():
            here = ProbabilityFlow(model.denoiser)(noise_for(model), sampler.sigmas[0])
            assert float(predictor(here, *sampler.sigmas[:2]).ratio.std()) > 1e-4

    def test_a_prompt_s_latents_under_guidance(self, folders, predictor, tmp_path):
        folder = folders["stable_diffusion"]
        model = stable_diffusion(str(folder), guidance=3.0, prompts={"evaluation": ["cat"]})
        sampler = placed(model, predictor, schedule={"name": "discrete"}, solver={"name": "ipndm"}, num_intervals=2)
        scheduler = scheduler_of(sampler, tmp_path / "out")
        pipeline = quiet(diffusers.StableDiffusionPipeline.from_pretrained(folder))
        pipeline.scheduler = scheduler.watch(pipeline.unet, pipeline.unet.mid_block)
        noise = noise_for(model)
        latents = pipeline(
            prompt=["cat"] * BATCH,
            latents=noise.clone(),
            guidance_scale=3.0,
            num_inference_steps=4,
            height=16,
            width=16,
            output_type="latent",
        ).images
        near(latents, sampled(sampler, noise, torch.zeros(BATCH, dtype=torch.long)))

    def test_without_a_bottleneck_it_says_what_to_call(self, unet, predictor, tmp_path):
        sampler = placed(unconditional(unet, bottleneck=unet.mid_block), predictor)
        scheduler = scheduler_of(sampler, tmp_path / "out")
        with pytest.raises(ValueError, match=r"call watch\(network, bottleneck\) first"):
            ddpm_images(unet, scheduler, sampler.nfe)

    def test_it_is_saved_and_read_back(self, unet, predictor, tmp_path):
        sampler = placed(unconditional(unet, bottleneck=unet.mid_block), predictor)
        scheduler = scheduler_of(sampler, tmp_path / "out")
        scheduler.save_pretrained(tmp_path / "again")
        again = type(scheduler).from_pretrained(tmp_path / "again")
        assert all(again.weights[name].equal(weights) for name, weights in predictor.state_dict().items())

    def test_what_a_scheduler_cannot_do_for_each_sample_is_refused(self, unet, predictor):
        model = unconditional(unet, bottleneck=unet.mid_block)
        for changes, told in (
            ({"solver": {"name": "dpm_solver_pp"}}, "depend on each sample's levels"),
            ({"denoise_to_zero": True}, "ends at the last level"),
        ):
            with pytest.raises(InputError, match=told):
                scheduler_config(placed(model, predictor, **changes))


class TestFiles:
    def test_the_module_imports_nothing_of_this_package(self):
        (path,) = (path for path in map(str, export_package.__path__))
        with open(f"{path}/amed_scheduler.py") as file:
            tree = ast.parse(file.read())
        modules = {each.module for each in ast.walk(tree) if isinstance(each, ast.ImportFrom)}
        modules |= {name.name for each in ast.walk(tree) if isinstance(each, ast.Import) for name in each.names}
        assert {name.partition(".")[0] for name in modules} == {
            "abc",
            "diffusers",
            "itertools",
            "math",
            "torch",
            "typing",
        }

    def test_a_scheduler_is_saved_and_read_back(self, unet, tmp_path):
        scheduler = scheduler_of(sampler_of(unconditional(unet)), tmp_path / "out")
        scheduler.save_pretrained(tmp_path / "again")
        again = type(scheduler).from_pretrained(tmp_path / "again")
        assert ddpm_images(unet, again, 4).equal(ddpm_images(unet, scheduler, 4))
        written = json.loads((tmp_path / "again" / "scheduler_config.json").read_text())
        told = json.loads((tmp_path / "out" / "scheduler_config.json").read_text())
        assert told.items() <= written.items()

    def test_a_pipeline_is_saved_with_it_and_read_back(self, unet, tmp_path):
        scheduler = scheduler_of(sampler_of(unconditional(unet)), tmp_path / "out")
        quiet(diffusers.DDPMPipeline(unet, scheduler)).save_pretrained(tmp_path / "pipeline")
        own = scheduler_class(tmp_path / "out").from_pretrained(tmp_path / "pipeline", subfolder="scheduler")
        pipeline = diffusers.DDPMPipeline.from_pretrained(tmp_path / "pipeline", scheduler=own)
        near(ddpm_images(pipeline.unet.double(), pipeline.scheduler, 4), ddpm_images(unet, scheduler, 4))

    def test_the_shipped_module_is_the_exported_one(self, unet, tmp_path):
        export(sampler_of(unconditional(unet)), "diffusers", tmp_path / "out")
        from amed_lightning.export import amed_scheduler

        with open(amed_scheduler.__file__, "rb") as file:
            assert (tmp_path / "out" / "amed_scheduler.py").read_bytes() == file.read()


class TestRefusals:
    def test_another_number_of_steps(self, unet, tmp_path):
        scheduler = scheduler_of(sampler_of(unconditional(unet)), tmp_path / "out")
        with pytest.raises(ValueError, match=r"makes 4 network runs, and cannot make 50: .*num_inference_steps=4"):
            ddpm_images(unet, scheduler, 50)

    def test_a_step_too_many_and_a_beginning_in_the_middle(self, unet, tmp_path):
        scheduler = scheduler_of(sampler_of(unconditional(unet), "euler", num_intervals=1), tmp_path / "out")
        x = torch.zeros(1, 3, 8, 8)
        scheduler.step(x, 0, x)
        with pytest.raises(ValueError, match="all 1 steps are taken"):
            scheduler.step(x, 0, x)
        scheduler.set_begin_index(0)
        with pytest.raises(ValueError, match="begins at pure noise"):
            scheduler.set_begin_index(1)

    def test_a_model_of_which_more_would_have_to_be_told(self, unet):
        with pytest.raises(InputError, match="a Thresholded is inside the model"):
            scheduler_config(sampler_of(thresholded(unconditional(unet))))

    def test_images_that_are_clipped_before_they_are_guided(self, folders):
        folder = folders["stable_diffusion"]
        model = clipped(stable_diffusion(str(folder), guidance=1.0, prompts={"evaluation": ["cat"]}))
        with pytest.raises(InputError, match="clipped before they are guided"):
            scheduler_config(sampler_of(classifier_free(model, 2.0)))
