"""DDPM++ and NCSN++ (Song et al. 2021, ICLR) as EDM parametrises them (Karras et al. 2022, appendix F.2).

Module and tensor names are those of EDM's files, so that their tensors fit one to one, except the resampling filters,
which are options here. All residual sums are scaled by sqrt(1/2); embeddings of noise level and label enter each block
as an offset per channel.

NCSN++ embeds random Fourier frequencies and adds to every level of the encoder the image itself, filtered down level by
level ("residual": and added to by the encoder). "skip" puts the image beside the encoder, or collects the output level
by level beside the decoder.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal, TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from amed_lightning.denoisers.layers import (
    MEAN,
    Embedding,
    FeatureMap,
    FilteredConv2d,
    FourierAngles,
    PositionalAngles,
    Resample,
    conv3,
    zero_init,
)
from amed_lightning.denoisers.topology import Planned, Topology
from amed_lightning.denoisers.unet import Block, BlockStyle, Outputs, one_hot
from amed_lightning.flow.model import Condition, Features
from amed_lightning.tensors import Images

_RESIDUAL_SCALE = 0.5**0.5
_Beside: TypeAlias = Literal["standard", "skip", "residual"]


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
        augment_dim: numbers that described a training image's augmentation; sampling has none.
        channel_mult_emb: size of the embedding, in units of ``model_channels``.
        embedding_type: how the noise level is embedded.
        channel_mult_noise: size of that embedding, in units of ``model_channels``.
        encoder_type: what the encoder sees of the image below its first level.
        decoder_type: whether the output is the last level's, or the sum of every level's.
        resample_filter: in one dimension.
        further_outputs: channels that the network says beside its answer.
        patch_size: the first level sees squares of so many pixels a side as one place of more channels, and costs its
            square less.

    Raises:
        ValueError: no level works at the bottleneck's resolution, or the image is no whole number of patches.
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
        augment_dim: int = 0,
        channel_mult_emb: int = 4,
        embedding_type: Literal["positional", "fourier"] = "positional",
        channel_mult_noise: int = 1,
        encoder_type: _Beside = "standard",
        decoder_type: Literal["standard", "skip"] = "standard",
        resample_filter: Sequence[int] = MEAN,
        further_outputs: int = 0,
        patch_size: int = 1,
    ) -> None:
        super().__init__()
        if patch_size < 1 or img_resolution % patch_size:
            raise ValueError(f"patch_size {patch_size} does not divide img_resolution {img_resolution}")
        self.patch_size, side = patch_size, img_resolution // patch_size
        image, outputs = img_channels * patch_size**2, (img_channels + further_outputs) * patch_size**2
        topology = Topology(side, model_channels, channel_mult, num_blocks, attn_resolutions, stem_mult=1)
        topology.require_level(bottleneck_resolution)
        self.label_dim, self.feature_size = label_dim, bottleneck_resolution**2
        self.bottleneck = f"{bottleneck_resolution}x{bottleneck_resolution}_block{num_blocks - 1}"
        noise, width = model_channels * channel_mult_noise, model_channels * channel_mult_emb
        self.map_noise = (PositionalAngles if embedding_type == "positional" else FourierAngles)(noise // 2)
        self.map_label = nn.Linear(label_dim, noise) if label_dim else None
        self.map_augment = nn.Linear(augment_dim, noise, bias=False) if augment_dim else None
        self.map_layer0 = nn.Linear(noise, width)
        self.map_layer1 = nn.Linear(width, width)

        style = BlockStyle(_RESIDUAL_SCALE, 1e-6, 4, scale_shift=False, projects_resampled=True, taps=resample_filter)
        add = partial(_block, embedding=width, style=style, dropout=dropout)
        self.enc = _encoder(topology, add, image, encoder_type, resample_filter)
        self.dec = _decoder(topology, add, outputs, decoder_type, style)

    def forward(self, x: Images, c_noise: Float[Tensor, "batch"], labels: Condition | None) -> tuple[Outputs, Features]:
        """Run the network, see :class:`~amed_lightning.denoisers.unet.UNet`."""
        embedding = self._embed(c_noise, one_hot(labels, self.label_dim, x))
        skips, features = self._encode(F.pixel_unshuffle(x, self.patch_size), embedding)
        return F.pixel_shuffle(self._decode(skips, embedding), self.patch_size), features

    def _encode(self, image: Images, embedding: Embedding) -> tuple[list[FeatureMap], Features]:
        """Return every output that the decoder sees, newest last, and the features."""
        skips: list[FeatureMap] = []
        x = beside = image
        for name, module in self.enc.items():
            if name.endswith("_aux_down"):
                beside = module(beside)
            elif name.endswith("_aux_skip"):
                x = skips[-1] = x + module(beside)
            elif name.endswith("_aux_residual"):
                x = skips[-1] = beside = (x + module(beside)) * _RESIDUAL_SCALE
            else:
                x = module(x, embedding) if isinstance(module, Block) else module(x)
                skips.append(x)
            if name == self.bottleneck:
                features = x.mean(1).flatten(1)
        return skips, features

    def _decode(self, skips: list[FeatureMap], embedding: Embedding) -> Outputs:
        """Return the network's output."""
        x, output = skips[-1], None
        for name, module in self.dec.items():
            if name.endswith("_aux_up"):
                output = module(output)
            elif name.endswith("_aux_norm"):
                normed = module(x)
            elif name.endswith("_aux_conv"):
                said = module(F.silu(normed))
                output = said if output is None else output + said
            else:
                x = module(torch.cat([x, skips.pop()], 1) if "_block" in name else x, embedding)
        assert output is not None
        return output

    def _embed(self, c_noise: Float[Tensor, "batch"], labels: Float[Tensor, "batch classes"] | None) -> Embedding:
        at = self.map_noise(c_noise)
        code = torch.cat([at.sin(), at.cos()], 1)
        if self.map_label is not None:
            if labels is None:
                labels = code.new_zeros(1, self.label_dim)
            code = code + self.map_label(labels * self.label_dim**0.5)
        embedding: Tensor = F.silu(self.map_layer1(F.silu(self.map_layer0(code))))
        return embedding


