"""Torchvision's datasets, on files of the real format that are written here."""

import pytest
import torch

from amed_lightning.config import InputError
from amed_lightning.data.torchvision_sets import torchvision_set

from .files import pictures, write_folder, write_idx


@pytest.fixture
def mnist(tmp_path):
    images, labels = pictures(6, channels=1, size=28), torch.tensor([3, 1, 4, 1, 5, 9], dtype=torch.uint8)
    for split, kept in (("train", slice(0, 6)), ("t10k", slice(0, 2))):
        write_idx(tmp_path / "MNIST" / "raw" / f"{split}-images-idx3-ubyte", images[kept, 0])
        write_idx(tmp_path / "MNIST" / "raw" / f"{split}-labels-idx1-ubyte", labels[kept])
    return tmp_path


def test_images_and_labels_come_in_the_datasets_order(mnist):
    found = torchvision_set("MNIST", mnist, {"train": True})
    ((batch, labels),) = found.batches(10)
    assert batch.equal(pictures(6, channels=1, size=28))
    assert list(labels) == [3, 1, 4, 1, 5, 9]
    assert found.shape == (1, 28, 28)


def test_options_reach_the_dataset(mnist):
    assert torchvision_set("MNIST", mnist, {"train": False}).count == 2


def test_colour_images_come_in_colour(tmp_path):
    write_folder(tmp_path / "eurosat" / "2750", pictures(4))
    ((batch, labels),) = torchvision_set("EuroSAT", tmp_path).batches(4)
    assert batch.equal(pictures(4))
    assert list(labels) == [0, 0, 1, 1]


def test_a_dataset_that_is_not_there_is_refused_and_not_downloaded(tmp_path):
    with pytest.raises(InputError, match=r"CIFAR10 in .*: Dataset not found"):
        torchvision_set("CIFAR10", tmp_path, {"train": False})
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("options", [{"train": True, "trian": True}, {"train": True, "root": "elsewhere"}])
def test_an_option_that_it_does_not_take_is_refused(mnist, options):
    with pytest.raises(InputError, match="MNIST in"):
        torchvision_set("MNIST", mnist, options)


@pytest.mark.parametrize(
    ("dataset", "choice"),
    [
        ("MNIST", "train; torchvision's choice is {train: True}"),
        ("SVHN", "split; torchvision's choice is {split: train}"),
        ("Omniglot", "background; torchvision's choice is {background: True}"),
        ("VOCDetection", "year; torchvision's choice is {year: 2012}"),
    ],
)
def test_the_part_of_a_dataset_has_to_be_said(mnist, dataset, choice):
    with pytest.raises(InputError, match=f"{dataset}: options must say {choice}"):
        torchvision_set(dataset, mnist, {"trian": False})


@pytest.mark.parametrize("dataset", ["ImageFolder", "DatasetFolder"])
def test_a_folder_is_read_where_nothing_is_left_out(tmp_path, dataset):
    with pytest.raises(InputError, match=f"{dataset}: read a folder of your own as {{name: images, path: "):
        torchvision_set(dataset, tmp_path)


def test_an_unknown_name_is_refused(tmp_path):
    with pytest.raises(InputError, match="torchvision has no dataset 'CIFAR11'"):
        torchvision_set("CIFAR11", tmp_path)


@pytest.mark.parametrize("dataset", ["LSUN", "LSUNClass"])
def test_one_whose_pickle_anybody_may_have_written_is_refused(tmp_path, dataset):
    with pytest.raises(InputError, match=rf"{dataset}: torchvision runs a pickle .*name: images, path: {tmp_path}"):
        torchvision_set(dataset, tmp_path, {"classes": "test"})


def test_nothing_is_downloaded_where_the_network_is_forbidden(tmp_path, monkeypatch):
    monkeypatch.setenv("AMED_OFFLINE", "1")
    with pytest.raises(InputError, match="MNIST: options say download, and AMED_OFFLINE forbids the network"):
        torchvision_set("MNIST", tmp_path, {"train": True, "download": True})
