"""ComfyUI's nodes, and graphs of PyTorch's own: both give what our sampler gives."""

import io
from dataclasses import replace

import pytest
import torch

from amed_lightning.amed.predictor import AMEDPredictor
from amed_lightning.config import InputError, build
from amed_lightning.denoisers.own import flow_model
from amed_lightning.denoisers.registry import DENOISERS
from amed_lightning.denoisers.thresholding import Clipped
from amed_lightning.export.to_comfyui import comfyui_numbers
from amed_lightning.export.to_torch import for_onnx, for_torch
from amed_lightning.sampling.config import SamplerConfig
from amed_lightning.sampling.parts import SamplerParts

from ..denoisers import pipelines
from ..denoisers.test_own import Network
from ..sampling.models import random_network
from .programs import node_of, noise_for, sampled, sampler_of


@pytest.fixture
def network(tmp_path):
    return build("model", DENOISERS, random_network(tmp_path))


class TestComfyUI:
    @pytest.mark.parametrize("solver", ["ipndm", "heun", "amed"])
    def test_a_node_gives_a_sampler_and_its_levels(self, network, tmp_path, monkeypatch, solver):
        sampler, seen = sampler_of(network, solver), []
        run, sigmas = node_of(sampler, tmp_path / "node", monkeypatch)
        assert len(sigmas) == sampler.nfe + 1
        assert sigmas[-1] == 0

        def model(x, sigma, seed):
            assert sigma.shape == (len(x),)
            return network.denoiser(x, sigma.reshape(-1, 1, 1, 1), None).image

        noise = noise_for(network)
        x = run(model, noise * sigmas[0], sigmas, extra_args={"seed": 1}, callback=seen.append)
        torch.testing.assert_close(x, sampled(sampler, noise), rtol=1e-5, atol=1e-4)
        assert [each["i"] for each in seen] == list(range(sampler.nfe))

    def test_images_are_clipped_where_the_model_clips_them(self, network, tmp_path, monkeypatch):
        sampler = sampler_of(replace(network, denoiser=Clipped(network.denoiser, 0.1)))
        run, sigmas = node_of(sampler, tmp_path / "node", monkeypatch)
        noise = noise_for(network)
        x = run(lambda x, sigma: network.denoiser(x, sigma.reshape(-1, 1, 1, 1), None).image, noise * sigmas[0], sigmas)
        torch.testing.assert_close(x, sampled(sampler, noise), rtol=1e-5, atol=1e-4)
        assert (x - sampled(sampler_of(network), noise)).abs().max() > 0.1

    def test_a_model_of_flow_matching_has_comfyui_s_states(self, tmp_path, monkeypatch):
        model = flow_model(Network(), (2, 4, 4))
        sampler = sampler_of(model)
        run, sigmas = node_of(sampler, tmp_path / "node", monkeypatch)
        assert float(sigmas[0]) == pytest.approx(0.999)

        def answer(x, s):
            s = s.reshape(-1, 1, 1, 1)
            output, _ = model.denoiser.model(x, 1000 * s.flatten(), None)
            return x - s * output

        noise = noise_for(model)
        x = run(answer, noise * sigmas[0], sigmas)
        torch.testing.assert_close(x, sampled(sampler, noise), rtol=1e-4, atol=1e-4)

    def test_levels_of_another_sampler_are_refused(self, network, tmp_path, monkeypatch):
        run, sigmas = node_of(sampler_of(network), tmp_path / "node", monkeypatch)
        for others in (sigmas[1:], sigmas * 1.1):
            with pytest.raises(ValueError, match="along its own 4 levels"):
                run(None, noise_for(network), others)


class TestGraph:
    @pytest.mark.slow
    @pytest.mark.parametrize("labels", [3, 0])
    def test_a_predictor_s_sampler_is_one_graph_for_any_batch(self, unchecked, tmp_path, labels):
        spec = random_network(tmp_path, labels)
        parts = SamplerParts(SamplerConfig(spec, {"name": "amed"}, {"name": "logsnr"}, 2, afs=True))
        torch.manual_seed(0)
        predictor = AMEDPredictor(parts.model.feature_size, 0.05, 0.2).eval().requires_grad_(False)
        sampler = parts.sampler(predictor)
        loaded = torch.export.load(io.BytesIO(for_torch(sampler)["sampler.pt2"])).module()
        noise = noise_for(parts.model)
        given = (noise, torch.tensor([2, 0, 1])) if labels else (noise,)
        with torch.no_grad():
            torch.testing.assert_close(loaded(*given), sampled(sampler, *given), rtol=1e-5, atol=1e-5)
            two = [each[:2] for each in given]
            torch.testing.assert_close(loaded(*two), sampled(sampler, *two), rtol=1e-5, atol=1e-5)

    def test_a_latent_model_is_refused(self, tmp_path):
        from amed_lightning.denoisers.diffusers_models import latent_diffusion

        model = latent_diffusion(str(pipelines.latent_diffusion(tmp_path / "ldm")))
        with pytest.raises(InputError, match="one graph is made of a pixel model's sampler alone"):
            for_torch(sampler_of(model))

    def test_onnx_is_the_same_graph_or_says_what_it_needs(self, unchecked, network):
        sampler = sampler_of(network)
        try:
            import onnxruntime
        except ImportError:
            with pytest.raises(InputError, match=r"needs the extra onnx .*amed-lightning\[onnx\]"):
                for_onnx(sampler)
            return
        session = onnxruntime.InferenceSession(for_onnx(sampler)["sampler.onnx"])
        noise = noise_for(network)
        (images,) = session.run(None, {session.get_inputs()[0].name: noise.numpy()})
        torch.testing.assert_close(torch.from_numpy(images), sampled(sampler, noise), rtol=1e-4, atol=1e-4)


def test_a_predictor_is_no_table(tmp_path):
    parts = SamplerParts(SamplerConfig(random_network(tmp_path), {"name": "amed"}, {"name": "logsnr"}, 2))
    with pytest.raises(InputError, match=r"AMEDPredictor places the steps of each sample .*; export a learned table"):
        comfyui_numbers(parts.sampler(AMEDPredictor(parts.model.feature_size).requires_grad_(False)))
