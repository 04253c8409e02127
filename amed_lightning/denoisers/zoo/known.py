"""State dicts that a shipped card knows by size and SHA-256: what they do not tell is what the card says."""

from dataclasses import fields
from pathlib import Path
from typing import Any

from amed_lightning.config import file_digest, load_yaml
from amed_lightning.denoisers.untold import NOTHING_SAID, Untold
from amed_lightning.denoisers.zoo import card


def known(path: Path) -> Untold:
    """Return what a shipped card says of a file, if one has the file's SHA-256; else nothing."""
    for content in map(load_yaml, sorted(card.ZOO.glob("*.yaml"))):
        if content["model"].get("path") == "{network}" and _is(content["files"]["network"], path):
            return Untold(**{field.name: content["model"].get(field.name) for field in fields(Untold)})
    return NOTHING_SAID


def _is(file: dict[str, Any], path: Path) -> bool:
    """Compare sizes first, where one is published: a digest of gigabytes takes seconds."""
    if not file.get("sha256") or not path.is_file() or file.get("size") not in (None, path.stat().st_size):
        return False
    return file_digest(path) == file["sha256"]
