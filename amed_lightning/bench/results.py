"""The files of a bench: blocks' sums, the reference's images, cells' rows, and the errors of cells that failed."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor

from amed_lightning.bench.cell import Cell
from amed_lightning.config import InputError, write_atomically

Row = dict[str, Any]


@dataclass(frozen=True)
class Results:
    """A suite's folder. Every file is written whole or not at all.

    Attributes:
        folder: of the suite.
    """

    folder: Path

    def row(self, cell: Cell) -> Path:
        """Return where a finished cell's row is."""
        return self.folder / "rows" / f"{cell.key}.json"

    def error(self, cell: Cell) -> Path:
        """Return where a failed cell's error is."""
        return self.folder / "rows" / f"{cell.key}.error.json"

    def sums(self, cell: Cell, block: int) -> Path:
        """Return where a block's sums are."""
        return self.folder / "blocks" / f"{cell.key}-{block}.safetensors"

    def images(self, key: str, block: int) -> Path:
        """Return where the images of a reference's block are."""
        return self.folder / "blocks" / f"{key}-{block}-images.safetensors"

    def rows(self, cells: Iterable[Cell]) -> list[Row]:
        """Return the rows of those of ``cells`` that are finished.

        Raises:
            InputError: none is.
        """
        paths = [path for path in map(self.row, cells) if path.is_file()]
        if not paths:
            raise InputError(f"{self.folder}: no finished cells; run `amed-lightning bench --config <suite>.yaml`")
        return [json.loads(path.read_text()) for path in paths]


def write_json(path: Path, content: Row) -> None:
    """Write readable JSON."""
    write_atomically(path, json.dumps(content, indent=2).encode() + b"\n")


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write named tensors as safetensors."""
    write_atomically(path, safetensors.torch.save({name: tensor.clone() for name, tensor in tensors.items()}))


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read named tensors."""
    return safetensors.torch.load_file(path)
