"""Small images as files."""

import json
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile

import torch
from torch import Tensor

from amed_lightning.data.picture import write_image


def pictures(count: int = 10, channels: int = 3, size: int = 8, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (count, channels, size, size), generator=generator, dtype=torch.uint8)


def edm_name(number: int) -> str:
    """The name that EDM's tool gives the image of a number, with two images per folder so that there are several."""
    return f"{number // 2:05d}/img{number:08d}.png"


def write_folder(folder: Path, images: Tensor, labels: Any = None) -> Path:
    for number, image in enumerate(images):
        path = folder / edm_name(number)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_image(path, image)
    (folder / "dataset.json").write_text(json.dumps({"labels": labels}))
    return folder


def write_zip(path: Path, folder: Path, compressed: bool = False) -> Path:
    with ZipFile(path, "w", ZIP_DEFLATED if compressed else ZIP_STORED) as archive:
        for file in sorted(folder.rglob("*"), reverse=True):  # the order in the archive is not that of the names
            if file.is_file():
                archive.write(file, file.relative_to(folder))
    return path
