"""Fashion-MNIST: 70,000 grey 28x28 images of clothes, 60,000 of them to train on (Xiao, Rasul & Vollgraf 2017; MIT).

The four IDX files are read where Debian's package or torchvision has put them, or from any folder, packed or not. They
are known by the SHA-256 of what is unpacked: packers differ.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from jaxtyping import Int
from torch import Tensor

from amed_lightning.config import InputError
from amed_lightning.data.idx import PACKED, read_idx
from amed_lightning.data.images import ImageSet
from amed_lightning.tensors import Bytes

CLASSES = (
    *("T-shirt/top", "trouser", "pullover", "dress", "coat"),
    *("sandal", "shirt", "sneaker", "bag", "ankle boot"),
)
SIDE = 28
DEBIAN = Path("/usr/share/datasets/fashion-mnist")
"""Where the package ``dataset-fashion-mnist`` puts the files."""
FOLDERS = (".", "raw", "FashionMNIST/raw")
"""Below a root: where the files may lie, torchvision's way included."""
CURE = (
    "install Debian's package (apt install dataset-fashion-mnist), or let torchvision fetch them "
    "(torchvision.datasets.FashionMNIST(root, download=True)) and name its folder as root"
)
Split: TypeAlias = Literal["train", "test"]


@dataclass(frozen=True)
class Part:
    """A part of the set: images and labels are a file each.

    Attributes:
        prefix: of the files' names.
        count: number of images.
        images: SHA-256 of the unpacked file.
        labels: SHA-256 of the unpacked file.
    """

    prefix: str
    count: int
    images: str
    labels: str


PARTS = {
    "train": Part(
        "train",
        60_000,
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    ),
    "test": Part(
        "t10k",
        10_000,
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    ),
}


def fashion_mnist(split: Split = "train", root: Path | None = None) -> tuple[Bytes, Int[Tensor, "batch"]]:
    """Return a part of the set as bytes (0 for the ground, 255 for white) and labels (0 to 9), in the files' order.

    Args:
        split: which part.
        root: folder of the files, or torchvision's above it; None for that of Debian's package.

    Raises:
        InputError: a file is missing, damaged, or another set's.
    """
    part, folder = PARTS[split], DEBIAN if root is None else Path(root)
    images = _read(folder, f"{part.prefix}-images-idx3-ubyte", (part.count, SIDE, SIDE), part.images)
    labels = _read(folder, f"{part.prefix}-labels-idx1-ubyte", (part.count,), part.labels)
    return images[:, None], labels.long()


def fashion_mnist_set(split: Split = "train", root: Path | None = None) -> ImageSet:
    """Return a part of the set, to be read one image at a time; see :func:`fashion_mnist`."""
    images, labels = fashion_mnist(split, root)
    return ImageSet(
        len(images),
        lambda number: (images[number], int(labels[number])),
        lambda number: f"Fashion-MNIST, {split} image {number}",
    )


def _read(root: Path, name: str, shape: tuple[int, ...], sha256: str) -> Tensor:
    path = next((path for path in _places(root, name) if path.is_file()), None)
    if path is None:
        raise InputError(f"{root}: no {name} there, packed or not; {CURE}")
    content, found = read_idx(path, shape)
    if found != sha256:
        raise InputError(f"{path}: not Fashion-MNIST's, its SHA-256 is {found[:12]} and not {sha256[:12]}; {CURE}")
    return content


def _places(root: Path, name: str) -> Iterator[Path]:
    for folder in FOLDERS:
        yield from (root / folder / name, root / folder / f"{name}{PACKED}")
