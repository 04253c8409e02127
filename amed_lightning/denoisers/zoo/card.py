"""A card: the YAML that says what a published model is, where its files are, and how it is built from them.

A card names no code of its own: ``model`` is what a configuration could say, with local paths left open.
``{network}`` stands for the file of that name; ``{config}``, where there is no such file, for the folder of all files
whose names begin with ``config/``; ``{assets}`` for the folder of the cards, which is ``assets/zoo``. A card of one's
own is named by its path.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from amed_lightning.config import InputError, Spec, load_dataclass
from amed_lightning.runtime.cache import cache_folder
from amed_lightning.runtime.download import RemoteFile
from amed_lightning.runtime.wording import meant

ZOO = Path(__file__).parents[2] / "assets" / "zoo"
ASSETS = "assets"
PLACEHOLDER = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class CardFile(RemoteFile):
    """A published file.

    Attributes:
        member: the file inside it, if it is a zip archive.
        remark: what a user of it should know.
    """

    member: str | None = None
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
        image_shape: channels, height, width of a decoded sample, where samples are latents.
        shift: of a flow's times, 1 for none.
    """

    shape: tuple[int, int, int]
    sigma_min: float
    sigma_max: float
    feature_size: int
    num_classes: int = 0
    cost: int = 1
    betas: tuple[float, float] | None = None
    image_shape: tuple[int, int, int] | None = None
    shift: float = 1.0


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
        model: name and options of the denoiser.
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

    def inside(self, folder: str) -> list[str]:
        """Return the names of the files that lie in a folder."""
        return [name for name in self.files if name.startswith(f"{folder}/")]

    def require_known(self, keys: Iterable[str]) -> None:
        """Refuse placeholders that stand for nothing.

        Raises:
            InputError: there is one.
        """
        for key in keys:
            if key != ASSETS and key not in self.files and not self.inside(key):
                raise InputError(f"the model names {{{key}}}, and there are {', '.join([ASSETS, *self.files])}")


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
        words = f"use one of {', '.join(card_names())}, or the path of a .yaml of your own{meant(name, card_names())}"
        raise InputError(f"no card '{name}': {words}")
    card = load_dataclass(path, Card)
    try:
        if card.name != path.stem:
            raise InputError(f"name is '{card.name}'; it must be that of the file, '{path.stem}'")
        for key, file in card.files.items():
            _check(key, file)
        card.require_known(placeholders(card.model))
        if card.name in (".", ".."):
            raise InputError(f"name is '{card.name}'")
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    return card


def _check(key: str, file: CardFile) -> None:
    """Find what the types of a file's entries do not tell."""
    for name in (file.name, file.member or file.name):
        place = PurePosixPath(name)
        if place.is_absolute() or not place.name or {"..", "\0"} & {*place.parts, *name}:
            raise InputError(f"files.{key}: {name!r} leads out of its folder")
    if "/" in file.name and file.name != key:
        raise InputError(f"files.{key}.name is {file.name!r}; a file in a folder is called like its entry")
    for address in file.addresses:
        if not address.startswith(("https://", "http://")):
            raise InputError(f"files.{key}.addresses: {address!r} is no http address")
    if file.sha256 is not None and not re.fullmatch("[0-9a-f]{64}", file.sha256):
        raise InputError(f"files.{key}.sha256 is {file.sha256!r}; it must be 64 hexadecimal digits")


def named(value: Any) -> Iterator[Any]:
    """Find every ``name`` in nested mappings; the outermost has one, or there would be no model."""
    if isinstance(value, dict):
        yield from [value["name"]] if "name" in value else []
        value = list(value.values())
    if isinstance(value, list):
        for inner in value:
            yield from named(inner)


def placeholders(value: Any) -> Iterator[str]:
    """Find every ``{<key>}`` in the texts of nested mappings."""
    if isinstance(value, dict):
        for inner in value.values():
            yield from placeholders(inner)
    elif isinstance(value, str):
        yield from PLACEHOLDER.findall(value)
