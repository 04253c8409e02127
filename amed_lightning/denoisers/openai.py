"""The files of guided-diffusion, improved-diffusion and the consistency models.

They are state dicts (``.pt``) without a description (Dhariwal and Nichol 2021; Nichol and Dhariwal 2021; Song et al.
2023). What the shapes of the tensors tell is read off them; what they do not tell is
:class:`~amed_lightning.denoisers.untold.Untold`. The networks are :class:`~amed_lightning.denoisers.adm.ADM`, whose
bottleneck is the middle here, and its classifier, under the names of :mod:`~amed_lightning.denoisers.openai_names`.
"""

import math
from pathlib import Path
from typing import Any

from torch import Tensor

from amed_lightning.config import InputError
from amed_lightning.denoisers.files import StoredModel
from amed_lightning.denoisers.model_card import ModelCard
from amed_lightning.denoisers.openai_names import CLASSIFIER_ALONE, LABELS, State, translated
from amed_lightning.denoisers.preconditioning import VPDiscrete
from amed_lightning.denoisers.topology import Topology
from amed_lightning.denoisers.untold import TRAINING, Shape, Untold
from amed_lightning.noise.betas import RESCALED_STEPS
from amed_lightning.runtime.foreign import read_torch

_VP_LEVELS = (0.01048384327441454, 152.16697692871094)
"""ADM's levels at times 1/1000 and 1, with the rounding errors that the published tables were made with."""
LINEAR: dict[str, Any] = {"noise_schedule": "linear", "diffusion_steps": 1000}
"""The training that is described in continuous time, as AMED's tool does."""
_UP_SAMPLED = (2, 6)
"""Channels that an up-sampler sees: those of the noisy image and of the small one, grey or coloured."""
_CONSISTENCY_FUNCTIONS = ("cd_", "ct_")
"""How the files of consistency functions are called; their tensors are shaped like those of EDM's denoisers."""


def read_openai(path: Path, untold: Untold) -> StoredModel:
    """Read a ``.pt``: a U-Net or a classifier of guided-diffusion's, or EDM's U-Net of the consistency models.

    Args:
        path: of the file.
        untold: what the file does not tell.

    Raises:
        InputError: a missing or unreadable file, another network's, or an option that nobody has said.
    """
    return openai_model(path, _state(path), untold)


def openai_model(source: Path, state: State, untold: Untold) -> StoredModel:
    """Find out what network tensors are of, and give them its names.

    Args:
        source: where they come from, for messages.
        state: the tensors under their names in the file.
        untold: what they do not tell.

    Raises:
        InputError: they are another network's, or there is an option that nobody has said.
    """
    try:
        family = _family(source, state)
        untold.require_always_asked(source, family)
        network = _network(state, untold.img_resolution or 0)
        untold = untold.settled(source, _shape(family, network))
        weights = translated(state, _topology(network), untold.heads, untold.attention_order == "new")
        card = _card(source, family, network | untold.split, untold)
    except InputError:
        raise
    except (KeyError, ValueError, IndexError, ZeroDivisionError, RuntimeError) as error:
        reason = f"there is no {error}" if isinstance(error, KeyError) else str(error)
        options = " and ".join(f"{name} {value}" for name, value in untold.given.items())
        raise InputError(
            f"{source}: not a U-Net or classifier of guided-diffusion, improved-diffusion or the consistency models "
            f"{f'with {options}' if options else ''}: {reason}"
        ) from error
    return StoredModel(source, card, weights)


def told(card: ModelCard) -> dict[str, Any]:
    """Return what a card tells that a state dict does not."""
    return card.network | (LINEAR if card.preconditioning == "vp" else card.preconditioning_options)


def _state(path: Path) -> State:
    """Read the tensors, without running anything."""
    try:
        state = read_torch(path)
    except InputError:
        raise
    except Exception as error:  # a damaged file can make it raise anything
        raise InputError(f"{path}: not a file of tensors alone, or a damaged one; nothing was run") from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise InputError(f"{path}: expected a mapping of names to tensors")
    return {str(name): value.float() for name, value in state.items()}


