r"""EDM2's U-Net (Karras et al. 2024, arXiv 2312.02696, configuration G): every layer keeps its input's magnitude.

There are no biases and no group norms. Each output of a layer has weights of length 1, so what is of unit variance and
uncorrelated stays so; sums, joins and SiLU are scaled to the same end (appendix B):

- ``sum(a, b; t) = ((1 - t) a + t b) / sqrt((1 - t)^2 + t^2)``
- ``cat(a, b; t) = sqrt((N_a + N_b) / ((1 - t)^2 + t^2)) [(1 - t) a / sqrt(N_a), t b / sqrt(N_b)]``, N channels
- ``silu(x) / 0.596``, and of a level's code c ``sqrt(2) cos(f c + p)`` with random f and p

An encoder's block begins by scaling every pixel to unit variance over its channels; queries, keys and values are scaled
so too. The embedding scales a block's channels by ``1 + g e``, g one number that is learned, and another scales the
last convolution. The image gets a channel of ones, in place of biases.

Training keeps the rows of weights at a length that is 1 but for what they are divided by anew in every run,
``w <- w / (eps + rms(w)) / sqrt(N)`` over the N numbers of a row. Here that is done once, by :func:`of_unit_length`,
where a file is read; so layers are PyTorch's own. Module and tensor names are those of EDM2's files.
"""

import math
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from amed_lightning.denoisers.layers import MEAN, Embedding, FeatureMap, Resample, attention
from amed_lightning.denoisers.topology import Planned, Topology
from amed_lightning.denoisers.unet import Outputs, one_hot
from amed_lightning.flow.model import Condition, Features
from amed_lightning.tensors import Images

EPS = 1e-4
_SILU_DEVIATION = 0.596
"""Root mean square of the SiLU of a standard normal number."""
NETWORK, UNUSED = "unet.", "logvar_"
"""How the names of the network's tensors begin in a file, and of those that only training's loss needs."""


