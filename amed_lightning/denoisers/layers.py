"""What the published U-Nets are made of: group norms, resampling convolutions, attention, codes of the noise level.

Resampling takes a filter of one dimension, [1, 1] or [1, 3, 3, 1], whose outer product with itself, scaled to sum 1,
weighs each channel's neighbours. [1, 1] is the mean of 2x2 pixels one way and repetition the other.
"""

import math
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Literal, TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn.attention import SDPBackend, sdpa_kernel

Embedding = Float[Tensor, "batch _"]
FeatureMap = Float[Tensor, "batch _ _ _"]
Direction: TypeAlias = Literal["up", "down"]

_MAX_GROUPS = 32
_LONGEST_PERIOD = 10_000.0
_FOURIER_SCALE = 16.0
MEAN = (1, 1)
"""The filter that takes means and repeats."""


def group_norm(channels: int, channels_per_group: int, eps: float) -> nn.GroupNorm:
    """Normalise at most 32 groups, of at least ``channels_per_group`` channels."""
    return nn.GroupNorm(min(_MAX_GROUPS, channels // channels_per_group), channels, eps)


def conv3(in_channels: int, out_channels: int) -> nn.Conv2d:
    """Convolve each pixel with its eight neighbours."""
    return nn.Conv2d(in_channels, out_channels, 3, padding=1)


def zero_init(convolution: nn.Conv2d) -> nn.Conv2d:
    """Start a residual branch at zero, so that an untrained network is the identity around it."""
    nn.init.zeros_(convolution.weight)
    assert convolution.bias is not None
    nn.init.zeros_(convolution.bias)
    return convolution


class Resample(nn.Module):
    """Halve or double the resolution.

    Args:
        direction: up doubles, down halves.
        taps: the filter in one dimension, of even length.
        padding: pixels around the image; by default as many as give exactly half or double.
    """

    taps: Tensor

    def __init__(self, direction: Direction, taps: Sequence[int] = MEAN, padding: int | None = None) -> None:
        super().__init__()
        self.direction, self.takes_means = direction, tuple(taps) == MEAN
        self.padding = (len(taps) - 1) // 2 if padding is None else padding
        self.register_buffer("taps", kernel(taps), persistent=False)

    def forward(self, x: FeatureMap) -> FeatureMap:
        """Return the image at the new resolution."""
        down = self.direction == "down"
        if self.takes_means:
            return F.avg_pool2d(x, 2) if down else F.interpolate(x, scale_factor=2)
        channels = x.shape[1]
        taps = self.taps.to(x.dtype).expand(channels, 1, -1, -1)
        if down:
            return F.conv2d(x, taps, stride=2, padding=self.padding, groups=channels)
        return F.conv_transpose2d(x, 4 * taps, stride=2, padding=self.padding, groups=channels)


def kernel(taps: Sequence[int]) -> Float[Tensor, "1 1 taps taps"]:
    """Return a resampling filter in two dimensions, of sum 1; on the CPU whatever the default device.

    Raises:
        ValueError: its length is odd or its sum zero.
    """
    if len(taps) % 2 or not sum(taps):
        raise ValueError(f"resample_filter {list(taps)}: its length is even and its sum not zero")
    line = torch.tensor(taps, dtype=torch.float32, device="cpu")
    return (line.outer(line) / line.sum().square())[None, None]


class ResampledConv2d(nn.Conv2d):
    """Halve or double the resolution, then convolve."""

    def __init__(
        self, in_channels: int, out_channels: int, size: int, direction: Direction | None, taps: Sequence[int] = MEAN
    ) -> None:
        super().__init__(in_channels, out_channels, size, padding=size // 2)
        self.resample = Resample(direction, taps) if direction else nn.Identity()

    def forward(self, input: FeatureMap) -> FeatureMap:
        """Return the image at the new resolution."""
        return super().forward(self.resample(input))


def resampling_convolution(channels: int, direction: Direction) -> nn.Conv2d:
    """Halve by a convolution of stride 2, or repeat pixels and convolve (improved-diffusion)."""
    if direction == "up":
        return ResampledConv2d(channels, channels, 3, direction)
    return nn.Conv2d(channels, channels, 3, stride=2, padding=1)


class FilteredConv2d(nn.Conv2d):
    """Convolve beyond the image's edge, then halve the resolution of all that."""

    def __init__(self, in_channels: int, out_channels: int, taps: Sequence[int]) -> None:
        super().__init__(in_channels, out_channels, 3, padding=1 + (len(taps) - 1) // 2)
        self.resample = Resample("down", taps, padding=0)

    def forward(self, input: FeatureMap) -> FeatureMap:
        """Return the image at half the resolution."""
        halved: Tensor = self.resample(super().forward(input))
        return halved


def attention(triples: FeatureMap, heads: int) -> FeatureMap:
    """Let every pixel look at all pixels.

    The softmax is taken in single precision whatever the precision of the rest. Fused kernels want each head's numbers
    side by side, which a single head at low resolution would not repay; they know no forward-mode derivative.

    Args:
        triples: channel ``3 (head * depth + c) + j`` holds coordinate c of a head's query, key or value, j = 0, 1, 2.
        heads: attend independently.

    Returns:
        What each pixel sees, channel ``head * depth + c``.
    """
    batch, channels, height, width = triples.shape
    split = triples.reshape(batch, heads, channels // (3 * heads), 3, height * width).permute(3, 0, 1, 4, 2)
    forward_mode = forward_ad.unpack_dual(split).tangent is not None  # type: ignore[no-untyped-call]
    query, key, value = (split.contiguous() if heads > 1 else split).unbind(0)
    with sdpa_kernel(SDPBackend.MATH) if forward_mode else nullcontext():
        seen = F.scaled_dot_product_attention(query, key, value)
    return seen.transpose(2, 3).reshape(batch, channels // 3, height, width)


def frequencies(count: int, steps: int, device: torch.device) -> Float[Tensor, "frequencies"]:
    """Return ``count`` frequencies, ``steps`` of which lead from 1 to 1/10000, rounded to single precision."""
    return (1 / _LONGEST_PERIOD) ** (torch.arange(count, dtype=torch.float32, device=device) / steps)


def openai_frequencies(count: int, device: torch.device) -> Float[Tensor, "frequencies"]:
    """Return ``count`` frequencies from 1 to short of 1/10000, with the rounding errors of OpenAI's networks.

    Those are fed codes of 1,000 and more, which bring a frequency's last bit into the fourth digit of its angle.
    """
    return (-math.log(_LONGEST_PERIOD) * torch.arange(count, dtype=torch.float32, device=device) / count).exp()


def angles(code: Float[Tensor, "batch"], table: Float[Tensor, "frequencies"]) -> Float[Tensor, "batch frequencies"]:
    """Multiply each level's code with each frequency."""
    return code[:, None] * table.to(code.dtype)


class PositionalAngles(nn.Module):
    """Angles at geometric frequencies, 1/10000 included."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count

    def forward(self, code: Float[Tensor, "batch"]) -> Float[Tensor, "batch frequencies"]:
        """Return the angles of each level's code."""
        return angles(code, frequencies(self.count, self.count - 1, code.device))


class FourierAngles(nn.Module):
    """Angles at random frequencies, which are part of a file's tensors (NCSN++, Song et al. 2021)."""

    freqs: Tensor

    def __init__(self, count: int) -> None:
        super().__init__()
        self.register_buffer("freqs", _FOURIER_SCALE * torch.randn(count))

    def forward(self, code: Float[Tensor, "batch"]) -> Float[Tensor, "batch frequencies"]:
        """Return the angles of each level's code."""
        return angles(code, 2 * math.pi * self.freqs)
