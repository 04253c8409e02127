"""EDM's preconditioning around a stand-in network, and the DDPM++ network inside it."""

import math

import pytest
import torch
from torch import nn

from amed_lightning.denoisers.ddpmpp import DDPMpp
from amed_lightning.denoisers.layers import Resample
from amed_lightning.denoisers.preconditioning import EDM, Preconditioned
from amed_lightning.denoisers.unet import one_hot


class StandIn(DDPMpp):
    """A network that keeps what it is asked and answers with fixed noise."""

    def __init__(self) -> None:
        nn.Module.__init__(self)
        self.output = torch.randn(3, 1, 4, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def forward(self, x, c_noise, labels):
        self.x, self.c_noise, self.labels = x, c_noise, labels
        return self.output.to(x), x.flatten(1)


def small(**options) -> DDPMpp:
    """A network in double precision whose weights are all in use: those that start at zero are drawn too."""
    defaults = {"img_resolution": 16, "img_channels": 2, "model_channels": 8, "channel_mult": (1, 2), "num_blocks": 2}
    torch.manual_seed(3)
    network = DDPMpp(**{**defaults, "attn_resolutions": (8,), **options}).double().eval()
    for weights in network.parameters():
        nn.init.normal_(weights, std=0.2)
    return network


def images(channels: int = 2, resolution: int = 16) -> torch.Tensor:
    shape = (3, channels, resolution, resolution)
    return torch.randn(shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


PER_SAMPLE = torch.tensor([0.002, 0.5, 80.0], dtype=torch.float64).reshape(3, 1, 1, 1)


class TestPreconditioning:
    @pytest.mark.parametrize("sigma_data", [0.5, 1.3])
    @pytest.mark.parametrize("sigma", [PER_SAMPLE, torch.tensor(2.5, dtype=torch.float64)], ids=["per sample", "one"])
    def test_its_coefficients_are_edms(self, sigma, sigma_data):
        network, x = StandIn(), images(1, 4)
        answer = Preconditioned(network, EDM(sigma_data))(x, sigma, None)
        total = sigma**2 + sigma_data**2
        torch.testing.assert_close(network.x, x / total.sqrt())
        torch.testing.assert_close(network.c_noise, (sigma.log() / 4).flatten().expand(3))
        expected = sigma_data**2 / total * x + sigma * sigma_data / total.sqrt() * network.output
        torch.testing.assert_close(answer.image, expected)
        assert answer.features.equal(network.x.flatten(1))

    def test_the_data_have_half_unit_deviation_by_default(self):
        assert Preconditioned(StandIn(), EDM()).sigma_data == 0.5

    def test_single_precision_images_stay_so_under_a_level_in_double_precision(self):
        network = StandIn()
        answer = Preconditioned(network, EDM())(images(1, 4).float(), PER_SAMPLE, None)
        assert {value.dtype for value in (network.x, network.c_noise, answer.image)} == {torch.float32}

    def test_labels_are_one_hot_and_a_negative_one_is_a_zero_row(self):
        expected = [[0, 0, 1, 0], [0, 0, 0, 0], [1, 0, 0, 0]]
        hot = one_hot(torch.tensor([2, -1, 0]), 4, images())
        assert hot.equal(torch.tensor(expected, dtype=torch.float64))

    @pytest.mark.parametrize(("label_dim", "labels"), [(4, None), (0, torch.tensor([2, 1, 0])), (0, None)])
    def test_without_label_or_class_there_are_no_rows(self, label_dim, labels):
        assert one_hot(labels, label_dim, images()) is None

    def test_the_network_is_told_the_labels(self):
        network, labels = StandIn(), torch.tensor([2, -1, 0])
        Preconditioned(network, EDM())(images(1, 4), PER_SAMPLE, labels)
        assert network.labels is labels

    def test_an_evaluation_is_one_network_run(self):
        assert Preconditioned(StandIn(), EDM()).cost == 1


class TestNetwork:
    @pytest.mark.parametrize("bottleneck_resolution", [8, 16])
    @pytest.mark.parametrize("num_blocks", [1, 2])
    def test_its_features_are_the_bottlenecks_output_averaged_over_channels(self, bottleneck_resolution, num_blocks):
        network = small(bottleneck_resolution=bottleneck_resolution, num_blocks=num_blocks)
        last = network.enc[f"{bottleneck_resolution}x{bottleneck_resolution}_block{num_blocks - 1}"]
        outputs = []
        last.register_forward_hook(lambda module, inputs, output: outputs.append(output))
        features = Preconditioned(network, EDM())(images(), PER_SAMPLE, None).features
        (output,) = outputs
        assert features.shape == (3, network.feature_size) == (3, bottleneck_resolution**2)
        for sample in range(3):
            average = sum(output[sample, channel] for channel in range(output.shape[1])) / output.shape[1]
            torch.testing.assert_close(features[sample], torch.cat(list(average)))

    def test_an_open_class_is_a_zero_row(self):
        network, x, code = small(label_dim=3), images(), torch.zeros(3, dtype=torch.float64)
        zero_row = network(x, code, torch.full((3,), -1))[0]
        torch.testing.assert_close(network(x, code, None)[0], zero_row)
        assert not network(x, code, torch.arange(3))[0].allclose(zero_row, atol=1e-3)

    def test_a_negative_label_and_no_label_give_the_same_image(self):
        denoiser = Preconditioned(small(label_dim=3), EDM())
        open_class = denoiser(images(), PER_SAMPLE, torch.full((3,), -1)).image
        torch.testing.assert_close(denoiser(images(), PER_SAMPLE, None).image, open_class)

    def test_a_sample_does_not_see_its_neighbours(self):
        denoiser = Preconditioned(small(label_dim=3), EDM())
        labels = torch.arange(3)
        together = denoiser(images(), PER_SAMPLE, labels)
        alone = denoiser(images()[1:2], PER_SAMPLE[1:2], labels[1:2])
        torch.testing.assert_close(together.image[1:2], alone.image)
        torch.testing.assert_close(together.features[1:2], alone.features)

    def test_every_weight_matters(self):
        network = small(label_dim=3)
        network(images(), torch.linspace(-1, 1, 3, dtype=torch.float64), torch.arange(3))[0].square().sum().backward()
        assert [name for name, weights in network.named_parameters() if not weights.grad.abs().sum() > 0] == []

    def test_a_fresh_network_answers_zero(self):
        answer, _ = DDPMpp(8, 1, model_channels=8, channel_mult=(1,), num_blocks=1)(
            images(1, 8).float(), torch.zeros(3), None
        )
        assert not answer.any()

    def test_the_level_is_told_by_sines_then_cosines_from_one_to_a_ten_thousandth(self):
        network, c_noise = small(label_dim=2), torch.tensor([-1.5, 0.3], dtype=torch.float64)
        angles = [0.3 * torch.tensor(1e4 ** (-k / 3), dtype=torch.float32).item() for k in range(4)]
        labels = torch.eye(2, dtype=torch.float64)
        code = torch.tensor([*map(math.sin, angles), *map(math.cos, angles)], dtype=torch.float64)
        code = code + network.map_label.weight @ labels[1] * math.sqrt(2) + network.map_label.bias
        silu = torch.nn.functional.silu
        expected = silu(network.map_layer1(silu(network.map_layer0(code))))
        torch.testing.assert_close(network._embed(c_noise, labels)[1], expected, rtol=1e-6, atol=1e-6)


def by_hand(network, x, embedding, encoder, decoder):
    """Run a network of three levels with one block each, every step written out."""
    enc, dec, silu = network.enc, network.dec, torch.nn.functional.silu
    mean, beside = torch.nn.functional.avg_pool2d, x
    seen = [enc["16x16_conv"](x)]
    seen.append(enc["16x16_block0"](seen[-1], embedding))
    for size in ("8x8", "4x4"):
        down = enc[f"{size}_down"](seen[-1], embedding)
        if encoder == "residual":
            convolution = enc[f"{size}_aux_residual"]
            wide = torch.nn.functional.conv2d(beside, convolution.weight, convolution.bias, padding=1)
            beside = down = (down + mean(wide, 2)) / math.sqrt(2)
        elif encoder == "skip":
            beside = mean(beside, 2)
            down = down + enc[f"{size}_aux_skip"](beside)
        seen.append(down)
        seen.append(enc[f"{size}_block0"](seen[-1], embedding))
    y, output = seen[-1], 0.0
    for size in ("4x4", "8x8", "16x16"):
        if size == "4x4":
            y = dec["4x4_in1"](dec["4x4_in0"](y, embedding), embedding)
        else:
            y = dec[f"{size}_up"](y, embedding)
        for index in range(2):
            y = dec[f"{size}_block{index}"](torch.cat([y, seen.pop()], 1), embedding)
        if decoder == "skip" or size == "16x16":
            raised = torch.nn.functional.interpolate(output, scale_factor=2) if torch.is_tensor(output) else 0.0
            output = raised + dec[f"{size}_aux_conv"](silu(dec[f"{size}_aux_norm"](y)))
    return output


class TestVariants:
    """NCSN++ and its relatives, for which there is no published tiny instance: level by level by hand."""

    @pytest.mark.parametrize("decoder", ["standard", "skip"])
    @pytest.mark.parametrize("encoder", ["standard", "skip", "residual"])
    def test_what_stands_beside_encoder_and_decoder_is_added_level_by_level(self, encoder, decoder):
        network = small(channel_mult=(1, 2, 1), num_blocks=1, encoder_type=encoder, decoder_type=decoder)
        x, code = images(), torch.tensor([-1.0, 0.2, 0.9], dtype=torch.float64)
        expected = by_hand(network, x, network._embed(code, None), encoder, decoder)
        torch.testing.assert_close(network(x, code, None)[0], expected)

    def test_fourier_frequencies_embed_the_level_by_sines_then_cosines(self):
        network = small(embedding_type="fourier", channel_mult_noise=2)
        network.map_noise.freqs.copy_(torch.linspace(-2, 3, 8))
        angles = 2 * math.pi * 0.3 * torch.linspace(-2, 3, 8, dtype=torch.float64)
        silu, code = torch.nn.functional.silu, torch.cat([angles.sin(), angles.cos()])
        expected = silu(network.map_layer1(silu(network.map_layer0(code))))
        torch.testing.assert_close(network._embed(torch.tensor([0.3], dtype=torch.float64), None)[0], expected)
        assert "map_noise.freqs" in network.state_dict()

    def test_the_filter_of_ncsnpp_is_in_every_block_that_resamples(self):
        network = small(encoder_type="residual", decoder_type="skip", resample_filter=(1, 3, 3, 1))
        filters = [module for module in network.modules() if isinstance(module, Resample)]
        assert len(filters) == 6  # two each in the blocks down and up, one beside encoder and decoder
        assert all(module.taps.shape[-1] == 4 for module in filters)

    def test_patches_are_seen_as_channels_of_one_place(self):
        network = small(patch_size=2, channel_mult=(1,), label_dim=3)
        x, code, labels = images(), torch.tensor([-1.0, 0.2, 0.9], dtype=torch.float64), torch.arange(3)
        squares = x.unflatten(3, (8, 2)).unflatten(2, (8, 2)).movedim((3, 5), (2, 3)).flatten(1, 3)
        alike = small(img_resolution=8, img_channels=squares.shape[1], channel_mult=(1,), label_dim=3)
        alike.load_state_dict(network.state_dict())
        answer, features = network(x, code, labels)
        expected, expected_features = alike(squares, code, labels)
        back = expected.unflatten(1, (-1, 2, 2)).movedim((2, 3), (3, 5)).flatten(4, 5).flatten(2, 3)
        torch.testing.assert_close(answer, back)
        torch.testing.assert_close(features, expected_features)

    @pytest.mark.parametrize("patch_size", [0, 3])
    def test_an_image_of_no_whole_number_of_patches_is_refused(self, patch_size):
        with pytest.raises(ValueError, match=f"patch_size {patch_size} does not divide img_resolution 16"):
            small(patch_size=patch_size)

    def test_the_embedding_s_size_is_an_option(self):
        assert small(channel_mult_emb=2).map_layer1.out_features == 16
