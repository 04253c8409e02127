"""What EDM's U-Nets share: their residual block, and how blocks make an encoder and a decoder.

Level ``l`` works at ``resolution >> l``. Every encoder output is kept for the decoder, whose blocks see it beside
their input, newest first. Module names are those of EDM's files (Karras et al. 2022).

A block runs ``norm0``, SiLU, ``conv0`` (resampled, or not), then brings in the embedding of noise level and label at
``norm1``, as an offset or as scale and offset, then SiLU, dropout, ``conv1``; after the residual sum it may attend.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from amed_lightning.denoisers.layers import (
    MEAN,
    Direction,
    Maps,
    Resample,
    ResampledConv2d,
    Vectors,
    attention,
    conv3,
    group_norm,
    silent,
)
from amed_lightning.flow.model import Features
from amed_lightning.tensors import Images

MIN_CHANNELS, MAX_LEVELS, MAX_BLOCKS = 4, 16, 64
"""Beyond these a description is a mistake, and building what it says would take for ever."""
Outputs = Float[Tensor, "batch outputs height width"]


@dataclass(frozen=True)
class BlockStyle:
    """What tells the published residual blocks apart.

    Attributes:
        residual_scale: of every sum with a skipped branch.
        eps: of the group norms.
        channels_per_group: of the group norms, at least.
        scale_shift: the embedding scales and shifts after the second norm; else it shifts before.
        projects_resampled: a resampled skip has a convolution also where the channels stay.
        taps: the resampling filter.
    """

    residual_scale: float
    eps: float
    channels_per_group: int
    scale_shift: bool
    projects_resampled: bool
    taps: Sequence[int] = MEAN

    def norm(self, channels: int) -> nn.GroupNorm:
        """Return a group norm."""
        return group_norm(channels, self.channels_per_group, self.eps)

    def skip(self, in_channels: int, out_channels: int, direction: Direction | None) -> nn.Module:
        """Return the branch around a block's convolutions."""
        if in_channels != out_channels or (direction and self.projects_resampled):
            return ResampledConv2d(in_channels, out_channels, 1, direction, self.taps)
        return Resample(direction, self.taps) if direction else nn.Identity()


class Block(nn.Module):
    """Two convolutions with the embedding between them, then self-attention.

    Args:
        in_channels: of the input.
        out_channels: of the output.
        embedding: size of the embedding.
        style: which block it is.
        dropout: probability, in training only.
        heads: of the attention; 0 for none.
        resample: change the resolution.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        embedding: int,
        style: BlockStyle,
        dropout: float = 0.0,
        heads: int = 0,
        resample: Direction | None = None,
    ) -> None:
        super().__init__()
        self.style, self.heads = style, heads
        self.norm0 = style.norm(in_channels)
        self.conv0 = ResampledConv2d(in_channels, out_channels, 3, resample, style.taps)
        self.affine = nn.Linear(embedding, (1 + style.scale_shift) * out_channels)
        self.norm1 = style.norm(out_channels)
        self.dropout = nn.Dropout(dropout)
        self.conv1 = silent(conv3(out_channels, out_channels))
        self.skip = style.skip(in_channels, out_channels, resample)
        if heads:
            self.norm2 = style.norm(out_channels)
            self.qkv = nn.Conv2d(out_channels, 3 * out_channels, 1)
            self.proj = silent(nn.Conv2d(out_channels, out_channels, 1))

    def forward(self, x: Maps, embedding: Vectors) -> Maps:
        """Return the block's output; ``embedding`` already ends in SiLU."""
        y = self.conv0(F.silu(self.norm0(x)))
        parameters = self.affine(embedding)[:, :, None, None]
        if self.style.scale_shift:
            scale, shift = parameters.chunk(2, 1)
            y = self.norm1(y) * (1 + scale) + shift
        else:
            y = self.norm1(y + parameters)
        y = (self.conv1(self.dropout(F.silu(y))) + self.skip(x)) * self.style.residual_scale
        return (y + self._attend(y)) * self.style.residual_scale if self.heads else y

    def _attend(self, y: Maps) -> Maps:
        projected: Tensor = self.proj(attention(self.qkv(self.norm2(y)), self.heads))
        return projected


