"""A model of whatever file: a card of ours, a pickle of EDM's, a state dict of OpenAI's."""

from dataclasses import fields
from pathlib import Path
from typing import Any

from amed_lightning.config import InputError, file_digest, load_yaml
from amed_lightning.denoisers.edm import read_edm
from amed_lightning.denoisers.files import StoredModel, read_model
from amed_lightning.denoisers.openai import read_openai, told
from amed_lightning.denoisers.untold import NOTHING_SAID, Untold
from amed_lightning.denoisers.zoo import card


def read_published(path: Path, untold: Untold = NOTHING_SAID, otherwise: Untold = NOTHING_SAID) -> StoredModel:
    """Read a model, without running anything that its file holds.

    Args:
        path: a ``.json`` card, a ``.pkl`` of EDM's, or a ``.pt`` of guided-diffusion, improved-diffusion or the
            consistency models.
        untold: what a ``.pt`` does not tell. A file that does must agree, and so must a shipped card that knows it.
        otherwise: what it is taken to be where neither says anything.

    Raises:
        InputError: a missing, damaged or hostile file, another one, or an option that is missing or contradicts it.
    """
    match path.suffix:
        case ".json":
            stored = read_model(path)
        case ".pkl":
            stored = read_edm(path)
        case ".pt" | ".pth":
            shipped = known(path)
            if shipped.given:
                untold.require_agreement(path, shipped.given)
            return read_openai(path, untold.or_else(shipped).or_else(otherwise))
        case _:
            raise InputError(f"{path}: not a model's file; expected a .json card, a .pkl of EDM's or a .pt of OpenAI's")
    untold.require_agreement(path, told(stored.card))
    return stored


def known(path: Path) -> Untold:
    """Return what a shipped card says of a state dict that does not, if one has its size and SHA-256; else nothing."""
    for content in map(load_yaml, sorted(card.ZOO.glob("*.yaml"))):
        if content["model"].get("path") == "{network}" and _is(content["files"]["network"], path):
            return Untold(**{field.name: content["model"].get(field.name) for field in fields(Untold)})
    return NOTHING_SAID


def _is(file: dict[str, Any], path: Path) -> bool:
    """Compare sizes first, where one is published: a digest of gigabytes takes seconds."""
    if not file.get("sha256") or not path.is_file() or file.get("size") not in (None, path.stat().st_size):
        return False
    return file_digest(path) == file["sha256"]