def _family(source: Path, state: State) -> str:
    """Tell whose network it is; only the consistency models' attention has kernels of two dimensions.

    Raises:
        InputError: no denoiser of images, though its tensors look like one's.
    """
    _, stem, attention = (
        state[f"{name}.weight"] for name in ("time_embed.0", "input_blocks.0.0", "middle_block.1.qkv")
    )
    if CLASSIFIER_ALONE not in state:
        sees, says = stem.shape[1], len(state["out.2.weight"])
        if sees in _UP_SAMPLED and says in (sees // 2, sees):
            raise InputError(
                f"{source}: an up-sampler, which sees a small image too; it is no model of images by itself"
            )
        if says not in (sees, 2 * sees):
            raise ValueError(f"{says} outputs for images of {sees} channels")
    if attention.ndim == 3:
        return "guided_diffusion"
    if source.name.startswith(_CONSISTENCY_FUNCTIONS):
        raise InputError(f"{source}: by its name a consistency function, which is no denoiser; use an edm_*.pt")
    return "consistency"


def _card(source: Path, family: str, network: dict[str, Any], untold: Untold) -> ModelCard:
    """Say what the network is.

    Raises:
        InputError: a training that its family does not have.
    """
    if family == "consistency":
        if wrong := untold.given.keys() & TRAINING:
            raise InputError(f"{source}: a network of the consistency models has no {min(wrong)}; leave it out")
        return ModelCard(network, sigma_data=0.5, architecture="adm", preconditioning="cm")
    architecture = "noisy_classifier" if "num_classes" in network else "adm"
    training = {name: getattr(untold, name) for name in LINEAR}
    if training == LINEAR:
        return ModelCard(network, 1.0, *_VP_LEVELS, architecture=architecture, preconditioning="vp")
    rescaled = untold.diffusion_steps != RESCALED_STEPS and bool(untold.rescale_timesteps)
    options = training | {"rescale_timesteps": rescaled}
    levels = VPDiscrete(**options).levels
    return ModelCard(
        network,
        1.0,
        *levels,
        architecture=architecture,
        preconditioning="vp_discrete",
        preconditioning_options=options,
    )


def _topology(network: dict[str, Any]) -> Topology:
    names = ("img_resolution", "model_channels", "channel_mult", "num_blocks", "attn_resolutions")
    return Topology(**{name: network[name] for name in names}, stem_mult=network["channel_mult"][0])


def _shape(family: str, network: dict[str, Any]) -> Shape:
    sizes = network["model_channels"], network["num_blocks"], tuple(network["channel_mult"])
    return Shape(*sizes, network.get("resblock_updown", True), family)


def _network(state: State, img_resolution: int) -> dict[str, Any]:
    """Read the options of a network off its tensors."""
    width, model_channels = state["time_embed.0.weight"].shape
    per_level = _blocks_per_level(state, img_resolution)
    firsts = range(1, _count(state, "input_blocks"), per_level)
    channels = [len(state[f"input_blocks.{first}.0.out_layers.0.weight"]) for first in firsts]
    attends = [f"input_blocks.{first}.1.qkv.weight" in state for first in firsts]
    network: dict[str, Any] = {
        "img_resolution": img_resolution,
        "img_channels": state["input_blocks.0.0.weight"].shape[1],
        "model_channels": model_channels,
        "channel_mult": [n / model_channels if n % model_channels else n // model_channels for n in channels],
        "num_blocks": per_level - 1,
        "attn_resolutions": [img_resolution >> level for level, there in enumerate(attends) if there],
        "dropout": 0.0,
        "channel_mult_emb": width // model_channels,
        "dialect": "openai",
        "scale_shift": len(state["input_blocks.1.0.emb_layers.1.weight"]) == 2 * channels[0],
    }
    if any(name.endswith(".0.op.weight") for name in state):
        network["resblock_updown"] = False
    if CLASSIFIER_ALONE in state:
        return network | {"num_classes": len(state["out.2.c_proj.weight"])}
    return network | {
        "label_dim": len(state[LABELS]) if LABELS in state else 0,
        "bottleneck_resolution": None,
        "further_outputs": len(state["out.2.weight"]) - network["img_channels"],
    }


def _blocks_per_level(state: State, img_resolution: int) -> int:
    """Return the blocks of a level of the encoder, the one that leads down included.

    In a U-Net they end with the first output block that leads up; a classifier's head knows the lowest resolution.
    """
    blocks = _count(state, "input_blocks")
    if CLASSIFIER_ALONE in state:
        lowest = math.isqrt(state[CLASSIFIER_ALONE].shape[1] - 1)
        return blocks // (int(math.log2(img_resolution / lowest)) + 1)
    ends = [f"{part}.{end}.weight" for part in (1, 2) for end in ("in_layers.0", "conv")]
    ups = (f"output_blocks.{index}.{end}" for index in range(blocks) for end in ends)
    first_up = next((name for name in ups if name in state), f"output_blocks.{blocks - 1}")
    return int(first_up.split(".")[1]) + 1


def _count(state: State, blocks: str) -> int:
    """Count blocks.

    Raises:
        ValueError: one is without tensors, as where means of pixels lead down.
    """
    numbers = {int(name.split(".")[1]) for name in state if name.startswith(f"{blocks}.")}
    if numbers != set(range(len(numbers))):
        raise ValueError(f"one of the {blocks} has no tensors, and networks that resample without any are not read")
    return len(numbers)
