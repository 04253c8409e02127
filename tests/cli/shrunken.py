"""The cards, shrunken: tiny random networks in the published file formats, placed where a fetch would place them."""

import shutil
import zipfile
from pathlib import Path
from typing import Any

import diffusers
import safetensors.torch
import torch
import yaml

from amed_lightning.denoisers.zoo.card import ZOO, card_names

from ..denoisers import originals, pipelines
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


def shrink(zoo: Path, cache: Path) -> None:
    """Write every card to a folder of cards, and its files to a cache."""
    for name in card_names():
        content = yaml.safe_load((ZOO / f"{name}.yaml").read_text())
        for file in content["files"].values():
            file |= {"sha256": None, "size": None}
        folder = cache / "models" / name
        folder.mkdir(parents=True)
        files = {key: folder / file["name"] for key, file in content["files"].items()}
        _write(content, files, zoo, folder)
        (zoo / f"{name}.yaml").write_text(yaml.safe_dump(content))


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
            content["model"]["prompts"]["training"] = ["a house", "two trees", "the sea"]  # nobody publishes a list
            _write_stable_diffusion(pipelines.stable_diffusion(folder / "pipeline"), files)


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