def _block(planned: Planned, embedding: int, style: BlockStyle, dropout: float) -> Block:
    heads = 1 if planned.attends else 0
    return Block(planned.in_channels, planned.out_channels, embedding, style, dropout, heads, planned.resample)


def _encoder(
    topology: Topology, add: Callable[[Planned], Block], image: int, encoder_type: _Beside, taps: Sequence[int]
) -> nn.ModuleDict:
    """Build the blocks from an image of so many channels down, and what they see of it below."""
    side, beside = topology.img_resolution, image
    built = nn.ModuleDict({f"{side}x{side}_conv": conv3(image, topology.stem)})
    for block in topology.encoder():
        built[block.name] = add(block)
        if block.resample and encoder_type != "standard":
            built.update(_image_beside(encoder_type, block, beside, taps))
            beside = block.out_channels if encoder_type == "residual" else beside
    return built


def _decoder(
    topology: Topology,
    add: Callable[[Planned], Block],
    outputs: int,
    decoder_type: Literal["standard", "skip"],
    style: BlockStyle,
) -> nn.ModuleDict:
    """Build the blocks up to an output of so many channels, and what they add to it."""
    built = nn.ModuleDict()
    for block in topology.decoder(attends=lambda index: index == topology.num_blocks):
        built[block.name] = add(block)
        if block.name.endswith(f"_block{topology.num_blocks}") and (decoder_type == "skip" or block.level == 0):
            raised = block.level < len(topology.channel_mult) - 1 and decoder_type == "skip"
            built.update(_output(block, outputs, style, raised))
    return built


def _image_beside(
    encoder_type: Literal["skip", "residual"], block: Planned, beside: int, taps: Sequence[int]
) -> dict[str, nn.Module]:
    """Return what a level of the encoder sees of the image, of ``beside`` channels one level above."""
    level, _, _ = block.name.partition("_")
    if encoder_type == "residual":
        return {f"{level}_aux_residual": FilteredConv2d(beside, block.out_channels, taps)}
    return {
        f"{level}_aux_down": Resample("down", taps),
        f"{level}_aux_skip": nn.Conv2d(beside, block.out_channels, 1),
    }


def _output(block: Planned, channels: int, style: BlockStyle, raised: bool) -> dict[str, nn.Module]:
    """Return what a level of the decoder adds to the output, which first comes up from the level below."""
    level, _, _ = block.name.partition("_")
    up: dict[str, nn.Module] = {f"{level}_aux_up": Resample("up", style.taps)} if raised else {}
    norm, conv = style.norm(block.out_channels), zero_init(conv3(block.out_channels, channels))
    return up | {f"{level}_aux_norm": norm, f"{level}_aux_conv": conv}
