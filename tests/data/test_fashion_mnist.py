"""Fashion-MNIST's files, on small ones of the same format that are written here."""

import gzip

import pytest

from amed_lightning.config import InputError, build
from amed_lightning.data import fashion_mnist as module
from amed_lightning.data.fashion_mnist import CLASSES, fashion_mnist, fashion_mnist_set
from amed_lightning.data.registry import DATASETS

from .files import pictures, write_fashion_mnist


@pytest.fixture(params=["", ".gz"], ids=["plain", "packed"])
def root(request, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "PARTS", write_fashion_mnist(tmp_path, ending=request.param))
    return tmp_path


def test_images_and_labels_come_in_the_files_order(root):
    images, labels = fashion_mnist("train", root)
    assert images.equal(pictures(6, 1, 28))
    assert labels.tolist() == [0, 7, 4, 1, 8, 5]
    images, labels = fashion_mnist("test", root)
    assert images.equal(pictures(3, 1, 28, seed=1))
    assert labels.tolist() == [0, 7, 4]


def test_it_is_a_set_that_configurations_name(root):
    found = build("dataset", DATASETS, {"name": "fashion_mnist", "split": "test", "root": str(root)})
    assert (found.count, found.shape) == (3, (1, 28, 28))
    image, label = found.read(1)
    assert image.equal(pictures(3, 1, 28, seed=1)[1])
    assert label == 7
    assert "test image 1" in found.name(1)
    assert build("dataset", DATASETS, {"name": "fashion_mnist", "root": str(root)}).count == 6
    with pytest.raises(InputError, match=r"dataset .fashion_mnist.: .*expected one of train, test, got validation"):
        build("dataset", DATASETS, {"name": "fashion_mnist", "split": "validation"})


@pytest.mark.parametrize("folder", ["raw", "FashionMNIST/raw"])
def test_torchvisions_folders_are_looked_into(root, folder):
    (root / "FashionMNIST").mkdir()
    files = [path for path in root.iterdir() if path.is_file()]
    (root / folder).mkdir(parents=True)
    for path in files:
        path.rename(root / folder / path.name)
    assert fashion_mnist_set("train", root).count == 6


def test_without_a_root_it_is_debians_folder(root, monkeypatch):
    assert str(module.DEBIAN) == "/usr/share/datasets/fashion-mnist"
    monkeypatch.setattr(module, "DEBIAN", root)
    assert fashion_mnist_set().count == 6


def test_where_it_is_missing_a_line_says_how_to_get_it(tmp_path):
    with pytest.raises(InputError) as error:
        fashion_mnist("test", tmp_path)
    (line,) = str(error.value).splitlines()
    assert line.startswith(f"{tmp_path}: no t10k-images-idx3-ubyte there, packed or not; ")
    assert "apt install dataset-fashion-mnist" in line
    assert "FashionMNIST(root, download=True)" in line


@pytest.mark.parametrize("kind", ["images", "labels"])
def test_files_of_another_set_are_refused(root, kind):
    """MNIST's have the same names and shapes."""
    (path,) = root.glob(f"train-{kind}*")
    whole = bytearray(gzip.decompress(path.read_bytes()) if path.suffix else path.read_bytes())
    whole[-1] ^= 1
    path.write_bytes(gzip.compress(whole) if path.suffix else whole)
    with pytest.raises(InputError, match=rf"train-{kind}.*: not Fashion-MNIST's, its SHA-256 is \w{{12}} and not \w"):
        fashion_mnist("train", root)


def test_the_real_parts_have_the_published_numbers():
    counts = {split: part.count for split, part in module.PARTS.items()}
    assert counts == {"train": 60_000, "test": 10_000}
    assert len(CLASSES) == 10
