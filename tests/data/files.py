"""Small images as files."""

import gzip
import json
import struct
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile

import torch
from torch import Tensor

from amed_lightning.config import file_digest
from amed_lightning.data import fashion_mnist
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


def write_idx(path: Path, content: Tensor) -> Path:
    """Write bytes in the format of MNIST's files, packed if the name ends in ``.gz``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    header = struct.pack(f">HBB{content.ndim}I", 0, 8, content.ndim, *content.shape)
    whole = header + content.numpy().tobytes()
    path.write_bytes(gzip.compress(whole) if path.suffix == ".gz" else whole)
    return path


def write_fashion_mnist(folder: Path, count: int = 6, ending: str = "") -> dict[str, fashion_mnist.Part]:
    """Write files like Fashion-MNIST's of random images, and return what describes them.

    Args:
        folder: of the files.
        count: images to train on; half as many to test.
        ending: of the files' names, ``.gz`` or nothing.
    """
    parts = {}
    for seed, (split, prefix, number) in enumerate([("train", "train", count), ("test", "t10k", count // 2)]):
        images, labels = pictures(number, 1, 28, seed)[:, 0], (torch.arange(number) * 7 % 10).to(torch.uint8)
        for content, kind in ((images, "images-idx3"), (labels, "labels-idx1")):
            write_idx(folder / f"{prefix}-{kind}-ubyte{ending}", content)
        plain = [write_idx(folder / "plain" / str(name), each) for name, each in enumerate((images, labels))]
        parts[split] = fashion_mnist.Part(prefix, number, *map(file_digest, plain))
    return parts
