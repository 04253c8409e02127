"""A U-Net of diffusers as the network inside a denoiser, and an autoencoder as a decoder.

The bottleneck is the output of the middle block, averaged over channels. Its resolution is the latent's, halved by
every level but the last: 8x8 for Stable Diffusion v1 and the LSUN model, 32x32 for SDXL.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn

from amed_lightning.denoisers.bottleneck import averaged, observe, observed
from amed_lightning.flow.model import Condition, Features
from amed_lightning.tensors import Images, Latents

Conditioning: TypeAlias = Callable[[Condition | None, int], dict[str, Any]]
"""Gives the U-Net's further arguments for a batch's conditions and its size."""


def latent_shape(unet: Any) -> tuple[int, int, int]:
    """Return channels, height and width of what a U-Net was trained on."""
    size = unet.config.sample_size
    height, width = (size, size) if isinstance(size, int) else size
    return unet.config.in_channels, height, width


class LatentNetwork(nn.Module):
    """A U-Net and what it is told besides the time.

    Args:
        unet: ``UNet2DModel`` or ``UNet2DConditionModel``.
        conditioning: of a text-to-image model.

    Attributes:
        shape: channels, height, width of a latent.
        feature_size: length of the features.
    """

    def __init__(self, unet: Any, conditioning: Conditioning | None = None) -> None:
        super().__init__()
        self.unet, self.conditioning = unet, conditioning
        self.shape = latent_shape(unet)
        halvings = 2 ** (len(unet.config.block_out_channels) - 1)
        self.feature_size = math.prod(-(-side // halvings) for side in self.shape[1:])
        observe(unet.mid_block)

    def forward(self, x: Images, time: Float[Tensor, "batch"], condition: Condition | None) -> tuple[Images, Features]:
        """Return the prediction and the features, at the precision of ``x``."""
        further = {} if self.conditioning is None else self.conditioning(condition, len(x))
        with observed() as outputs:
            (output,) = self.unet(x.to(self.unet.dtype), time, return_dict=False, **further)
        return output.to(x.dtype), averaged(outputs[-1].to(x.dtype))


class LatentDecoder(nn.Module):
    """The decoding half of an autoencoder; each latent by itself, so that an image does not depend on its batch.

    The U-Net's latents are ``(z - mean) / std * scaling`` of the autoencoder's own ``z``.

    Args:
        autoencoder: ``AutoencoderKL``, ``VQModel`` or ``AutoencoderDC``.
        latent_shape: channels, height, width of a latent.
        scaling: positive.
        mean: one number, or one per channel.
        std: the same, positive.

    Attributes:
        shape: channels, height, width of an image.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        autoencoder: Any,
        latent_shape: tuple[int, int, int],
        scaling: float,
        mean: Sequence[float] = (0.0,),
        std: Sequence[float] = (1.0,),
    ) -> None:
        super().__init__()
        config = autoencoder.config
        self.autoencoder, self.scaling = autoencoder, scaling
        for name, numbers in (("mean", mean), ("std", std)):
            by_channel = torch.tensor(numbers, dtype=torch.float64).reshape(-1, 1, 1)
            self.register_buffer(name, by_channel, persistent=False)
        levels = config.get("block_out_channels") or config.decoder_block_out_channels
        channels, doublings = config.get("out_channels", config.in_channels), 2 ** (len(levels) - 1)
        _, height, width = latent_shape
        self.shape: tuple[int, int, int] = (channels, height * doublings, width * doublings)

    def forward(self, latents: Latents) -> Images:
        """Return images, in [-1, 1] but for what the autoencoder overshoots."""
        mean, std = self.mean.to(latents.dtype), self.std.to(latents.dtype)
        own = (latents * std / self.scaling + mean).to(self.autoencoder.dtype)
        images = [self.autoencoder.decode(one, return_dict=False)[0] for one in torch.split(own, 1)]
        return torch.cat(images).to(latents.dtype)
