"""EDM2's networks: published sizes, magnitudes, and every step of a run written out from the file's own tensors."""

import math

import diffusers
import pytest
import torch
import torch.nn.functional as F

from amed_lightning.config import InputError, build
from amed_lightning.denoisers.edm import edm_card, read_edm
from amed_lightning.denoisers.edm2 import EDM2, Code, blend, join, scaled, silu
from amed_lightning.denoisers.registry import DENOISERS

from . import published
from .pipelines import AUTOENCODER, drawn
from .published import edm2, edm2_state

MILLIONS = {128: 125, 192: 280, 256: 498, 320: 777, 384: 1119, 448: 1523}
"""Parameters by channels, XS to XXL, as the paper counts them (table 2)."""


@pytest.mark.parametrize("channels", MILLIONS)
def test_it_has_as_many_parameters_as_were_published(channels):
    with torch.device("meta"):
        network = EDM2(64, 4, 1000, model_channels=channels)
    assert int(sum(weights.numel() for weights in network.parameters()) / 1e6 + 0.5) == MILLIONS[channels]


class TestMagnitudes:
    def drawn(self, channels):
        return torch.randn(8, channels, 16, 16, generator=torch.Generator().manual_seed(channels)).double()

    @pytest.mark.parametrize("t", [0.3, 0.5])
    def test_what_is_of_unit_variance_stays_so(self, t):
        a, b = self.drawn(24), self.drawn(8)
        for made in (blend(a, a.flip(0), t), silu(a), scaled(7 * a), Code(4096).double()(torch.randn(64).double())):
            assert float(made.square().mean()) == pytest.approx(1, abs=0.02)
        both = join(a, b, t)
        assert float(both.square().mean()) == pytest.approx(1, abs=0.02)
        first, second = (part.square().sum() for part in both.split([24, 8], 1))
        assert float((second / first).sqrt()) == pytest.approx(t / (1 - t), rel=0.02)

    def test_a_network_that_was_just_read_keeps_the_magnitude_of_its_input(self, tmp_path):
        stored = read_edm(edm2(tmp_path, img_channels=3))
        stored.weights["model.out_gain"].fill_(1)
        x = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
        output, _ = stored.denoiser().model(x, torch.zeros(4), torch.tensor([1, 2, 3, 4]))
        assert 0.5 < float(output.std()) < 2


