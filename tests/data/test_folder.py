"""Images in folders and zips: their order, their labels, and what is refused."""

import json

import pytest
import torch
from PIL import Image

from amed_lightning.config import InputError
from amed_lightning.data.folder import image_files
from amed_lightning.data.picture import Record, write_image

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

    def test_every_format_counts_with_endings_in_any_case(self, tmp_path):
        endings = ["png", "BMP", "tif", "Tiff", "ppm", "PNM", "webp", "jpeg", "JPG", "jfif"]
        for number, (ending, image) in enumerate(zip(endings, pictures(), strict=True)):
            lossless = {"lossless": True} if ending == "webp" else {}
            Image.fromarray(image.permute(1, 2, 0).numpy()).save(tmp_path / f"{number}.{ending}", **lossless)
        images = image_files(tmp_path)
        assert everything(images)[0][:7].equal(pictures()[:7])
        assert images.count == 10
        (note,) = images.notes
        assert note == (
            f"{tmp_path}: 4 of 10 images are JPEG or WEBP: what that loses moves FID against images kept without loss"
        )

    def test_an_image_is_read_when_it_is_asked_for(self, folder):
        images = image_files(folder)
        for number in range(4, 10):
            (folder / edm_name(number)).unlink()
        batches = images.batches(4)
        assert next(batches)[0].equal(pictures()[:4])
        with pytest.raises(InputError, match=r"img00000004.png: not a readable file \(.*No such file"):
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
        with pytest.raises(InputError, match=r"images.zip/00003/img00000007.png: not a readable (file|image)"):
            everything(image_files(path))

    def test_another_size_is_refused_by_name(self, folder):
        write_image(folder / edm_name(5), pictures(1, size=4)[0])
        with pytest.raises(InputError, match=r"img00000005.png: shape \(3, 4, 4\) where .*img00000000.png has \(3, 8"):
            everything(image_files(folder))

    def test_grey_among_rgb_is_refused_by_name(self, folder):
        write_image(folder / edm_name(5), pictures(1, channels=1)[0])
        with pytest.raises(
            InputError, match=r"img00000005.png: shape \(1, 8, 8\) where .*; make channels and size of all"
        ):
            everything(image_files(folder))

    def test_a_place_without_images_is_refused(self, tmp_path):
        with pytest.raises(InputError, match=r"no images there$"):
            image_files(tmp_path)
        (tmp_path / "images").mkdir()
        write_folder(tmp_path / "elsewhere", pictures(2))
        (tmp_path / "images" / "a").symlink_to(tmp_path / "elsewhere")
        with pytest.raises(InputError, match=r"images: no images there; left out: 1 link to a folder \(a\)"):
            image_files(tmp_path / "images")

    @pytest.mark.parametrize(
        "content", ["{", "[]", "{}", '{"labels": [1, 2]}', '{"labels": [["a.png", [0.5]]]}', '{"labels": [["a", "b"]]}']
    )
    def test_labels_of_another_form_are_refused(self, folder, content):
        (folder / "dataset.json").write_text(content)
        with pytest.raises(InputError, match=r"dataset.json: "):
            image_files(folder)

    @pytest.mark.parametrize(
        ("labels", "message"),
        [
            (LABELS[5:], r"dataset.json: 5 images have no label, like 00000/img00000000.png"),
            ([*LABELS, ["z.png", 1]], r"dataset.json: 1 labels are of files that are not among the images, like z.png"),
            ([*LABELS, LABELS[0]], r"dataset.json: labels a file twice"),
        ],
    )
    def test_labels_of_other_images_are_refused(self, folder, labels, message):
        (folder / "dataset.json").write_text(json.dumps({"labels": labels}))
        with pytest.raises(InputError, match=message):
            image_files(folder)

    def test_labels_are_found_by_name_and_not_by_their_order(self, folder):
        (folder / "dataset.json").write_text(json.dumps({"labels": LABELS[::-1]}))
        assert everything(image_files(folder))[1] == [number % 3 for number in range(10)]


class TestMakers:
    """Images that a sampler made are told from another's, wherever they are copied."""

    @staticmethod
    def record(seeds=(0, 10), **changes):
        return Record("sample", {"model": "abc", "nfe": 5} | changes, list(seeds), {"commit": None})

    def write(self, folder, numbers, record):
        folder.mkdir(exist_ok=True)
        for number in numbers:
            write_image(folder / f"{number:06d}.png", pictures()[number], record)
        return folder

    def test_images_of_one_sampler_are_one_set(self, tmp_path):
        self.write(tmp_path, range(10), self.record())
        images = image_files(tmp_path)
        assert everything(images)[0].equal(pictures())
        assert list(images.notes) == []

    @pytest.mark.parametrize("other", [{"nfe": 3}, {"nfe": 3, "afs": True}, None])
    def test_those_of_two_are_refused(self, tmp_path, other):
        self.write(tmp_path, range(4), self.record())
        self.write(tmp_path, range(4, 10), None if other is None else self.record(**other))
        differing = "model, nfe" if other is None else ", ".join(sorted(other))
        with pytest.raises(
            InputError, match=rf"000004.png: not made by what made 000000.png \(another {differing}\); score the images"
        ):
            everything(image_files(write_zip(tmp_path / "both.zip", tmp_path)))

    def test_half_of_a_run_is_said_to_be_half(self, tmp_path):
        self.write(tmp_path, range(6), self.record())
        (note,) = image_files(tmp_path).notes
        assert note == f"{tmp_path}: 6 images, and the run that made 000000.png was over seeds 0 to 9"

    def test_two_runs_of_one_sampler_over_other_seeds_are_one_set_and_said(self, tmp_path):
        self.write(tmp_path, range(4), self.record(seeds=(0, 4)))
        self.write(tmp_path, range(4, 10), self.record(seeds=(4, 10)))
        images = image_files(tmp_path)
        assert everything(images)[0].equal(pictures())
        assert "10 images, and the run that made 000000.png was over seeds 0 to 3" in images.notes[0]
