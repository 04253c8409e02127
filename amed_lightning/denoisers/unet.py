"""What EDM's U-Nets share: the contract, and their residual block (Karras et al. 2022).

A block runs ``norm0``, SiLU, ``conv0`` (resampled, or not), then brings in the embedding of noise level and label at
``norm1``, as an offset or as scale and offset, then SiLU, dropout, ``conv1``; after the residual sum it may attend.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from amed_lightning.denoisers.layers import (
    MEAN,
    Direction,
    Embedding,
    FeatureMap,
    Resample,
    ResampledConv2d,
    attention,
    conv3,
    group_norm,
    zero_init,
)
from amed_lightning.flow.model import Condition, Features
from amed_lightning.tensors import Images

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
        self.conv1 = zero_init(conv3(out_channels, out_channels))
        self.skip = style.skip(in_channels, out_channels, resample)
        if heads:
            self.norm2 = style.norm(out_channels)
            self.qkv = nn.Conv2d(out_channels, 3 * out_channels, 1)
            self.proj = zero_init(nn.Conv2d(out_channels, out_channels, 1))

    def forward(self, x: FeatureMap, embedding: Embedding) -> FeatureMap:
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

    def _attend(self, y: FeatureMap) -> FeatureMap:
        projected: Tensor = self.proj(attention(self.qkv(self.norm2(y)), self.heads))
        return projected


def one_hot(labels: Condition | None, classes: int, like: Images) -> Float[Tensor, "batch classes"] | None:
    """Return a row per label, zero where it is negative; None where nothing is said or there are no classes."""
    if labels is None or not classes:
        return None
    hot = F.one_hot(labels.clamp(min=0), classes) * (labels >= 0)[:, None]
    return hot.to(like.dtype)


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
        self, x: Images, c_noise: Float[Tensor, "batch"], labels: Condition | None
    ) -> tuple[Outputs, Features]:
        """Run the network.

        Args:
            x: scaled noisy images.
            c_noise: the level's code.
            labels: a negative one, or None, leaves the class open.

        Returns:
            The output, and the bottleneck's activation averaged over channels, flattened.
        """
        ...
