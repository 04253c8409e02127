"""A card: the YAML that says what a published model is, where its files are, and how it is built from them.

A card names no code of its own: ``model`` is what a configuration could say, with ``{<file>}`` in place of a local
path. Cards are in ``assets/zoo``, one per dataset; a card of one's own is named by its path.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amed_lightning.config import InputError, Spec, load_dataclass
from amed_lightning.runtime.cache import cache_folder, fetch
from amed_lightning.runtime.download import RemoteFile

ZOO = Path(__file__).parents[2] / "assets" / "zoo"


@dataclass(frozen=True)
class CardFile(RemoteFile):
    """A published file.

    Attributes:
        remark: what a user of it should know.
    """

    remark: str = ""


@dataclass(frozen=True)
class Licence:
    """On which terms the weights are given.

    Attributes:
        name: of the licence.
        address: of its text.
        notice: what it asks for, in a sentence.
    """

    name: str
    address: str
    notice: str


@dataclass(frozen=True)
class Facts:
    """What a model is, whatever its weights.

    Attributes:
        shape: channels, height, width of one sample.
        sigma_min: smallest level.
        sigma_max: largest level.
        feature_size: length of the bottleneck features.
        num_classes: number of class labels.
        cost: network runs per evaluation.
        betas: first and last of a discrete-time model's scaled-linear betas.
    """

    shape: tuple[int, int, int]
    sigma_min: float
    sigma_max: float
    feature_size: int
    num_classes: int = 0
    cost: int = 1
    betas: tuple[float, float] | None = None


@dataclass(frozen=True)
class Teacher:
    """The quality that was published for the model at many evaluations.

    Attributes:
        fid: of 50,000 samples.
        nfe: network runs per sample.
        source: where it was published, and with which sampler.
    """

    fid: float
    nfe: int
    source: str


@dataclass(frozen=True)
class Card:
    """A published model.

    Attributes:
        name: that of the card's file.
        title: what it draws.
        source: paper and repository.
        licence: of the weights.
        architecture: of the network.
        bottleneck: which activation the predictor reads.
        model: name and options of the denoiser; ``{<file>}`` stands for a file's local path.
        facts: what any user of the model must know.
        files: what is published, by what it is for; ``reference`` has the real images' moments.
        parameters: number of the network's weights, where it is known.
        teacher: the published quality, where there is one.
    """

    name: str
    title: str
    source: str
    licence: Licence
    architecture: str
    bottleneck: str
    model: Spec
    facts: Facts
    files: dict[str, CardFile]
    parameters: int | None = None
    teacher: Teacher | None = None

    @property
    def folder(self) -> Path:
        """Where its files are kept."""
        return cache_folder() / "models" / self.name

    def local_model(self, overrides: Spec | None = None) -> Spec:
        """Return name and options of the denoiser, after fetching the files that they name.

        Args:
            overrides: options to change.
        """
        options = self.model | (overrides or {})
        named = {key for text in _texts(options) for key in re.findall(r"\{(\w+)\}", text)}
        paths = {key: str(fetch(self.files[key], self.folder)) for key in sorted(named)}
        filled = _fill_in(options, paths)
        assert isinstance(filled, dict)
        return filled


def card_names() -> list[str]:
    """Return the names of the cards that the package ships."""
    return sorted(path.stem for path in ZOO.glob("*.yaml"))


def load_card(name: str) -> Card:
    """Read a card.

    Args:
        name: of a shipped card, or the path of a ``.yaml``.

    Raises:
        InputError: there is no such card, or it says something that no card says.
    """
    path = Path(name) if name.endswith(".yaml") else ZOO / f"{name}.yaml"
    if not path.is_file():
        raise InputError(f"no card '{name}': use one of {', '.join(card_names())}, or the path of a .yaml of your own")
    card = load_dataclass(path, Card)
    if mistake := next(_mistakes(card, path), None):
        raise InputError(f"{path}: {mistake}")
    return card


def _mistakes(card: Card, path: Path) -> Iterator[str]:
    if card.name != path.stem:
        yield f"name is '{card.name}'; it must be that of the file, '{path.stem}'"
    for key, file in card.files.items():
        if Path(file.name).name != file.name:
            yield f"files.{key}.name is {file.name!r}; it must be a plain name"
        for address in file.addresses:
            if not address.startswith(("https://", "http://")):
                yield f"files.{key}.addresses: {address!r} is no http address"
        if file.sha256 is not None and not re.fullmatch("[0-9a-f]{64}", file.sha256):
            yield f"files.{key}.sha256 is {file.sha256!r}; it must be 64 hexadecimal digits"
    for text in _texts(card.model):
        for key in re.findall(r"\{(\w+)\}", text):
            if key not in card.files:
                yield f"model names the file {{{key}}}, and there is none among {', '.join(card.files)}"


def _texts(value: Any) -> Iterator[str]:
    """Find every text in nested mappings."""
    if isinstance(value, dict):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, str):
        yield value


def _fill_in(value: Any, paths: dict[str, str]) -> Any:
    """Put local paths in place of ``{<file>}``."""
    if isinstance(value, dict):
        return {key: _fill_in(inner, paths) for key, inner in value.items()}
    return value.format(**paths) if isinstance(value, str) else value
