"""The parts of U-Nets: attention, resampling, embeddings, blocks."""

import math

import pytest
import torch
from torch import nn

from amed_lightning.denoisers.layers import (
    FilteredConv2d,
    FourierAngles,
    PositionalAngles,
    Resample,
    attention,
    frequencies,
    kernel,
    openai_frequencies,
)
from amed_lightning.denoisers.unet import Block, BlockStyle

DDPMPP = BlockStyle(0.5**0.5, 1e-6, 4, scale_shift=False, projects_resampled=True)
ADM = BlockStyle(1.0, 1e-5, 4, scale_shift=True, projects_resampled=False)


def images(channels=2, resolution=8, batch=3):
    shape = (batch, channels, resolution, resolution)
    return torch.randn(shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


def block(style, **options):
    torch.manual_seed(4)
    made = Block(**{"in_channels": 8, "out_channels": 8, "embedding": 5, "style": style} | options).double()
    for weights in made.parameters():
        nn.init.normal_(weights, std=0.3)
    return made


class TestAttention:
    @pytest.mark.parametrize("heads", [1, 2, 4])
    def test_it_is_the_softmax_of_queries_and_keys_head_by_head(self, heads):
        triples = images(24, 4)
        depth = 8 // heads
        expected = torch.empty(3, 8, 4, 4, dtype=torch.float64)
        for head in range(heads):
            rows = triples[:, 3 * depth * head : 3 * depth * (head + 1)].flatten(2)
            query, key, value = (rows[:, first::3] for first in range(3))
            affinity = torch.einsum("bcq,bck->bqk", query, key) / math.sqrt(depth)
            seen = torch.einsum("bqk,bck->bcq", affinity.softmax(2), value)
            expected[:, depth * head : depth * (head + 1)] = seen.reshape(3, depth, 4, 4)
        torch.testing.assert_close(attention(triples, heads), expected)

    @pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:FutureWarning")  # torch's own, on first use
    @pytest.mark.parametrize("heads", [1, 2])
    def test_it_differentiates_in_both_modes(self, heads):
        triples, direction = images(12, 2, batch=1), images(12, 2, batch=1) ** 2
        _, forward = torch.func.jvp(lambda x: attention(x, heads), (triples,), (direction,))
        _, pull = torch.func.vjp(lambda x: attention(x, heads), triples)
        cotangent = torch.ones_like(forward)
        torch.testing.assert_close((forward * cotangent).sum(), (pull(cotangent)[0] * direction).sum())
        assert torch.autograd.gradcheck(lambda x: attention(x, heads), triples.requires_grad_(), check_forward_ad=True)

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_the_softmax_of_half_precision_is_single(self, dtype):
        """Sharp attention over 256 pixels: a softmax in half precision would be off by its own rounding."""
        triples = (8 * images(24, 16, batch=1)).to(dtype)
        exact = attention(triples.double(), 2)
        error = (attention(triples, 2).double() - exact).abs().max() / exact.abs().max()
        assert error < torch.finfo(dtype).eps


class TestResampling:
    @pytest.mark.parametrize("taps", [[1, 1], [1, 3, 3, 1]])
    @pytest.mark.parametrize("direction", ["up", "down"])
    def test_it_weighs_neighbours_with_the_filter(self, direction, taps):
        x, weights = images(), torch.tensor(taps, dtype=torch.float64) / sum(taps)
        pad = (len(taps) - 1) // 2
        if direction == "down":
            wide = nn.functional.pad(x, [pad] * 4).unfold(2, len(taps), 2).unfold(3, len(taps), 2)
            expected = torch.einsum("bchwij,i,j->bchw", wide, weights, weights)
        else:
            spread = torch.zeros(3, 2, 16, 16, dtype=torch.float64)
            spread[:, :, ::2, ::2] = x
            before = len(taps) - 1 - pad
            wide = nn.functional.pad(spread, [before, pad] * 2).unfold(2, len(taps), 1).unfold(3, len(taps), 1)
            expected = 4 * torch.einsum("bchwij,i,j->bchw", wide, weights, weights)
        torch.testing.assert_close(Resample(direction, taps)(x), expected)

    def test_its_own_filter_of_means_is_the_general_one(self):
        """[1, 1] takes another path than the rest; [2, 2] is the same filter on the general one."""
        for direction in ("up", "down"):
            torch.testing.assert_close(Resample(direction, [1, 1])(images()), Resample(direction, [2, 2])(images()))

    def test_a_filtered_convolution_sees_beyond_the_edge(self):
        torch.manual_seed(1)
        convolution = FilteredConv2d(2, 3, [1, 3, 3, 1]).double()
        x = images()
        wide = nn.functional.conv2d(x, convolution.weight, padding=2)
        filtered = nn.functional.conv2d(wide, kernel([1, 3, 3, 1]).double().expand(3, 1, 4, 4), stride=2, groups=3)
        torch.testing.assert_close(convolution(x), filtered + convolution.bias[:, None, None])

    def test_a_filter_has_sum_one(self):
        assert kernel([1, 3, 3, 1]).sum() == 1
        assert kernel([1, 3, 3, 1])[0, 0, 0].tolist() == [1 / 64, 3 / 64, 3 / 64, 1 / 64]

    @pytest.mark.parametrize("taps", [[1, 2, 1], [1, -1]])
    def test_another_filter_is_refused(self, taps):
        with pytest.raises(ValueError, match="length is even and its sum not zero"):
            kernel(taps)


class TestEmbedding:
    CODE = torch.tensor([-1.5, 0.3, 700.0], dtype=torch.float64)

    @pytest.mark.parametrize("steps", [3, 4])
    def test_frequencies_are_geometric_and_rounded_to_single_precision(self, steps):
        table = frequencies(4, steps, torch.device("cpu"))
        assert table.dtype == torch.float32
        expected = torch.tensor([1e4 ** (-k / steps) for k in range(4)], dtype=torch.float64)
        torch.testing.assert_close(table.double(), expected, rtol=1e-6, atol=0)

    def test_openai_s_differ_in_their_rounding_alone(self):
        theirs, device = openai_frequencies(128, torch.device("cpu")), torch.device("cpu")
        torch.testing.assert_close(theirs, frequencies(128, 128, device), rtol=1e-6, atol=0)
        assert not theirs.equal(frequencies(128, 128, device))

    def test_positional_angles_include_the_longest_period(self):
        angles = PositionalAngles(4)(self.CODE)
        torch.testing.assert_close(angles[:, 0], self.CODE)
        torch.testing.assert_close(angles[:, 3], self.CODE / 10_000, rtol=1e-6, atol=0)

    def test_fourier_angles_take_their_frequencies_from_the_file(self):
        module = FourierAngles(4)
        module.load_state_dict({"freqs": torch.tensor([0.0, 1.0, -2.0, 0.25])})
        angles = module.double()(self.CODE)
        assert set(module.state_dict()) == {"freqs"}
        torch.testing.assert_close(angles, 2 * math.pi * self.CODE[:, None] * module.freqs)


class TestBlock:
    def test_ddpmpp_shifts_before_the_norm_and_scales_every_sum(self):
        made, x = block(DDPMPP, heads=1), images(8)
        embedding = torch.randn(3, 5, dtype=torch.float64)
        y = made.conv0(nn.functional.silu(made.norm0(x))) + made.affine(embedding)[:, :, None, None]
        y = (made.conv1(nn.functional.silu(made.norm1(y))) + x) / math.sqrt(2)
        y = (y + made.proj(attention(made.qkv(made.norm2(y)), 1))) / math.sqrt(2)
        torch.testing.assert_close(made(x, embedding), y)
        assert made.norm0.eps == 1e-6

    def test_adm_scales_and_shifts_after_the_norm_and_scales_no_sum(self):
        made, x = block(ADM), images(8)
        embedding = torch.randn(3, 5, dtype=torch.float64)
        y = made.conv0(nn.functional.silu(made.norm0(x)))
        parameters = made.affine(embedding)[:, :, None, None]
        y = made.norm1(y) * (1 + parameters[:, :8]) + parameters[:, 8:]
        torch.testing.assert_close(made(x, embedding), made.conv1(nn.functional.silu(y)) + x)
        assert made.norm0.eps == 1e-5

    @pytest.mark.parametrize(
        ("style", "out_channels", "resample", "weights"),
        [
            *((DDPMPP, 8, "up", True), (DDPMPP, 8, None, False), (DDPMPP, 12, None, True)),
            *((ADM, 8, "down", False), (ADM, 8, None, False), (ADM, 12, None, True)),
        ],
    )
    def test_a_skip_has_weights_where_channels_change_and_in_ddpmpp_where_the_resolution_does(
        self, style, out_channels, resample, weights
    ):
        made = block(style, out_channels=out_channels, resample=resample)
        assert bool(made.skip.state_dict()) == weights
        size = {"up": 16, "down": 4, None: 8}[resample]
        assert made(images(8), torch.zeros(3, 5, dtype=torch.float64)).shape == (3, out_channels, size, size)
