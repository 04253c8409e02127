"""The decoder of a folder: its autoencoder, and how the network's latents differ from the autoencoder's own."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from amed_lightning.config import InputError
from amed_lightning.denoisers.diffusers_network import LatentDecoder

if TYPE_CHECKING:
    from amed_lightning.denoisers.diffusers_folder import Folder


def read_decoder(source: "Folder", part: str, class_name: str, shape: tuple[int, int, int]) -> LatentDecoder:
    """Load the autoencoder of a network's latents.

    Args:
        source: the folder.
        part: of the autoencoder.
        class_name: ``AutoencoderKL``, ``VQModel`` or ``AutoencoderDC``.
        shape: channels, height, width of a latent.

    Raises:
        InputError: it is of other latents, or says no scaling, mean and deviation of them.
    """
    autoencoder, path = source.module(part, class_name), source.path / part / "config.json"
    config = autoencoder.config
    if config.latent_channels != shape[0]:
        raise InputError(
            f"{path}: latent_channels is {config.latent_channels}, and the network's latents have {shape[0]}"
        )
    otherwise = 1.0 if class_name == "VQModel" else config.scaling_factor  # LDM scales no quantised latents
    scaling = source.scaling(part, otherwise)
    _require_numbers(path, "scaling_factor", [scaling], 1, positive=True)
    return LatentDecoder(autoencoder, shape, scaling, *_mean_and_std(path, config, shape[0]))


def _mean_and_std(path: Path, config: Mapping[str, Any], channels: int) -> tuple[list[float], list[float]]:
    """Return the mean and standard deviation of an autoencoder's own latents, which the U-Net's lack.

    They are ``latents_mean`` and ``latents_std``, as SDXL's pipeline takes them, or ``shift_factor`` and 1, as Stable
    Diffusion 3's does.
    """
    mean, std, shift = (config.get(key) for key in ("latents_mean", "latents_std", "shift_factor"))
    if mean is None and std is None:
        _require_numbers(path, "shift_factor", [shift or 0.0], 1)
        return [shift or 0.0], [1.0]
    if mean is None or std is None or shift:
        raise InputError(f"{path}: latents_mean and latents_std go together, and without shift_factor; write these two")
    _require_numbers(path, "latents_mean", mean, channels)
    _require_numbers(path, "latents_std", std, channels, positive=True)
    return mean, std


def _require_numbers(path: Path, key: str, values: Any, count: int, positive: bool = False) -> None:
    are_numbers = isinstance(values, Sequence) and all(isinstance(value, int | float) for value in values)
    if (
        not are_numbers
        or len(values) != count
        or not all(map(math.isfinite, values))
        or (positive and min(values) <= 0)
    ):
        what = "positive and finite" if positive else "finite"
        raise InputError(f"{path}: {key} is {values}; it must be {what}, {count} in number")
