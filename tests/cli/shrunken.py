"""The cards, shrunken: tiny random networks in the published file formats, placed where a fetch would place them."""

import shutil
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import diffusers
import pytest
import safetensors.torch
import torch
import yaml

from amed_lightning.denoisers.zoo import card as card_module
from amed_lightning.denoisers.zoo import local as local_module
from amed_lightning.denoisers.zoo.card import ZOO, card_names
from amed_lightning.noise.shift import dynamic_shift

from ..denoisers import originals, pipelines, transformers
from ..denoisers.published import (
    EDM_CONDITIONAL,
    EDM_UNCONDITIONAL,
    TINY,
    TINY_CLASSIFIER,
    TINY_CONSISTENCY,
    TINY_OPTIONS,
    write_edm,
    write_openai,
)

CLASSES = 10
TRAINING_PROMPTS = ["a house", "two trees", "the sea"]
"""Nobody publishes a list."""


def shrink(zoo: Path, cache: Path, names: Iterable[str] | None = None) -> None:
    """Write cards to a folder of cards, all that are shipped unless some are named, and their files to a cache."""
    for name in names or card_names():
        content = yaml.safe_load((ZOO / f"{name}.yaml").read_text())
        for file in content["files"].values():
            file |= {"sha256": None, "size": None}
        folder = cache / "models" / name
        folder.mkdir(parents=True)
        files = {key: folder / file["name"] for key, file in content["files"].items()}
        _write(content, files, zoo, folder)
        (zoo / f"{name}.yaml").write_text(yaml.safe_dump(content))


def stand_in(monkeypatch: pytest.MonkeyPatch, zoo: Path, cache: Path, folder: Path) -> None:
    """Let these cards and this cache stand in for the program's and the user's, in a folder to work in, offline."""
    for module in (card_module, local_module):
        monkeypatch.setattr(module, "ZOO", zoo)
    monkeypatch.setenv("AMED_CACHE", str(cache))
    monkeypatch.setenv("AMED_OFFLINE", "1")
    monkeypatch.chdir(folder)


def _write(content: dict[str, Any], files: dict[str, Path], zoo: Path, folder: Path) -> None:
    """Write a tiny network in the format of the card's family, and what the card says of it."""
    facts = content["facts"]
    facts |= {"shape": [3, 16, 16], "num_classes": CLASSES if facts.get("num_classes") else 0}
    match content["model"]["name"]:
        case "edm":
            write_edm(files["network"], EDM_CONDITIONAL if facts["num_classes"] else EDM_UNCONDITIONAL)
        case "consistency":
            write_openai(files["network"], TINY_CONSISTENCY)
            content["model"] |= TINY_OPTIONS
        case "guided_diffusion":
            write_openai(files["network"], TINY)
            write_openai(files["classifier"], TINY_CLASSIFIER)
            content["model"] |= TINY_OPTIONS
        case "latent_diffusion":
            facts |= {"shape": [3, 8, 8], "image_shape": [3, 16, 16], "feature_size": 16}
            first, last = facts["betas"]
            pipeline = pipelines.latent_diffusion(folder / "pipeline", beta_start=first, beta_end=last)
            _write_latent_diffusion(pipeline, files["network"], content["files"]["network"]["member"])
            shutil.copytree(pipeline, zoo / content["name"], ignore=shutil.ignore_patterns("*.safetensors"))
        case "stable_diffusion":
            facts |= {"shape": [4, 8, 8], "image_shape": [3, 16, 16], "feature_size": 16}
            content["model"]["prompts"]["training"] = TRAINING_PROMPTS
            _write_stable_diffusion(pipelines.stable_diffusion(folder / "pipeline"), files)
        case "transformer":
            make, options, own_facts = TRANSFORMERS[content["name"]]
            facts |= {"shape": [4, 8, 8], "image_shape": [3, 16, 16], "feature_size": 16} | own_facts
            content["model"] |= options | {"path": str(make(folder / "pipeline"))}
            content["model"]["prompts"]["training"] = TRAINING_PROMPTS
            files["prompts"].write_text("text\na dog\na cat\n")


def _sana(folder: Path) -> Path:
    """Write SANA in half precision as a variant, with the scheduler of the published folder."""
    parts = diffusers.SanaPipeline.from_pretrained(
        transformers.sana(folder / "whole"), local_files_only=True, dtype=torch.bfloat16
    )
    parts.scheduler = diffusers.DPMSolverMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
    )
    parts.save_pretrained(folder / "halved", variant="bf16")
    return folder / "halved"


SMALL_SHIFT = dynamic_shift(16)
TRANSFORMERS: dict[str, tuple[Callable[[Path], Path], dict[str, Any], dict[str, Any]]] = {
    "sd35_medium": (transformers.sd3, {}, {}),
    "flux_dev": (
        transformers.flux,
        {"resolution": 16},
        {"shift": SMALL_SHIFT, "sigma_min": SMALL_SHIFT / 999, "sigma_max": SMALL_SHIFT * 999},
    ),
    "sana": (_sana, {}, {"feature_size": 64}),
}
"""By card: what writes a tiny folder, and what the card has to say of it."""


def _write_latent_diffusion(folder: Path, path: Path, member: str) -> None:
    """Write a zip archive with a checkpoint in it, as CompVis gives it."""
    parts = diffusers.LDMPipeline.from_pretrained(folder, local_files_only=True)
    weights = originals.unconditional_unet(parts.unet)
    weights |= originals.averaged(weights) | originals.autoencoder(parts.vqvae)
    with zipfile.ZipFile(path, "w") as archive, archive.open(member, "w") as file:
        torch.save({"state_dict": weights}, file)


def _write_stable_diffusion(folder: Path, files: dict[str, Path]) -> None:
    """Write one file of weights, the parts' configurations, and captions."""
    parts = diffusers.StableDiffusionPipeline.from_pretrained(folder, local_files_only=True)
    weights = originals.unet(parts.unet) | originals.autoencoder(parts.vae)
    weights |= originals.clip(parts.text_encoder, "cond_stage_model.transformer.")
    safetensors.torch.save_file({name: tensor.contiguous() for name, tensor in weights.items()}, files["network"])
    files["prompts"].write_text("text\na dog\na cat\n")
    for key, path in files.items():
        if key.startswith("config/"):
            path.parent.mkdir(parents=True, exist_ok=True)
            written = folder / key.removeprefix("config/")
            path.write_text(written.read_text() if written.is_file() else "{}")
