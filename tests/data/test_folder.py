"""Images in folders and zips: their order, their labels, and what is refused."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from amed_lightning.config import InputError
from amed_lightning.data.folder import image_files, write_image

from .files import edm_name, pictures, write_folder, write_zip

LABELS = [[edm_name(number), number % 3] for number in range(10)]


def everything(images, size=4):
    batches = list(images.batches(size))
    return torch.cat([batch for batch, _ in batches]), [label for _, labels in batches for label in labels]


@pytest.fixture
def folder(tmp_path):
    return write_folder(tmp_path / "images", pictures(), LABELS)


class TestReading:
    def test_a_folder_is_read_in_the_order_of_its_names_with_its_labels(self, folder):
        images = image_files(folder)
        assert (images.count, images.shape) == (10, (3, 8, 8))
        found, labels = everything(images)
        assert found.equal(pictures())
        assert labels == [number % 3 for number in range(10)]

    @pytest.mark.parametrize("compressed", [False, True])
    def test_a_zip_is_read_as_the_folder_is_and_stays_packed(self, folder, tmp_path, compressed):
        path = write_zip(tmp_path / "images.zip", folder, compressed)
        before = sorted(tmp_path.rglob("*"))
        found, labels = everything(image_files(path))
        assert found.equal(pictures())
        assert labels == [number % 3 for number in range(10)]
        assert sorted(tmp_path.rglob("*")) == before

    @pytest.mark.parametrize("keep", [True, False])
    def test_images_may_have_no_labels(self, tmp_path, keep):
        folder = write_folder(tmp_path, pictures(3, channels=1), None)
        if not keep:
            (folder / "dataset.json").unlink()
        found, labels = everything(image_files(folder))
        assert found.equal(pictures(3, channels=1))
        assert labels == [None] * 3

    def test_jpeg_files_are_images_too_and_other_files_are_not(self, tmp_path):
        (tmp_path / "readme.txt").write_text("no image")
        Image.fromarray(np.full((8, 8, 3), 77, np.uint8)).save(tmp_path / "a.JPG")
        found, _ = everything(image_files(tmp_path))
        assert found.shape == (1, 3, 8, 8)
        assert (found.int() - 77).abs().max() <= 2

    def test_an_image_is_read_when_it_is_asked_for(self, folder):
        images = image_files(folder)
        for number in range(4, 10):
            (folder / edm_name(number)).unlink()
        batches = images.batches(4)
        assert next(batches)[0].equal(pictures()[:4])
        with pytest.raises(InputError, match="not a readable image"):
            next(batches)


class TestRefusals:
    def test_a_missing_path_is_named(self, tmp_path):
        with pytest.raises(InputError, match=r"none.zip: no such folder or zip"):
            image_files(tmp_path / "none.zip")

    def test_a_file_that_is_no_zip_is_named(self, tmp_path):
        (tmp_path / "images.zip").write_bytes(b"PK but not for long")
        with pytest.raises(InputError, match=r"images.zip: neither a folder nor a readable zip"):
            image_files(tmp_path / "images.zip")

    def test_a_zip_that_was_cut_off_is_refused(self, folder, tmp_path):
        path = write_zip(tmp_path / "images.zip", folder)
        path.write_bytes(path.read_bytes()[:-100])
        with pytest.raises(InputError, match=r"images.zip: neither a folder nor a readable zip"):
            image_files(path)

    def test_a_damaged_image_in_a_zip_is_named(self, folder, tmp_path):
        path = write_zip(tmp_path / "images.zip", folder)
        content, wanted = path.read_bytes(), (folder / edm_name(7)).read_bytes()
        path.write_bytes(content.replace(wanted, wanted[:50] + bytes(len(wanted) - 50)))
        with pytest.raises(InputError, match=r"images.zip/00003/img00000007.png: not a readable image"):
            everything(image_files(path))

    def test_another_size_is_refused_by_name(self, folder):
        write_image(folder / edm_name(5), pictures(1, size=4)[0])
        with pytest.raises(InputError, match=r"img00000005.png: shape \(3, 4, 4\) where .*img00000000.png has \(3, 8"):
            everything(image_files(folder))

    @pytest.mark.parametrize("mode", ["RGBA", "I;16", "P"])
    def test_a_kind_of_image_that_would_be_changed_silently_is_refused(self, tmp_path, mode):
        Image.new(mode, (8, 8)).save(tmp_path / "a.png")
        with pytest.raises(InputError, match=f"a.png: an image of mode {mode}; use 8-bit grey or RGB"):
            everything(image_files(tmp_path))

    def test_a_place_without_images_is_refused(self, tmp_path):
        with pytest.raises(InputError, match="no PNG or JPEG files there"):
            image_files(tmp_path)

    @pytest.mark.parametrize(
        "content", ["{", "[]", "{}", '{"labels": [1, 2]}', '{"labels": [["a.png", [0.5]]]}', '{"labels": [["a", "b"]]}']
    )
    def test_labels_of_another_form_are_refused(self, folder, content):
        (folder / "dataset.json").write_text(content)
        with pytest.raises(InputError, match=r"dataset.json: "):
            image_files(folder)

    def test_labels_are_found_by_name(self, folder):
        (folder / "dataset.json").write_text(json.dumps({"labels": LABELS[5:]}))
        _, labels = everything(image_files(folder))
        assert labels == [None] * 5 + [number % 3 for number in range(5, 10)]
