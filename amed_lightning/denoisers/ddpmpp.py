"""The DDPM++ U-Net (Song et al. 2021, ICLR) as EDM parametrises it (Karras et al. 2022, appendix F.2).

Module and tensor names are those of EDM's files, so that their tensors fit one to one. Level ``l`` works at
``resolution >> l``. Every encoder output is kept for the decoder, whose blocks see it beside their input. All residual
sums are scaled by sqrt(1/2).

Every resolution of an image halves by a 2x2 mean and doubles by repetition; embeddings of noise level and label enter
each block as an offset per channel.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from amed_lightning.flow.model import Features
from amed_lightning.tensors import Images

RESIDUAL_SCALE = 0.5**0.5
CHANNELS_PER_GROUP, MAX_GROUPS = 4, 32

Levels: TypeAlias = Sequence[tuple[int, int]]
"""Resolution and channels of each level, highest resolution first."""
Vectors = Float[Tensor, "batch _"]
Maps = Float[Tensor, "batch _ _ _"]


def group_norm(channels: int) -> nn.GroupNorm:
    """Normalise groups of at least four channels."""
    return nn.GroupNorm(min(MAX_GROUPS, channels // CHANNELS_PER_GROUP), channels, eps=1e-6)


class ResampledConv2d(nn.Conv2d):
    """Halve or double the resolution, then convolve."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, resample: str | None = None) -> None:
        super().__init__(in_channels, out_channels, kernel, padding=kernel // 2)
        self.resample = resample

    def forward(self, input: Maps) -> Maps:
        """Return the image at the new resolution."""
        if self.resample == "down":
            input = F.avg_pool2d(input, 2)
        elif self.resample == "up":
            input = F.interpolate(input, scale_factor=2)
        return super().forward(input)


class Block(nn.Module):
    """Two convolutions with the embedding between them, then self-attention if asked for."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        embedding: int,
        dropout: float,
        attention: bool = False,
        resample: str | None = None,
    ) -> None:
        super().__init__()
        self.norm0 = group_norm(in_channels)
        self.conv0 = ResampledConv2d(in_channels, out_channels, 3, resample)
        self.affine = nn.Linear(embedding, out_channels)
        self.norm1 = group_norm(out_channels)
        self.dropout = nn.Dropout(dropout)
        self.conv1 = _silent(_conv3(out_channels, out_channels))
        changes = resample is not None or in_channels != out_channels
        self.skip = ResampledConv2d(in_channels, out_channels, 1, resample) if changes else nn.Identity()
        self.attention = attention
        if attention:
            self.norm2 = group_norm(out_channels)
            self.qkv = nn.Conv2d(out_channels, 3 * out_channels, 1)
            self.proj = _silent(nn.Conv2d(out_channels, out_channels, 1))

    def forward(self, x: Maps, embedding: Vectors) -> Maps:
        """Return the block's output; ``embedding`` already ends in SiLU."""
        y = self.conv0(F.silu(self.norm0(x)))
        y = F.silu(self.norm1(y + self.affine(embedding)[:, :, None, None]))
        y = (self.conv1(self.dropout(y)) + self.skip(x)) * RESIDUAL_SCALE
        return (y + self._attend(y)) * RESIDUAL_SCALE if self.attention else y

    def _attend(self, y: Maps) -> Maps:
        """One head over all pixels; queries, keys and values interleave, channel by channel."""
        batch, channels, height, width = y.shape
        triples = self.qkv(self.norm2(y)).reshape(batch, channels, 3, height * width)
        query, key, value = triples.transpose(1, 3).unbind(2)
        attended = F.scaled_dot_product_attention(query, key, value)
        projected: Tensor = self.proj(attended.transpose(1, 2).reshape(y.shape))
        return projected


class DDPMpp(nn.Module):
    """The network F(x, c_noise, labels) inside a preconditioned denoiser.

    Args:
        img_resolution: height and width of the images.
        img_channels: their channels.
        label_dim: number of classes, 0 for none.
        model_channels: channels of the first level.
        channel_mult: each level's channels, in units of ``model_channels``.
        num_blocks: residual blocks per level.
        attn_resolutions: where the encoder attends; the decoder does in its last block there.
        dropout: probability, in training only.
        bottleneck_resolution: the last encoder block there is the bottleneck, whose activation the features are.

    Raises:
        ValueError: no level works at the bottleneck's resolution.
    """

    def __init__(
        self,
        img_resolution: int,
        img_channels: int,
        label_dim: int = 0,
        model_channels: int = 128,
        channel_mult: Sequence[int] = (1, 2, 2, 2),
        num_blocks: int = 4,
        attn_resolutions: Sequence[int] = (16,),
        dropout: float = 0.1,
        bottleneck_resolution: int = 8,
    ) -> None:
        super().__init__()
        self.model_channels, self.label_dim = model_channels, label_dim
        self.bottleneck = f"{bottleneck_resolution}x{bottleneck_resolution}_block{num_blocks - 1}"
        self.feature_size = bottleneck_resolution**2
        width = 4 * model_channels
        self.map_label = nn.Linear(label_dim, model_channels) if label_dim else None
        self.map_layer0 = nn.Linear(model_channels, width)
        self.map_layer1 = nn.Linear(width, width)

        levels = [(img_resolution >> level, model_channels * mult) for level, mult in enumerate(channel_mult)]
        if bottleneck_resolution not in dict(levels):
            sizes = ", ".join(str(size) for size, _ in levels)
            raise ValueError(f"bottleneck_resolution {bottleneck_resolution}: no level has it; use one of {sizes}")
        block = partial(Block, embedding=width, dropout=dropout)
        self.enc = nn.ModuleDict({f"{img_resolution}x{img_resolution}_conv": _conv3(img_channels, model_channels)})
        skips = self._add_encoder(levels, model_channels, num_blocks, attn_resolutions, block)
        self.dec = nn.ModuleDict()
        channels = self._add_decoder(levels, skips, num_blocks, attn_resolutions, block)
        self.dec[f"{img_resolution}x{img_resolution}_aux_norm"] = group_norm(channels)
        self.dec[f"{img_resolution}x{img_resolution}_aux_conv"] = _silent(_conv3(channels, img_channels))

    def _add_encoder(
        self, levels: Levels, channels: int, num_blocks: int, attends_at: Sequence[int], block: Callable[..., Block]
    ) -> list[int]:
        """Add the encoder's blocks; return the channels of everything that the decoder sees again."""
        skips = [channels]
        for level, (resolution, out) in enumerate(levels):
            if level:
                self.enc[f"{resolution}x{resolution}_down"] = block(channels, channels, resample="down")
                skips.append(channels)
            for index in range(num_blocks):
                name = f"{resolution}x{resolution}_block{index}"
                self.enc[name] = block(channels, out, attention=resolution in attends_at)
                channels = out
                skips.append(channels)
        return skips

    def _add_decoder(
        self, levels: Levels, skips: list[int], num_blocks: int, attends_at: Sequence[int], block: Callable[..., Block]
    ) -> int:
        """Add the decoder's blocks, lowest resolution first; return the channels of the last."""
        channels = skips[-1]
        for level, (resolution, out) in reversed(list(enumerate(levels))):
            if level == len(levels) - 1:
                self.dec[f"{resolution}x{resolution}_in0"] = block(channels, channels, attention=True)
                self.dec[f"{resolution}x{resolution}_in1"] = block(channels, channels)
            else:
                self.dec[f"{resolution}x{resolution}_up"] = block(channels, channels, resample="up")
            for index in range(num_blocks + 1):
                attention = index == num_blocks and resolution in attends_at
                name = f"{resolution}x{resolution}_block{index}"
                self.dec[name] = block(channels + skips.pop(), out, attention=attention)
                channels = out
        return channels

    def forward(
        self, x: Images, c_noise: Float[Tensor, "batch"], labels: Float[Tensor, "batch classes"] | None
    ) -> tuple[Images, Features]:
        """Run the network.

        Args:
            x: scaled noisy images.
            c_noise: the level's code, ln(sigma) / 4 under EDM's preconditioning.
            labels: one-hot; a zero row, or None, leaves the class open.

        Returns:
            The output, and the bottleneck's activation averaged over channels, flattened.
        """
        embedding = self._embed(c_noise, labels)
        skips = []
        for name, module in self.enc.items():
            x = module(x) if name.endswith("_conv") else module(x, embedding)
            skips.append(x)
            if name == self.bottleneck:
                features = x.mean(1).flatten(1)
        for name, module in self.dec.items():
            if "_aux_" in name:
                x = module(F.silu(x)) if name.endswith("_conv") else module(x)
            else:
                x = module(torch.cat([x, skips.pop()], 1) if "_block" in name else x, embedding)
        return x, features

    def _embed(self, c_noise: Float[Tensor, "batch"], labels: Float[Tensor, "batch classes"] | None) -> Vectors:
        half = self.model_channels // 2
        exponents = torch.arange(half, dtype=torch.float32, device=c_noise.device) / (half - 1)
        angles = c_noise[:, None] * (10000.0**-exponents).to(c_noise.dtype)
        code = torch.cat([angles.sin(), angles.cos()], 1)
        if self.map_label is not None:
            if labels is None:
                labels = code.new_zeros(1, self.label_dim)
            code = code + self.map_label(labels * self.label_dim**0.5)
        embedding: Tensor = F.silu(self.map_layer1(F.silu(self.map_layer0(code))))
        return embedding


def _conv3(in_channels: int, out_channels: int) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, 3, padding=1)


def _silent(convolution: nn.Conv2d) -> nn.Conv2d:
    """Start a residual branch at zero, so that an untrained network is the identity around it."""
    nn.init.zeros_(convolution.weight)
    assert convolution.bias is not None
    nn.init.zeros_(convolution.bias)
    return convolution
