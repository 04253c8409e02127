"""A U-Net of diffusers as a network: its features belong to a call. An autoencoder as a decoder."""

import threading

import diffusers
import pytest
import torch

from amed_lightning.denoisers.bottleneck import CALL
from amed_lightning.denoisers.diffusers_network import LatentDecoder, LatentNetwork

from . import pipelines
from .loading import copied, latent, noise, text

THREADS = 4


def together(calls):
    """Run every call in a thread of its own, all at once, over and over; return what each answered last."""
    barrier, answers = threading.Barrier(len(calls)), [None] * len(calls)

    def run(index):
        for _ in range(5):
            barrier.wait(60)
            answers[index] = calls[index]()

    threads = [threading.Thread(target=run, args=(index,)) for index in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def noise_of(network, seed):
    return torch.randn(2, *network.shape, generator=torch.Generator().manual_seed(seed))


class TestThreads:
    def test_several_in_one_network_have_their_own_features(self, tiny):
        """Each waits at the middle block until all are there, so that all their calls are under way at once."""
        network = latent(tiny["latent_diffusion"]).denoiser.model
        meeting = threading.Barrier(THREADS)
        questions = [(noise_of(network, seed), torch.full((2,), 100.0 * seed)) for seed in range(THREADS)]
        with torch.no_grad():
            expected = [network(*question, None) for question in questions]
        network.unet.mid_block.register_forward_hook(lambda block, inputs, output: (meeting.wait(60), output)[1])

        def asking(question):
            return lambda: torch.no_grad()(network)(*question, None)

        answers = together([asking(question) for question in questions])
        for (output, features), (own_output, own_features) in zip(answers, expected, strict=True):
            torch.testing.assert_close(output, own_output)
            torch.testing.assert_close(features, own_features)
        assert not expected[0][1].allclose(expected[1][1], atol=1e-2)

    def test_several_with_new_prompts_have_their_own_images(self, tiny):
        prompts = {"training": ["a house"], "evaluation": [f"{'dog cat ' * k}{k}" for k in range(THREADS)]}
        model, other = (text(tiny["sdxl"], prompts=prompts) for _ in range(2))
        x = noise(model, 1)

        def asking(answering, number):
            question = x, torch.tensor(1.3, dtype=torch.float64), torch.tensor([number + 1])
            return lambda: torch.no_grad()(answering.denoiser)(*question).image

        answers = together([asking(model, number) for number in range(THREADS)])
        for number, answer in enumerate(answers):
            torch.testing.assert_close(answer, asking(other, number)(), rtol=1e-4, atol=1e-4)
        assert not answers[0].allclose(answers[1], atol=1e-3)

    def test_several_decode_their_own_images(self, tiny):
        decoder = text(tiny["stable_diffusion"]).decoder
        latents = torch.randn(THREADS, 1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
        answers = together([lambda one=one: torch.no_grad()(decoder)(one) for one in latents])
        for one, answer in zip(latents, answers, strict=True):
            assert answer.equal(decoder(one))


class TestCall:
    def test_the_middle_block_may_run_outside_of_one(self, tiny):
        unet = latent(tiny["latent_diffusion"]).denoiser.model.unet
        unet(torch.zeros(1, 3, 8, 8), 3)
        assert CALL.outputs is None

    def test_two_networks_may_share_a_unet(self, tiny):
        network = latent(tiny["latent_diffusion"]).denoiser.model
        x, time = noise_of(network, 1), torch.full((2,), 3.0)
        expected = network(x, time, None)
        for answer, own in zip(LatentNetwork(network.unet)(x, time, None), expected, strict=True):
            assert answer.equal(own)


class TestStatistics:
    @pytest.fixture
    def autoencoder(self):
        module = diffusers.AutoencoderKL(**pipelines.AUTOENCODER, latent_channels=4, scaling_factor=0.3)
        return pipelines.drawn(module, 1).eval()

    def test_latents_of_an_image_are_decoded_as_the_autoencoder_s_own(self, autoencoder):
        """Standardised as training would, latents lead back to the image that the autoencoder makes of its own."""
        mean, std, scaling = [0.5, -1.0, 0.0, 0.2], [2.0, 0.5, 1.0, 1.5], 0.3
        decoder = LatentDecoder(autoencoder, (4, 8, 8), scaling, mean, std)
        with torch.no_grad():
            own = autoencoder.encode(torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(3)) * 2 - 1)
            own = own.latent_dist.mean
            latents = (own - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None] * scaling
            torch.testing.assert_close(decoder(latents), autoencoder.decode(own).sample, rtol=1e-4, atol=1e-5)

    def test_a_shift_is_that_of_stable_diffusion_3(self, autoencoder, tiny, tmp_path):
        """Its pipeline is diffusers' only one of such an autoencoder that takes latents of four channels."""
        autoencoder.register_to_config(shift_factor=0.7)
        transformer = diffusers.SD3Transformer2DModel(
            sample_size=8,
            patch_size=1,
            in_channels=4,
            num_layers=1,
            attention_head_dim=8,
            num_attention_heads=2,
            joint_attention_dim=16,
            caption_projection_dim=16,
            pooled_projection_dim=16,
            out_channels=4,
        )
        scheduler = diffusers.FlowMatchEulerDiscreteScheduler()
        parts = dict.fromkeys(
            [f"{kind}{suffix}" for kind in ("text_encoder", "tokenizer") for suffix in ("", "_2", "_3")]
        )
        pipeline = diffusers.StableDiffusion3Pipeline(transformer, scheduler, autoencoder, **parts)
        pipeline.set_progress_bar_config(disable=True)
        prompt = {"prompt_embeds": torch.zeros(1, 5, 16), "pooled_prompt_embeds": torch.zeros(1, 16)}
        options = {"height": 16, "width": 16, "num_inference_steps": 1, "guidance_scale": 1.0, **prompt}
        start = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
        latents, images = (pipeline(**options, latents=start, output_type=kind).images for kind in ("latent", "pt"))
        folder = copied(tiny["stable_diffusion"], tmp_path)
        autoencoder.save_pretrained(folder / "vae")
        decoder = text(folder).decoder
        torch.testing.assert_close((decoder(latents) / 2 + 0.5).clamp(0, 1), images, rtol=0, atol=1e-5)
        assert decoder.mean.flatten().tolist() == [0.7]