def written_out(tensors, arguments, x, sigma, labels):
    """Evaluate the denoiser step by step, weights divided by their length in every layer as training does it."""
    state = {name.removeprefix("unet."): tensor.double() for name, tensor in tensors.items()}
    variance = sigma**2 + 0.25

    def weight(name):
        rows = state[name].flatten(1)
        lengths = rows.norm(dim=1, keepdim=True)
        return (rows / (1e-4 * rows.shape[1] ** 0.5 + lengths)).view_as(state[name])

    def conv(name, z):
        w = weight(f"{name}.weight")
        return F.conv2d(z, w, padding=w.shape[-1] // 2)

    def mp_silu(z):
        return z * z.sigmoid() / 0.596

    def mp_sum(a, b, t):
        return ((1 - t) * a + t * b) / math.sqrt((1 - t) ** 2 + t**2)

    def normalised(z, dim):
        return z / (1e-4 + (z**2).mean(dim, keepdim=True) ** 0.5)

    def block(name, z, embedding, encodes):
        if name.endswith("down"):
            z = F.avg_pool2d(z, 2)
        if name.endswith("up"):
            z = z.repeat_interleave(2, 2).repeat_interleave(2, 3)
        skip = f"{name}.conv_skip" if f"{name}.conv_skip.weight" in state else None
        if encodes:
            z = normalised(conv(skip, z) if skip else z, 1)
        y = conv(f"{name}.conv_res0", mp_silu(z))
        c = embedding @ weight(f"{name}.emb_linear.weight").T * state[f"{name}.emb_gain"] + 1
        y = conv(f"{name}.conv_res1", mp_silu(y * c[:, :, None, None]))
        if not encodes and skip:
            z = conv(skip, z)
        z = mp_sum(z, y, 0.3)
        if f"{name}.attn_qkv.weight" in state:
            heads = z.shape[1] // arguments["channels_per_head"]
            qkv = conv(f"{name}.attn_qkv", z).reshape(len(z), heads, -1, 3, z.shape[2] * z.shape[3])
            q, k, v = normalised(qkv, 2).unbind(3)
            seen = torch.einsum("nhcq,nhck->nhqk", q, k / math.sqrt(q.shape[2])).softmax(3)
            y = torch.einsum("nhqk,nhck->nhcq", seen, v).reshape(z.shape)
            z = mp_sum(z, conv(f"{name}.attn_proj", y), 0.3)
        return z.clip(-256, 256)

    code = sigma.flatten().log() / 4
    embedding = torch.cos(code[:, None] * state["emb_fourier.freqs"] + state["emb_fourier.phases"]) * math.sqrt(2)
    embedding = embedding @ weight("emb_noise.weight").T
    hot = torch.zeros(len(x), 10, dtype=torch.float64)
    for row, label in enumerate(labels):
        hot[row, label] = label >= 0
    embedding = mp_silu(mp_sum(embedding, hot * math.sqrt(10) @ weight("emb_label.weight").T, 0.5))
    z = torch.cat([x / variance**0.5, torch.ones_like(x[:, :1])], 1)
    z = conv("enc.16x16_conv", z)
    skips = [z]
    for name in ("16x16_block0", "8x8_down", "8x8_block0"):
        z = block(f"enc.{name}", z, embedding, True)
        skips.append(z)
    features = z.mean(1).flatten(1)
    for name in ("8x8_in0", "8x8_in1", "8x8_block0", "8x8_block1", "16x16_up", "16x16_block0", "16x16_block1"):
        if "block" in name:
            other = skips.pop()
            c = math.sqrt((z.shape[1] + other.shape[1]) / 0.5)
            z = torch.cat([z * c * 0.5 / math.sqrt(z.shape[1]), other * c * 0.5 / math.sqrt(other.shape[1])], 1)
        z = block(f"dec.{name}", z, embedding, False)
    output = conv("out_conv", z) * state["out_gain"]
    return 0.25 / variance * x + sigma * 0.5 / variance**0.5 * output, features


class TestFiles:
    @pytest.mark.parametrize("labels", [[3, 9], [-1, 4]])
    def test_a_file_answers_as_every_step_written_out(self, tmp_path, labels):
        x = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(5)).double()
        sigma = torch.tensor([0.3, 7.0], dtype=torch.float64).reshape(2, 1, 1, 1)
        denoiser = read_edm(edm2(tmp_path)).denoiser().double()
        answer = denoiser(x, sigma, torch.tensor(labels))
        image, features = written_out(edm2_state(published.EDM2), published.EDM2, x, sigma, labels)
        torch.testing.assert_close(answer.image, image, rtol=0, atol=1e-5)
        torch.testing.assert_close(answer.features, features, rtol=0, atol=1e-5)
        assert image.std() > 0.1

    def test_a_model_says_what_its_user_must_know(self, tmp_path):
        model = build("model", DENOISERS, {"name": "edm2", "path": str(edm2(tmp_path))})
        assert (model.shape, model.num_classes, model.feature_size) == ((3, 16, 16), 10, 64)
        assert (model.noise_range.sigma_min, model.noise_range.sigma_max) == (0.002, 80.0)
        assert model.denoiser.sigma_data == 0.5

    def test_no_length_of_a_row_matters(self, tmp_path):
        tensors = edm2_state(published.EDM2)
        stretched = {name: 3 * t if name.endswith("weight") else t for name, t in tensors.items()}
        before, after = (
            edm_object_weights(tmp_path / str(number), which) for number, which in enumerate((tensors, stretched))
        )
        for name, tensor in before.items():
            torch.testing.assert_close(after[name], tensor, rtol=1e-3, atol=1e-6)

    def test_what_only_training_needs_is_ignored(self, tmp_path):
        assert not any("logvar" in name for name in read_edm(edm2(tmp_path)).weights)

    def test_arguments_that_it_does_not_say_are_edm2_s(self):
        card = edm_card({"img_resolution": 64, "img_channels": 4, "label_dim": 1000, "model_channels": 128}, "Precond")
        assert (card.architecture, card.preconditioning, card.sigma_data) == ("edm2", "edm2", 0.5)
        assert card.network["bottleneck_resolution"] == 8


def edm_object_weights(folder, tensors):
    folder.mkdir()
    path = published.write_pickle(
        folder / "a.pkl", lambda: {"ema": published.edm_object(published.EDM2, tensors, kind="Precond")}
    )
    return read_edm(path).weights


class TestLatents:
    def test_they_are_decoded_from_the_deviation_and_mean_of_the_autoencoder_s_own(self, tmp_path):
        vae = drawn(diffusers.AutoencoderKL(**AUTOENCODER, latent_channels=4, scaling_factor=0.3), 1).eval()
        vae.save_pretrained(tmp_path / "sd-vae-ft-mse")
        spec = {"name": "edm2", "path": str(edm2(tmp_path, img_channels=4))}
        model = build("model", DENOISERS, spec | {"autoencoder": str(tmp_path / "sd-vae-ft-mse")})
        assert (model.shape, model.image_shape) == ((4, 16, 16), (3, 32, 32))
        latents = torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(1))
        mean, deviation = (
            torch.tensor(v)[:, None, None] for v in ((5.81, 3.25, 0.12, -2.15), (4.17, 4.62, 3.71, 3.28))
        )
        with torch.inference_mode():
            expected = vae.decode(latents * deviation / 0.5 + mean).sample
            torch.testing.assert_close(model.decode(latents), expected)
        assert model.digest != read_edm(edm2(tmp_path, img_channels=4)).digest

    @pytest.mark.parametrize(
        ("channels", "options", "message"),
        [
            (4, {}, "4 channels is of latents; give it its `autoencoder`"),
            (3, {"autoencoder": "."}, "3 channels is of pixels; leave `autoencoder` out"),
            (4, {"autoencoder": "nowhere"}, "nowhere: no such folder; an autoencoder is one"),
        ],
    )
    def test_a_decoder_belongs_to_a_network_of_latents_and_to_no_other(self, tmp_path, channels, options, message):
        with pytest.raises(InputError, match=message):
            build("model", DENOISERS, {"name": "edm2", "path": str(edm2(tmp_path, img_channels=channels))} | options)
