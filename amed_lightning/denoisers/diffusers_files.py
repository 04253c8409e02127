"""Which files of weights a folder in diffusers' layout has, how the hub gives them, and why one cannot be read."""

import re
from collections import Counter
from collections.abc import Collection
from pathlib import Path

import safetensors
import torch
from huggingface_hub import snapshot_download

from amed_lightning.config import InputError
from amed_lightning.runtime.foreign import reason
from amed_lightning.runtime.network import FORBIDDEN, is_offline

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_CONFIGURATIONS = ["*.json", "*.txt", "*/*.json", "*/*.txt", "*/*.model"]
DIFFUSERS = ("diffusion_pytorch_model",)
TRANSFORMERS = ("model", "pytorch_model")
"""How files of weights are called by either library; the second name is older than safetensors."""
WEIGHTS = re.compile(
    r"(?P<name>\w+)(?:\.(?P<whole>[^.-]+))?\.(?:safetensors|bin)"
    r"|(?P<of>\w+)\.(?:safetensors|bin)\.index(?:\.(?P<sharded>[^.]+))?\.json"
)
"""A part's weights, or the index of their shards, with the name of their variant."""
_HALVES = {"BF16": torch.bfloat16, "F16": torch.float16}
"""How safetensors call the precisions below single."""
_SHARD = re.compile(r"(?P<name>\w+)(?:\.(?P<whole>[^.-]+))?-\d+-of-\d+\.safetensors")
"""One of the shards; transformers puts the variant before the number, as diffusers does."""


def variants(part: Path, names: Collection[str] = DIFFUSERS + TRANSFORMERS) -> set[str | None]:
    """Return the variants of a part's weights under some names; None is the variant without a name of its own."""
    found = [match for file in part.iterdir() if (match := WEIGHTS.fullmatch(file.name))]
    return {match["whole"] or match["sharded"] for match in found if (match["name"] or match["of"]) in names}


def stored_dtype(part: Path, variant: str | None) -> torch.dtype:
    """Return the precision of most tensors of a part's weights, of the first shard if there are several.

    Single precision where they are a pickle, or in none of the three that a network computes in.
    """
    for file in sorted(part.glob("*.safetensors")):
        match = WEIGHTS.fullmatch(file.name) or _SHARD.fullmatch(file.name)
        if match and match["whole"] == variant:
            with safetensors.safe_open(file, "pt") as weights:
                kinds = Counter(weights.get_slice(name).get_dtype() for name in list(weights.keys()))
            return _HALVES.get(kinds.most_common(1)[0][0], torch.float32)
    return torch.float32


def listed(there: set[str | None]) -> str:
    """Name variants in a sentence."""
    named = sorted(variant for variant in there if variant is not None)
    return " and ".join(
        [*(["plain weights"] if None in there else []), *(f"weights of variant '{name}'" for name in named)]
    )


def find_folder(name: str, weights: bool, variant: str | None = None) -> Path:
    """Find a folder in diffusers' layout.

    Args:
        name: its path, or an id on the hub (``owner/name``).
        weights: whether the hub is to give the weights too, of which only safetensors are fetched.
        variant: of these; of a part that lacks it the plain ones are fetched.

    Raises:
        InputError: there is no such folder, and the hub does not give it.
    """
    if Path(name).is_dir():
        return Path(name)
    if not _HUB_ID.fullmatch(name):
        raise InputError(f"{name}: no such folder or file")
    try:
        folder = _fetched(name, _CONFIGURATIONS, ignored=["safety_checker/*", "*.index*.json"])
        if weights and variant is not None:
            _fetched(name, _files("*", f".{variant}"), ignored=["safety_checker/*"])
        parts = [file.parent for file in folder.glob("*/config.json") if weights and not variants(file.parent)]
        if parts:
            _fetched(name, [pattern for part in parts for pattern in _files(part.name, "")])
    except (OSError, ValueError) as error:
        why = f"{FORBIDDEN} forbids the network" if is_offline() else reason(error)
        raise InputError(
            f"{name}: no such folder, and the hub did not give it ({why}); "
            f"download it where there is a network and name its folder"
        ) from error
    return folder


def _fetched(name: str, patterns: list[str], ignored: Collection[str] = ()) -> Path:
    """Return the folder of a model's files, which are only looked for where the user forbids the network."""
    return Path(
        snapshot_download(name, allow_patterns=patterns, ignore_patterns=list(ignored), local_files_only=is_offline())
    )


def _files(part: str, variant: str) -> list[str]:
    """Return the patterns of a part's safetensors, whole or in shards with their index."""
    endings = (f"{variant}.safetensors", f"{variant}-*-of-*.safetensors", f".safetensors.index{variant}.json")
    return [f"{part}/{name}{ending}" for name in (DIFFUSERS[0], TRANSFORMERS[0]) for ending in endings]
