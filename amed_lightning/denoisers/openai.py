"""guided-diffusion's and the consistency models' files (Dhariwal and Nichol 2021; Song et al. 2023).

They are state dicts (``.pt``) without a description. What the shapes of the tensors tell is read off them; the
resolution and the channels of a head they do not tell. The networks are
:class:`~amed_lightning.denoisers.adm.ADM`, whose bottleneck is the middle here, and its classifier, under the names of
:mod:`~amed_lightning.denoisers.openai_names`.
"""

import math
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from amed_lightning.config import InputError
from amed_lightning.denoisers.files import StoredModel
from amed_lightning.denoisers.model_card import ModelCard
from amed_lightning.denoisers.openai_names import CLASSIFIER_ALONE, LABELS, State, translated
from amed_lightning.denoisers.topology import Topology

VP_LEVELS = (0.01048384327441454, 152.16697692871094)
"""ADM's levels at times 1/1000 and 1, with the rounding errors that the published tables were made with."""


def read_openai(path: Path, img_resolution: int = 256, head_channels: int = 64) -> StoredModel:
    """Read a ``.pt`` of guided-diffusion (a U-Net or a classifier) or of the consistency models (EDM's U-Net).

    Args:
        path: of the file.
        img_resolution: height and width of the images.
        head_channels: of each head of the attention.

    Raises:
        InputError: a missing or unreadable file, or another network's.
    """
    return openai_model(path, _state(path), img_resolution, head_channels)


def openai_model(source: Path, state: State, img_resolution: int, head_channels: int) -> StoredModel:
    """Find out what network tensors are of, and give them its names.

    Args:
        source: where they come from, for messages.
        state: the tensors under their names in the file.
        img_resolution: height and width of the images.
        head_channels: of each head of the attention.

    Raises:
        InputError: they are another network's.
    """
    try:
        card = _card(state, _options(state, img_resolution) | {"head_channels": head_channels})
        weights = translated(state, _topology(card.network), head_channels, is_cm=card.preconditioning == "cm")
    except (KeyError, ValueError, IndexError, ZeroDivisionError, RuntimeError) as error:
        reason = f"there is no {error}" if isinstance(error, KeyError) else str(error)
        raise InputError(
            f"{source}: not a U-Net or classifier of guided-diffusion or the consistency models for "
            f"{img_resolution} pixels and {head_channels} channels a head: {reason}"
        ) from error
    return StoredModel(source, card, weights)


def _state(path: Path) -> State:
    """Read the tensors, without running anything."""
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except Exception as error:  # a damaged file can make it raise anything
        raise InputError(f"{path}: not a file of tensors alone, or a damaged one; nothing was run") from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise InputError(f"{path}: expected a mapping of names to tensors")
    return {str(name): value.float() for name, value in state.items()}


def _card(state: State, options: dict[str, Any]) -> ModelCard:
    """Say what the network is; only the consistency models' attention has kernels of two dimensions."""
    if CLASSIFIER_ALONE in state:
        options |= {"num_classes": len(state["out.2.c_proj.weight"])}
        return _variance_preserving(options, "noisy_classifier")
    options |= {
        "label_dim": len(state[LABELS]) if LABELS in state else 0,
        "bottleneck_resolution": None,
        "further_outputs": len(state["out.2.weight"]) - options["img_channels"],
    }
    if state["middle_block.1.qkv.weight"].ndim == 4:
        return ModelCard(options, sigma_data=0.5, architecture="adm", preconditioning="cm")
    return _variance_preserving(options, "adm")


def _variance_preserving(options: dict[str, Any], architecture: str) -> ModelCard:
    return ModelCard(options, 1.0, *VP_LEVELS, architecture=architecture, preconditioning="vp")


def _topology(options: dict[str, Any]) -> Topology:
    names = ("img_resolution", "model_channels", "channel_mult", "num_blocks", "attn_resolutions")
    return Topology(**{name: options[name] for name in names}, stem_mult=options["channel_mult"][0])


def _options(state: State, img_resolution: int) -> dict[str, Any]:
    """Read the options that a U-Net and a classifier share off their tensors."""
    width, model_channels = state["time_embed.0.weight"].shape
    per_level = _blocks_per_level(state, img_resolution)
    firsts = range(1, _count(state, "input_blocks"), per_level)
    channels = [len(state[f"input_blocks.{first}.0.out_layers.0.weight"]) for first in firsts]
    attends = [f"input_blocks.{first}.1.qkv.weight" in state for first in firsts]
    return {
        "img_resolution": img_resolution,
        "img_channels": state["input_blocks.0.0.weight"].shape[1],
        "model_channels": model_channels,
        "channel_mult": [count // model_channels for count in channels],
        "num_blocks": per_level - 1,
        "attn_resolutions": [img_resolution >> level for level, there in enumerate(attends) if there],
        "dropout": 0.0,
        "channel_mult_emb": width // model_channels,
        "dialect": "openai",
        "scale_shift": len(state["input_blocks.1.0.emb_layers.1.weight"]) == 2 * channels[0],
    }


def _blocks_per_level(state: State, img_resolution: int) -> int:
    """Return the blocks of a level of the encoder, the one that leads down included.

    In a U-Net they end with the first output block that leads up; a classifier's head knows the lowest resolution.
    """
    blocks = _count(state, "input_blocks")
    if CLASSIFIER_ALONE in state:
        lowest = math.isqrt(state[CLASSIFIER_ALONE].shape[1] - 1)
        return blocks // (int(math.log2(img_resolution / lowest)) + 1)
    ups = (f"output_blocks.{index}.{part}.in_layers.0.weight" for index in range(blocks) for part in (1, 2))
    first_up = next((name for name in ups if name in state), f"output_blocks.{blocks - 1}")
    return int(first_up.split(".")[1]) + 1


def _count(state: State, blocks: str) -> int:
    return len({name.split(".")[1] for name in state if name.startswith(f"{blocks}.")})
