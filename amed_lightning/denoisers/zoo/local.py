"""From a card to what a configuration would say here: its files are fetched, and their paths filled in."""

from pathlib import Path
from typing import Any

from amed_lightning.config import Spec
from amed_lightning.denoisers.zoo.card import ASSETS, PLACEHOLDER, ZOO, Card, placeholders
from amed_lightning.runtime.cache import extracted, fetch


def local_model(card: Card, overrides: Spec | None = None) -> Spec:
    """Return name and options of a card's model, after fetching the files that they name.

    Args:
        card: of the model.
        overrides: options to change.

    Raises:
        InputError: a file that cannot be had, or a placeholder that stands for nothing.
    """
    options = card.model | (overrides or {})
    keys = sorted(set(placeholders(options)))
    card.require_known(keys)
    paths = {key: str(_path(card, key)) for key in keys}
    return {name: _fill_in(value, paths) for name, value in options.items()}


def _path(card: Card, key: str) -> Path:
    """Return the local path that a placeholder stands for, after fetching what lies there."""
    if key == ASSETS:
        return ZOO
    if key in card.files:
        file = card.files[key]
        path = fetch(file, card.folder)
        return extracted(path, file.member) if file.member else path
    for name in card.inside(key):
        fetch(card.files[name], card.folder)
    return card.folder / key


def _fill_in(value: Any, paths: dict[str, str]) -> Any:
    """Put local paths in place of every ``{<key>}``."""
    if isinstance(value, dict):
        return {key: _fill_in(inner, paths) for key, inner in value.items()}
    return PLACEHOLDER.sub(lambda found: paths[found[1]], value) if isinstance(value, str) else value