def of_unit_length(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a file's tensors under the names of a denoiser's, the rows of weights divided by their length.

    Args:
        tensors: of the object that is pickled.
    """
    kept = {name: tensor for name, tensor in tensors.items() if not name.startswith(UNUSED)}
    named = {f"model.{name.removeprefix(NETWORK)}": tensor.float() for name, tensor in kept.items()}
    return {name: _rows(tensor) if name.endswith(".weight") else tensor for name, tensor in named.items()}


def _rows(weight: Tensor) -> Tensor:
    return scaled(weight.flatten(1)).view_as(weight) / weight[0].numel() ** 0.5


def scaled(x: Tensor, dim: int = 1) -> Tensor:
    """Divide by the root mean square over a dimension, to which 1e-4 is added."""
    return x / (EPS + x.square().mean(dim, keepdim=True).sqrt())


def silu(x: Tensor) -> Tensor:
    """Return SiLU, scaled to keep a unit variance."""
    return F.silu(x) / _SILU_DEVIATION


def blend(a: Tensor, b: Tensor, t: float) -> Tensor:
    """Return the sum of a and b, t the share of b, scaled to keep a unit variance."""
    return a.lerp(b, t) / math.hypot(1 - t, t)


def join(a: FeatureMap, b: FeatureMap, t: float) -> FeatureMap:
    """Put the channels of b behind those of a, t the share of b in the variance's root, scaled to keep it."""
    whole = math.sqrt(a.shape[1] + b.shape[1]) / math.hypot(1 - t, t)
    return torch.cat([a * (whole * (1 - t) / math.sqrt(a.shape[1])), b * (whole * t / math.sqrt(b.shape[1]))], 1)


class Code(nn.Module):
    """The cosines of a level's code, at random frequencies and phases that are part of a file's tensors."""

    freqs: Tensor
    phases: Tensor

    def __init__(self, count: int) -> None:
        super().__init__()
        self.register_buffer("freqs", 2 * math.pi * torch.randn(count))
        self.register_buffer("phases", 2 * math.pi * torch.rand(count))

    def forward(self, code: Float[Tensor, "batch"]) -> Embedding:
        """Return numbers of unit variance for each level's code."""
        angles = code[:, None] * self.freqs.to(code.dtype) + self.phases.to(code.dtype)
        return angles.cos() * math.sqrt(2)


def _conv(in_channels: int, out_channels: int, size: int) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, size, padding=size // 2, bias=False)


class _MPBlock(nn.Module):
    """Two convolutions, the embedding between them, then self-attention.

    Args:
        planned: what it is.
        embedding: size of the embedding.
        encodes: it scales its input and brings that to its own channels first; else at the first sum.
        heads: of the attention, 0 for none.
        resample_filter: in one dimension.
        dropout: probability, in training only.
        res_balance: share of the convolutions in their sum.
        attn_balance: share of the attention in its sum.
        clip_act: the largest absolute value that leaves it; None for any.
    """

    def __init__(
        self,
        planned: Planned,
        embedding: int,
        encodes: bool,
        heads: int,
        resample_filter: Sequence[int],
        dropout: float,
        res_balance: float,
        attn_balance: float,
        clip_act: float | None,
    ) -> None:
        super().__init__()
        before, after = planned.in_channels, planned.out_channels
        self.encodes, self.heads, self.clip_act = encodes, heads, clip_act
        self.res_balance, self.attn_balance = res_balance, attn_balance
        self.resample = Resample(planned.resample, resample_filter) if planned.resample else nn.Identity()
        self.dropout = nn.Dropout(dropout)
        self.emb_gain = nn.Parameter(torch.zeros([]))
        self.conv_res0 = _conv(after if encodes else before, after, 3)
        self.emb_linear = nn.Linear(embedding, after, bias=False)
        self.conv_res1 = _conv(after, after, 3)
        self.conv_skip = nn.Identity() if before == after else _conv(before, after, 1)
        if heads:
            self.attn_qkv, self.attn_proj = _conv(after, 3 * after, 1), _conv(after, after, 1)

    def forward(self, x: FeatureMap, embedding: Embedding) -> FeatureMap:
        """Return the block's output."""
        x = self.resample(x)
        x = scaled(self.conv_skip(x)) if self.encodes else x
        factors = 1 + self.emb_gain * self.emb_linear(embedding)[:, :, None, None]
        y = self.conv_res1(self.dropout(silu(self.conv_res0(silu(x)) * factors)))
        x = blend(x if self.encodes else self.conv_skip(x), y, self.res_balance)
        x = blend(x, self._attend(x), self.attn_balance) if self.heads else x
        return x if self.clip_act is None else x.clamp(-self.clip_act, self.clip_act)

    def _attend(self, x: FeatureMap) -> FeatureMap:
        triples = self.attn_qkv(x)
        split = triples.unflatten(1, (self.heads, -1, 3))
        projected: Tensor = self.attn_proj(attention(scaled(split, 2).reshape(triples.shape), self.heads))
        return projected


class EDM2(nn.Module):
    """The network F(x, c_noise, labels) inside a preconditioned denoiser; its weights have unit length.

    Args:
        img_resolution: height and width of the images.
        img_channels: their channels; 4 for latents.
        label_dim: number of classes, 0 for none.
        bottleneck_resolution: the last encoder block there is the bottleneck, whose activation the features are.
        model_channels: unit of the channels.
        channel_mult: each level's channels.
        channel_mult_noise: cosines of the level's code; the first level's channels where nothing is said.
        channel_mult_emb: size of the embedding; the most channels of a level where nothing is said.
        num_blocks: residual blocks per level.
        attn_resolutions: where blocks attend.
        label_balance: share of the label in the embedding.
        concat_balance: share of the encoder in what a decoder's block sees.
        channels_per_head: of the attention.
        resample_filter: in one dimension.
        dropout: probability, in training only.
        res_balance: share of a block's convolutions.
        attn_balance: share of a block's attention.
        clip_act: the largest absolute value that leaves a block; None for any.

    Raises:
        ValueError: no such U-Net can be.
    """

    def __init__(
        self,
        img_resolution: int,
        img_channels: int,
        label_dim: int = 0,
        bottleneck_resolution: int = 8,
        model_channels: int = 192,
        channel_mult: Sequence[int | float] = (1, 2, 3, 4),
        channel_mult_noise: int | float | None = None,
        channel_mult_emb: int | float | None = None,
        num_blocks: int = 3,
        attn_resolutions: Sequence[int] = (16, 8),
        label_balance: float = 0.5,
        concat_balance: float = 0.5,
        channels_per_head: int = 64,
        resample_filter: Sequence[int] = MEAN,
        dropout: float = 0.0,
        res_balance: float = 0.3,
        attn_balance: float = 0.3,
        clip_act: float | None = 256.0,
    ) -> None:
        super().__init__()
        topology = Topology(
            img_resolution, model_channels, channel_mult, num_blocks, attn_resolutions, stem_mult=channel_mult[0]
        )
        topology.require_level(bottleneck_resolution)
        self.bottleneck = f"{bottleneck_resolution}x{bottleneck_resolution}_block{num_blocks - 1}"
        self.feature_size, self.label_dim = bottleneck_resolution**2, label_dim
        self.label_balance, self.concat_balance = label_balance, concat_balance
        cosines = topology.channels[0] if channel_mult_noise is None else round(model_channels * channel_mult_noise)
        width = max(topology.channels) if channel_mult_emb is None else round(model_channels * channel_mult_emb)
        self.emb_fourier, self.emb_noise = Code(cosines), nn.Linear(cosines, width, bias=False)
        self.emb_label = nn.Linear(label_dim, width, bias=False) if label_dim else None

        def block(planned: Planned, encodes: bool) -> _MPBlock:
            heads = planned.out_channels // channels_per_head if planned.attends else 0
            balances = res_balance, attn_balance, clip_act
            return _MPBlock(planned, width, encodes, heads, resample_filter, dropout, *balances)

        stem = {f"{img_resolution}x{img_resolution}_conv": _conv(img_channels + 1, topology.stem, 3)}
        self.enc = nn.ModuleDict(stem | {planned.name: block(planned, True) for planned in topology.encoder()})
        self.dec = nn.ModuleDict({planned.name: block(planned, False) for planned in topology.decoder()})
        self.out_conv, self.out_gain = _conv(topology.stem, img_channels, 3), nn.Parameter(torch.zeros([]))

    def forward(self, x: Images, c_noise: Float[Tensor, "batch"], labels: Condition | None) -> tuple[Outputs, Features]:
        """Run the network, see :class:`~amed_lightning.denoisers.unet.UNet`."""
        embedding = self.embed(c_noise, labels, x)
        x = torch.cat([x, torch.ones_like(x[:, :1])], 1)
        seen: dict[str, FeatureMap] = {}
        for name, module in self.enc.items():
            seen[name] = x = module(x, embedding) if isinstance(module, _MPBlock) else module(x)
        skips = list(seen.values())
        for name, module in self.dec.items():
            x = module(join(x, skips.pop(), self.concat_balance) if "_block" in name else x, embedding)
        return self.out_gain * self.out_conv(x), seen[self.bottleneck].mean(1).flatten(1)

    def embed(self, c_noise: Float[Tensor, "batch"], labels: Condition | None, like: Images) -> Embedding:
        """Return the embedding of the level's code and the label; an open class is a label of zeros."""
        embedding: Tensor = self.emb_noise(self.emb_fourier(c_noise))
        if self.emb_label is not None:
            hot = one_hot(labels, self.label_dim, like)
            hot = like.new_zeros(len(like), self.label_dim) if hot is None else hot
            embedding = blend(embedding, self.emb_label(hot * math.sqrt(self.label_dim)), self.label_balance)
        return silu(embedding)
