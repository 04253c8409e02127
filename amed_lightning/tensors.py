"""Small tensor operations that several layers share, and the names of their shapes."""

from collections.abc import Mapping
from typing import TypeAlias

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

Images: TypeAlias = Float[Tensor, "batch channels height width"]
"""Images or latents. Pixels are in [-1, 1] when clean."""
Latents: TypeAlias = Float[Tensor, "batch latent_channels latent_height latent_width"]
"""What a sampler returns, before it is decoded."""
Bytes: TypeAlias = UInt8[Tensor, "batch channels height width"]
"""Images as they are scored and saved, 0 to 255."""
Level: TypeAlias = Float[Tensor, "..."]
"""A noise level: shape () for the whole batch or (batch, 1, 1, 1), one per sample."""


def per_sample(level: Level, batch: int) -> Float[Tensor, "batch"]:
    """Give each of ``batch`` samples its own entry of a level of shape () or (batch, 1, 1, 1)."""
    return level.reshape(-1).expand(batch)


def staged(tensor: Tensor, device: torch.device) -> Tensor:
    """Return a tensor where a device can fetch it by itself: for a GPU, in memory that the system leaves in place."""
    return tensor.pin_memory() if device.type == "cuda" and tensor.device.type == "cpu" else tensor


def sent(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor of the CPU to a device; a GPU fetches it while the host goes on."""
    return staged(tensor, device).to(device, non_blocking=device.type == "cuda")


def squared_distance(a: Images, b: Images) -> Float[Tensor, "batch"]:
    """Return each sample's squared Euclidean distance, summed over its pixels."""
    return (a - b).square().flatten(1).sum(1)


def is_finite(*tensors: Tensor) -> bool:
    """Whether no number is NaN or infinite. The device is asked once."""
    return bool(torch.stack([tensor.isfinite().all() for tensor in tensors]).all())


def not_finite(tensors: Mapping[str, Tensor]) -> str | None:
    """Return the name of the first tensor with a NaN or an infinity, if there is one; meta tensors have no numbers.

    >>> not_finite({"a": torch.ones(2), "b": torch.tensor([1.0, torch.nan])})
    'b'
    """
    return next((name for name, tensor in tensors.items() if not (tensor.is_meta or is_finite(tensor))), None)


def where_finite(argument: Tensor, value: Tensor) -> Tensor:
    """Return ``value``, and NaN where its argument is not finite.

    What clips or saturates would make a number of an infinity, and nobody would see that there was one.

    >>> overflown = torch.tensor([0.5, torch.inf])
    >>> where_finite(overflown, overflown.clamp(-1, 1))
    tensor([0.5000,    nan])
    """
    return value.where(argument.isfinite(), torch.nan)


def quantise(images: Images) -> Bytes:
    """Turn images in [-1, 1] into bytes as EDM does: scale, clip, then truncate.

    >>> quantise(torch.tensor([-1.0, 0.0, 0.999, 1.0]).reshape(1, 1, 1, 4)).flatten().tolist()
    [0, 128, 255, 255]
    """
    return (images * 127.5 + 128).clip(0, 255).to(torch.uint8)


def dequantise(images: Bytes) -> Images:
    """Turn bytes into float32 images in [-1, 1], as EDM does."""
    return images.to(torch.float32) / 127.5 - 1
