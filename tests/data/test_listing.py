"""What lies in a folder or a zip: every file is an image, or is counted by its kind, or is refused."""

import os
import tempfile
from pathlib import Path
from zipfile import ZipFile

import pytest
from PIL import Image

from amed_lightning.config import InputError
from amed_lightning.data.folder import image_files
from amed_lightning.data.listing import listing
from amed_lightning.data.picture import write_image

from .files import pictures, write_folder, write_zip

LEFT_OUT = "1 .db (Thumbs.db), 1 .npz (more/stats.npz), 2 .txt (a.txt), 1 .zip (old.zip), 4 hidden"


@pytest.fixture
def folder(tmp_path):
    """Two images, and much that is none."""
    folder = tmp_path / "images"
    for name in ("a.png", "more/b.PNG", ".ipynb_checkpoints/a.png", "._a.png", "__MACOSX/more/b.png", ".git/HEAD"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_image(folder / name, pictures(1)[0])
    for name in ("a.txt", "more/b.txt", "Thumbs.db", "more/stats.npz"):
        (folder / name).write_bytes(b"P5 is no picture")
    with ZipFile(folder / "old.zip", "w") as archive:
        archive.write(folder / "a.png", "a.png")
    return folder


def test_what_is_no_image_is_counted_by_its_kind_with_an_example(folder):
    found = listing(folder)
    assert found.names == ["a.png", "more/b.PNG"]
    assert found.left_out() == f"{LEFT_OUT} (._a.png)"
    assert list(image_files(folder).notes) == [f"{folder}: left out: {LEFT_OUT} (._a.png)"]


def test_a_zip_is_listed_as_its_folder_is(folder, tmp_path):
    found = listing(write_zip(tmp_path / "images.zip", folder))
    assert found.names == ["a.png", "more/b.PNG"]
    assert found.left_out() == f"{LEFT_OUT} (._a.png)"


def test_nothing_is_said_of_the_labels_but_where_they_are_not_read(tmp_path):
    write_folder(tmp_path, pictures(2))
    assert list(image_files(tmp_path).notes) == []
    (tmp_path / "dataset.json").rename(tmp_path / "00000" / "dataset.json")
    assert "left out: 1 .json (00000/dataset.json)" in image_files(tmp_path).notes[0]


def test_links_to_images_are_read_and_other_links_are_counted(tmp_path):
    write_image(tmp_path / "real.png", pictures(1)[0])
    folder = tmp_path / "images"
    (folder / "inside").mkdir(parents=True)
    (folder / "a.png").symlink_to(tmp_path / "real.png")
    (folder / "b.png").symlink_to(tmp_path / "gone.png")
    (folder / "c").symlink_to(folder / "inside")
    (folder / "loop").symlink_to(folder)
    os.mkfifo(folder / "pipe.png")
    found = listing(folder)
    assert found.names == ["a.png"]
    assert found.left_out() == "2 link to a folder (c), 1 link to nothing (b.png), 1 special file (pipe.png)"
    (tmp_path / "link").symlink_to(folder)
    assert listing(tmp_path / "link").names == ["a.png"]


def test_a_folder_that_cannot_be_looked_into_is_refused():
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o755)
        write_image(Path(place) / "a.png", pictures(1)[0])
        (Path(place) / "closed").mkdir()
        (Path(place) / "closed").chmod(0)
        user = os.geteuid()
        try:
            if user == 0:
                os.seteuid(65534)
            with pytest.raises(InputError, match="closed: Permission denied, so what is there cannot be counted"):
                listing(Path(place))
        finally:
            os.seteuid(user)
            (Path(place) / "closed").chmod(0o755)


@pytest.mark.parametrize("name", ["a", "a.png.bak", "a.png~", "a.dat"])
def test_an_image_by_another_name_is_refused(tmp_path, name):
    write_image(tmp_path / "b.png", pictures(1)[0])
    (tmp_path / "b.png").rename(tmp_path / name)
    write_image(tmp_path / "b.png", pictures(1)[0])
    with pytest.raises(InputError, match=f"{name}: an image whose name does not end like one; rename it, or move it"):
        listing(tmp_path)


def test_names_that_differ_in_case_alone_are_refused(tmp_path):
    for name in ("a.png", "A.PNG", "b.png"):
        write_image(tmp_path / name, pictures(1)[0])
    with pytest.raises(InputError, match=r"A.PNG and a.png are one name where case does not count; rename one"):
        listing(tmp_path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_that_a_zip_has_twice_is_refused(tmp_path):
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    with ZipFile(tmp_path / "a.zip", "w") as archive:
        for _ in range(2):
            archive.write(tmp_path / "a.png", "a.png")
    with pytest.raises(InputError, match=r"a.png and a.png are one name"):
        listing(tmp_path / "a.zip")


def test_a_damaged_image_is_an_image_by_its_name(tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(InputError, match=r"a.png: not a readable image"):
        image_files(tmp_path)
