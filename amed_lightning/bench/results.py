"""The files of a sweep: blocks' sums, the reference's images, cells' rows, and the errors of cells that failed."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

from amed_lightning.bench.cell import Cell
from amed_lightning.bench.share import Share
from amed_lightning.config import InputError, write_atomically
from amed_lightning.seeds import Seeds
from amed_lightning.tensors import Bytes

Row = dict[str, Any]


@dataclass(frozen=True)
class Results:
    """A suite's folder. Every file is written whole or not at all.

    Attributes:
        folder: of the suite.
        share: the part of an array that writes; a cell's errors are told apart by it.
        keeps_images: whether every image is wanted as a PNG file.
    """

    folder: Path
    share: Share = field(default_factory=Share)
    keeps_images: bool = False

    @property
    def plan(self) -> Path:
        """Where the suite's cells are listed, computed or not."""
        return self.folder / "plan.json"

    def row(self, key: str) -> Path:
        """Return where a finished cell's row is."""
        return self.folder / "rows" / f"{key}.json"

    def error(self, key: str) -> Path:
        """Return where this task's error of a failed cell is."""
        task = f"-{self.share.index}" if self.share.count > 1 else ""
        return self.folder / "rows" / f"{key}.error{task}.json"

    def errors(self, key: str) -> list[Path]:
        """Return all tasks' errors of a cell."""
        return sorted((self.folder / "rows").glob(f"{key}.error*.json"))

    def sums(self, key: str, block: int) -> Path:
        """Return where a block's sums are."""
        return self.folder / "blocks" / f"{key}-{block}.safetensors"

    def images(self, key: str, block: int) -> Path:
        """Return where the images of a reference's block are."""
        return self.folder / "blocks" / f"{key}-{block}-images.safetensors"

    def picture(self, key: str, seed: int) -> Path:
        """Return where an image is as a PNG file."""
        return self.folder / "images" / key / f"{seed:06d}.png"

    def samples(self, key: str) -> Bytes | None:
        """Return a cell's images of the first seeds, which its first block keeps, if it is there."""
        path = self.sums(key, 0)
        return read_tensors(path).get("samples") if path.is_file() else None

    def is_done(self, cell: Cell, block: int) -> bool:
        """Whether everything that a block leaves is there."""
        return (
            self.sums(cell.key, block).is_file()
            and (not cell.planned.is_reference or self.images(cell.key, block).is_file())
            and (not self.keeps_images or self._has_pictures(cell.key, cell.protocol.block(block)))
        )

    def _has_pictures(self, key: str, seeds: Seeds) -> bool:
        return all(self.picture(key, seed).is_file() for seed in range(seeds.start, seeds.stop))


def write_json(path: Path, content: Row) -> None:
    """Write readable JSON.

    Raises:
        ValueError: a number is not finite.
    """
    write_atomically(path, json.dumps(content, indent=2, allow_nan=False).encode() + b"\n")


def read_json(path: Path) -> Any:
    """Read JSON.

    Raises:
        InputError: the file is missing, is not JSON, or has a number that is not finite.
    """
    try:
        return json.loads(path.read_text(), parse_constant=_refuse)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not a file that a sweep wrote: {error}") from error


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number")


def write_tensors(path: Path, tensors: Mapping[str, Tensor], facts: Row | None = None) -> None:
    """Write named tensors, and facts about them, as safetensors."""
    content = {name: tensor.clone() for name, tensor in tensors.items()}
    write_atomically(path, safetensors.torch.save(content, {"facts": json.dumps(facts or {})}))


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read named tensors."""
    return safetensors.torch.load_file(path)


def read_facts(path: Path) -> Row:
    """Read the facts about a file's tensors."""
    with safetensors.safe_open(path, "pt") as file:
        return json.loads(file.metadata()["facts"])
