"""ADM's U-Net (Dhariwal and Nichol 2021), as EDM parametrises it; and its classifier of noisy images.

Module and tensor names are those of EDM's files. guided-diffusion and consistency models use the same network under
other names and in another dialect: their norms group at least one channel where EDM's group four, and the rounding of
their frequencies differs. Some of their networks have blocks that shift where the others scale and shift, resample by
convolutions in place of blocks, or have as many outputs again, the variances, which sampling ignores.

The classifier is the encoder and the middle, under a head that attends from the mean over all pixels.
"""

from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from amed_lightning.denoisers.layers import (
    Embedding,
    FeatureMap,
    angles,
    attention,
    conv3,
    frequencies,
    openai_frequencies,
    resampling_convolution,
    zero_init,
)
from amed_lightning.denoisers.topology import Planned, Topology
from amed_lightning.denoisers.unet import Block, BlockStyle, Outputs, one_hot
from amed_lightning.flow.model import Condition, Features
from amed_lightning.tensors import Images

_HEAD_CHANNELS = 64
"""Channels of a head in EDM's networks."""


class Trunk(nn.Module):
    """The embedding of the noise level, and the encoder.

    Args:
        img_resolution: height and width of the images.
        img_channels: their channels.
        model_channels: channels of the first level.
        channel_mult: each level's channels, in units of ``model_channels``.
        num_blocks: residual blocks per level.
        attn_resolutions: where blocks attend.
        dropout: probability, in training only.
        channel_mult_emb: size of the embedding, in units of ``model_channels``.
        head_channels: of each head, by default 64; a block with fewer channels does not attend.
        num_heads: of every block that attends, in place of ``head_channels``.
        scale_shift: whether the embedding scales and shifts, or shifts alone.
        resblock_updown: blocks change the resolution, or else convolutions do.
        dialect: whose norms and frequencies, see above.

    Raises:
        ValueError: channels that cannot be split into heads, or both ways to split them.
    """

    def __init__(
        self,
        img_resolution: int,
        img_channels: int,
        model_channels: int = 192,
        channel_mult: Sequence[int | float] = (1, 2, 3, 4),
        num_blocks: int = 3,
        attn_resolutions: Sequence[int] = (32, 16, 8),
        dropout: float = 0.1,
        channel_mult_emb: int = 4,
        head_channels: int | None = None,
        num_heads: int | None = None,
        scale_shift: bool = True,
        resblock_updown: bool = True,
        dialect: Literal["edm", "openai"] = "edm",
    ) -> None:
        super().__init__()
        self.model_channels, self.width = model_channels, model_channels * channel_mult_emb
        if head_channels and num_heads:
            raise ValueError(f"head_channels {head_channels} and num_heads {num_heads}; one of them says the heads")
        self.head_channels, self.num_heads = head_channels or _HEAD_CHANNELS, num_heads
        self.dropout, self.resblock_updown, self.dialect = dropout, resblock_updown, dialect
        self.style = BlockStyle(1.0, 1e-5, 4 if dialect == "edm" else 1, scale_shift, projects_resampled=False)
        levels = img_resolution, model_channels, channel_mult, num_blocks, attn_resolutions
        self.topology = Topology(*levels, stem_mult=channel_mult[0])
        self.map_layer0 = nn.Linear(model_channels, self.width)
        self.map_layer1 = nn.Linear(self.width, self.width)
        self.enc = nn.ModuleDict({f"{img_resolution}x{img_resolution}_conv": conv3(img_channels, self.topology.stem)})
        self.enc.update({planned.name: self.block(planned) for planned in self.topology.encoder()})

    def block(self, planned: Planned) -> nn.Module:
        """Build a block, or the convolution in place of one."""
        if planned.resample and not self.resblock_updown:
            return resampling_convolution(planned.out_channels, planned.resample)
        channels = planned.in_channels, planned.out_channels
        heads = (self.num_heads or channels[1] // self.head_channels) if planned.attends else 0
        if heads and channels[1] % heads:
            raise ValueError(f"{channels[1]} channels cannot be split into {heads} heads")
        return Block(*channels, self.width, self.style, self.dropout, heads, planned.resample)

    def embed(self, c_noise: Float[Tensor, "batch"]) -> Embedding:
        """Return the embedding of the level's code, before its last SiLU."""
        count, device = self.model_channels // 2, c_noise.device
        edm = self.dialect == "edm"
        at = angles(c_noise, frequencies(count, count, device) if edm else openai_frequencies(count, device))
        embedding: Tensor = self.map_layer1(F.silu(self.map_layer0(torch.cat([at.cos(), at.sin()], 1))))
        return embedding

    def encode(self, x: Images, embedding: Embedding) -> dict[str, FeatureMap]:
        """Return the output of every part of the encoder, by name."""
        outputs: dict[str, FeatureMap] = {}
        for name, module in self.enc.items():
            outputs[name] = x = run(module, x, embedding)
        return outputs


def run(module: nn.Module, x: FeatureMap, embedding: Embedding) -> FeatureMap:
    """Run a block, which sees the embedding, or a convolution."""
    output: FeatureMap = module(x, embedding) if isinstance(module, Block) else module(x)
    return output


class ADM(Trunk):
    """The network F(x, c_noise, labels) inside a preconditioned denoiser.

    Args:
        label_dim: number of classes, 0 for none.
        bottleneck_resolution: the last encoder block there is the bottleneck, whose activation the features are; None
            is the middle, between encoder and decoder.
        augment_dim: numbers that described a training image's augmentation; sampling has none.
        further_outputs: channels that the network says beside its answer.
        trunk: options of :class:`Trunk`.

    Raises:
        ValueError: no level works at the bottleneck's resolution.
    """

    def __init__(
        self,
        label_dim: int = 0,
        bottleneck_resolution: int | None = 8,
        augment_dim: int = 0,
        further_outputs: int = 0,
        **trunk: Any,
    ) -> None:
        super().__init__(**trunk)
        size = bottleneck_resolution or self.topology.resolutions[-1]
        self.topology.require_level(size)
        last_there = f"block{self.topology.num_blocks - 1}" if bottleneck_resolution else "in1"
        self.bottleneck, self.feature_size, self.label_dim = f"{size}x{size}_{last_there}", size**2, label_dim
        self.map_label = nn.Linear(label_dim, self.width, bias=False) if label_dim else None
        self.map_augment = nn.Linear(augment_dim, self.model_channels, bias=False) if augment_dim else None
        self.dec = nn.ModuleDict({planned.name: self.block(planned) for planned in self.topology.decoder()})
        self.out_norm = self.style.norm(self.topology.stem)
        self.out_conv = zero_init(conv3(self.topology.stem, trunk["img_channels"] + further_outputs))

    def forward(self, x: Images, c_noise: Float[Tensor, "batch"], labels: Condition | None) -> tuple[Outputs, Features]:
        """Run the network, see :class:`~amed_lightning.denoisers.unet.UNet`."""
        embedding = self.embed(c_noise)
        hot = one_hot(labels, self.label_dim, x)
        if self.map_label is not None and hot is not None:
            embedding = embedding + self.map_label(hot)
        embedding = F.silu(embedding)
        seen = self.encode(x, embedding)
        skips = list(seen.values())
        x = skips[-1]
        for name, block in self.dec.items():
            if "_block" in name:
                x = block(torch.cat([x, skips.pop()], 1), embedding)
            else:
                x = seen[name] = run(block, x, embedding)
        output: Tensor = self.out_conv(F.silu(self.out_norm(x)))
        return output, seen[self.bottleneck].mean(1).flatten(1)


class _AttentionPool(nn.Module):
    """Attend from the mean over all pixels to that mean and all pixels.

    Args:
        resolution: of the images.
        channels: of the images.
        heads: attend independently.
        out_features: of the result.
    """

    def __init__(self, resolution: int, channels: int, heads: int, out_features: int) -> None:
        super().__init__()
        self.heads = heads
        self.position = nn.Parameter(torch.randn(channels, resolution**2 + 1) / channels**0.5)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, out_features)

    def forward(self, x: FeatureMap) -> Embedding:
        """Return what the mean sees."""
        pixels = x.flatten(2)
        tokens = torch.cat([pixels.mean(2, keepdim=True), pixels], 2) + self.position
        triples = self.qkv(tokens.transpose(1, 2)).transpose(1, 2)
        seen: Tensor = self.proj(attention(triples[:, :, None], self.heads)[:, :, 0, 0])
        return seen


class NoisyClassifier(Trunk):
    """A classifier of scaled noisy images.

    Args:
        num_classes: among which it chooses.
        trunk: options of :class:`Trunk`.

    Raises:
        ValueError: ``num_heads``; its last attention has one head for so many channels.
    """

    def __init__(self, num_classes: int, **trunk: Any) -> None:
        super().__init__(**trunk)
        if self.num_heads:
            raise ValueError("a classifier's heads are said by head_channels, not by num_heads")
        self.middle = nn.ModuleDict({planned.name: self.block(planned) for planned in self.topology.middle()})
        last = self.topology.channels[-1]
        self.out_norm = self.style.norm(last)
        self.pool = _AttentionPool(self.topology.resolutions[-1], last, last // self.head_channels, num_classes)

    def forward(self, x: Images, c_noise: Float[Tensor, "batch"]) -> Float[Tensor, "batch classes"]:
        """Return each class' logit.

        Args:
            x: scaled noisy images.
            c_noise: the level's code.
        """
        embedding = F.silu(self.embed(c_noise))
        *_, x = self.encode(x, embedding).values()
        for block in self.middle.values():
            x = block(x, embedding)
        logits: Tensor = self.pool(F.silu(self.out_norm(x)))
        return logits
