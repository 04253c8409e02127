"""Small models: an exact one whose features matter, a random network on disk, and a denoiser that is watched."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from amed_lightning.config import Spec
from amed_lightning.denoisers.files import ModelCard, save_model
from amed_lightning.denoisers.gaussian import exact_model, gaussian
from amed_lightning.flow.model import Condition, Denoised, Denoiser, DiffusionModel
from amed_lightning.noise.schedules import NoiseRange, scaled_linear_log_alphas
from amed_lightning.tensors import Images, Level

from ..solvers import problems

SHAPE = (1, 4, 4)


def mixture() -> DiffusionModel:
    """Three components in single precision: posterior probabilities as features."""
    return exact_model(problems.mixture(torch.float32))


def latents() -> DiffusionModel:
    """Four channels in single precision, and nothing that makes images of them."""
    return exact_model(gaussian(torch.linspace(0.1, 2.0, 4 * 4 * 4).reshape(4, 4, 4)))


def within_table() -> DiffusionModel:
    """The same, between levels that lie within the table of alphas that it has: Stable Diffusion's."""
    return replace(mixture(), noise_range=NoiseRange(0.1, 10.0, scaled_linear_log_alphas()))


def random_network(folder: Path, label_dim: int = 0, seed: int = 0) -> Spec:
    """Save a network of random weights, 4x4 pixels, 16 features, and return the model's description."""
    network = {"img_resolution": 4, "img_channels": 1, "label_dim": label_dim, "model_channels": 8}
    network |= {"channel_mult": [1], "num_blocks": 1, "attn_resolutions": [], "bottleneck_resolution": 4}
    card = ModelCard(network, sigma_data=0.5, scaled_linear_betas=True)
    denoiser = card.denoiser()
    generator = torch.Generator().manual_seed(seed)
    for weights in denoiser.parameters():
        torch.nn.init.normal_(weights, std=0.3, generator=generator)
    path = folder / f"network-{label_dim}-{seed}.json"
    save_model(path, denoiser, card)
    return {"name": "file", "path": str(path)}


@dataclass
class Calls:
    """A denoiser that keeps the batch and the labels of every call."""

    denoiser: Denoiser
    cost: int = 1
    sizes: list[int] = field(default_factory=list)
    conditions: list[Condition | None] = field(default_factory=list)

    def __call__(self, x: Images, sigma: Level, condition: Condition | None) -> Denoised:
        self.sizes.append(len(x))
        self.conditions.append(condition)
        return self.denoiser(x, sigma, condition)


def watched(model: DiffusionModel) -> tuple[DiffusionModel, Calls]:
    """Return the model with its denoiser watched, and the watcher."""
    calls = Calls(model.denoiser)
    return replace(model, denoiser=calls), calls