@runtime_checkable
class UNet(Protocol):
    """The network F(x, c_noise, labels) inside a preconditioned denoiser, a module.

    Attributes:
        label_dim: number of classes, 0 for none.
        feature_size: length of the features.
    """

    label_dim: int
    feature_size: int

    def __call__(
        self, x: Images, c_noise: Float[Tensor, "batch"], labels: Float[Tensor, "batch classes"] | None
    ) -> tuple[Outputs, Features]:
        """Run the network.

        Args:
            x: scaled noisy images.
            c_noise: the level's code.
            labels: one-hot; a zero row, or None, leaves the class open.

        Returns:
            The output, and the bottleneck's activation averaged over channels, flattened.
        """
        ...


@dataclass(frozen=True)
class Planned:
    """A block of a U-Net that is to be built.

    Attributes:
        level: counted from the highest resolution.
        name: of its module.
        in_channels: of its input, what it sees of the encoder included.
        out_channels: of its output.
        attends: whether it ends in attention.
        resample: how it changes the resolution.
    """

    level: int
    name: str
    in_channels: int
    out_channels: int
    attends: bool = False
    resample: Direction | None = None


@dataclass(frozen=True)
class Topology:
    """How blocks make a U-Net.

    Attributes:
        img_resolution: of the images.
        model_channels: unit of the channels.
        channel_mult: each level's channels, highest resolution first.
        num_blocks: of each level in the encoder; the decoder has one more.
        attn_resolutions: where blocks attend.
        stem_mult: channels of the first convolution.

    Raises:
        ValueError: no such U-Net can be.
    """

    img_resolution: int
    model_channels: int
    channel_mult: Sequence[int]
    num_blocks: int
    attn_resolutions: Sequence[int]
    stem_mult: int

    def __post_init__(self) -> None:
        levels = len(self.channel_mult)
        if not (0 < levels <= MAX_LEVELS and 0 < self.num_blocks <= MAX_BLOCKS):
            raise ValueError(f"a U-Net has 1 to {MAX_LEVELS} levels, each of 1 to {MAX_BLOCKS} blocks")
        if min(self.channels) < MIN_CHANNELS:
            raise ValueError(f"a U-Net of {min(self.channels)} channels; it has at least {MIN_CHANNELS}")
        if self.img_resolution < 1 or self.img_resolution % 2 ** (levels - 1):
            raise ValueError(f"img_resolution {self.img_resolution} cannot be halved {levels - 1} times")

    @property
    def stem(self) -> int:
        """Channels of the first convolution."""
        return self.model_channels * self.stem_mult

    @property
    def channels(self) -> list[int]:
        """Channels of each level."""
        return [self.model_channels * mult for mult in self.channel_mult]

    @property
    def resolutions(self) -> list[int]:
        """The resolution of each level."""
        return [self.img_resolution >> level for level in range(len(self.channel_mult))]

    def require_level(self, resolution: int) -> None:
        """Check that a level works at a resolution.

        Raises:
            ValueError: none does.
        """
        if resolution not in self.resolutions:
            sizes = ", ".join(map(str, self.resolutions))
            raise ValueError(f"bottleneck_resolution {resolution}: no level has it; use one of {sizes}")

    def encoder(self) -> Iterator[Planned]:
        """Plan the encoder's blocks, after the first convolution."""
        now = self.stem
        for level, (size, out) in enumerate(zip(self.resolutions, self.channels, strict=True)):
            if level:
                yield Planned(level, f"{size}x{size}_down", now, now, resample="down")
            for index in range(self.num_blocks):
                yield Planned(level, f"{size}x{size}_block{index}", now, out, size in self.attn_resolutions)
                now = out

    def middle(self) -> Iterator[Planned]:
        """Plan the two blocks between encoder and decoder."""
        level, size, now = len(self.channels) - 1, self.resolutions[-1], self.channels[-1]
        yield Planned(level, f"{size}x{size}_in0", now, now, attends=True)
        yield Planned(level, f"{size}x{size}_in1", now, now)

    def decoder(self, attends: Callable[[int], bool] = lambda index: True) -> Iterator[Planned]:
        """Plan the middle and the decoder's blocks, lowest resolution first.

        Args:
            attends: whether a level's block of this index attends where the resolution says so.
        """
        yield from self.middle()
        now, skips = self.channels[-1], [self.stem, *(block.out_channels for block in self.encoder())]
        for level, (size, out) in reversed(list(enumerate(zip(self.resolutions, self.channels, strict=True)))):
            if level < len(self.channels) - 1:
                yield Planned(level, f"{size}x{size}_up", now, now, resample="up")
            for index in range(self.num_blocks + 1):
                attention = size in self.attn_resolutions and attends(index)
                yield Planned(level, f"{size}x{size}_block{index}", now + skips.pop(), out, attention)
                now = out
