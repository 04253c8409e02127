"""A model on disk: its weights as safetensors, and beside them a JSON card that says what they are.

The card names the network's options, its preconditioning, its range of levels and the SHA-256 of the weights. Nothing
in either file is executed.
"""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import safetensors.torch

from amed_lightning.config import InputError, digest, file_digest, write_atomically
from amed_lightning.denoisers.ddpmpp import DDPMpp
from amed_lightning.denoisers.preconditioning import EDMPreconditioned
from amed_lightning.flow.model import DiffusionModel
from amed_lightning.noise.schedules import NoiseRange, scaled_linear_log_alphas


@dataclass(frozen=True)
class ModelCard:
    """What a file of weights holds.

    Attributes:
        network: options of :class:`~amed_lightning.denoisers.ddpmpp.DDPMpp`.
        sigma_data: standard deviation of the data it was trained on.
        sigma_min: smallest level.
        sigma_max: largest level.
        scaled_linear_betas: the schedule ``discrete`` uses Stable Diffusion's table for this model.
    """

    network: dict[str, Any]
    sigma_data: float
    sigma_min: float = 0.002
    sigma_max: float = 80.0
    scaled_linear_betas: bool = False

    def denoiser(self) -> EDMPreconditioned:
        """Build the denoiser, with fresh weights."""
        return EDMPreconditioned(DDPMpp(**self.network), self.sigma_data)


def save_model(path: Path, denoiser: EDMPreconditioned, card: ModelCard) -> None:
    """Write ``path`` (a ``.json`` card) and the weights beside it, the card last."""
    weights = safetensors.torch.save({name: tensor.contiguous() for name, tensor in denoiser.state_dict().items()})
    weights_path = path.with_suffix(".safetensors")
    write_atomically(weights_path, weights)
    content = asdict(card) | {"weights_sha256": file_digest(weights_path)}
    write_atomically(path, json.dumps(content, indent=2).encode() + b"\n")


def load_model(path: Path) -> DiffusionModel:
    """Read a card and its weights; the denoiser comes frozen.

    Args:
        path: the ``.json`` card; its weights have the same name and end in ``.safetensors``.

    Raises:
        InputError: a missing file, an unreadable card, or weights that are not the card's.
    """
    weights_path = path.with_suffix(".safetensors")
    for needed in (path, weights_path):
        if not needed.is_file():
            raise InputError(f"{needed}: no such file; a model is a .json card with its .safetensors beside it")
    try:
        content = json.loads(path.read_text())
        expected = content.pop("weights_sha256")
        card = ModelCard(**content)
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise InputError(f"{path}: not a model card: {error}") from error
    if file_digest(weights_path) != expected:
        raise InputError(f"{weights_path}: its SHA-256 is not the one in {path.name}; restore the file or the card")
    denoiser = card.denoiser()
    denoiser.load_state_dict(safetensors.torch.load_file(weights_path))
    return frozen_model(denoiser, card, expected)


def without_labels(model: DiffusionModel) -> DiffusionModel:
    """Describe a model that also learnt without labels as an unconditional one."""
    return replace(model, num_classes=0, digest=digest([model.digest, "without labels"]))


def frozen_model(denoiser: EDMPreconditioned, card: ModelCard, weights_sha256: str) -> DiffusionModel:
    """Freeze a denoiser and describe it."""
    denoiser.eval().requires_grad_(False)
    network = denoiser.model
    return DiffusionModel(
        denoiser=denoiser,
        digest=digest([card, weights_sha256]),
        shape=(card.network["img_channels"], card.network["img_resolution"], card.network["img_resolution"]),
        noise_range=NoiseRange(
            card.sigma_min, card.sigma_max, scaled_linear_log_alphas() if card.scaled_linear_betas else None
        ),
        feature_size=network.feature_size,
        num_classes=network.label_dim,
    )
