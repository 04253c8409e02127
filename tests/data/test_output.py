"""Where samples go: nothing of anybody else's is touched, and no two samplers' images lie together."""

import pytest

from amed_lightning.config import InputError
from amed_lightning.data.output import images_to_replace, write_samples
from amed_lightning.data.picture import Record, record_in, write_image

from .files import pictures


def record(first=0, stop=4, **changes):
    return Record("sample", {"nfe": 5} | changes, [first, stop], {})


@pytest.fixture(params=["images", "grid.png"])
def output(request, tmp_path):
    """Where an earlier sample has written."""
    write_samples(tmp_path / request.param, pictures(4), record(), [])
    return tmp_path / request.param


@pytest.fixture
def folder(tmp_path):
    write_samples(tmp_path / "images", pictures(4), record(), [])
    return tmp_path / "images"


def test_a_place_without_images_may_be_written_to(tmp_path):
    assert images_to_replace(tmp_path / "none", overwrite=False) == []
    assert images_to_replace(tmp_path / "none.png", overwrite=False) == []
    (tmp_path / "notes.txt").write_text("mine")
    assert images_to_replace(tmp_path, overwrite=False) == []


def test_images_of_before_are_refused_unless_they_may_be_replaced(output):
    with pytest.raises(InputError, match=r"--output .*: holds \d images already, like .*.png; .*with --overwrite"):
        images_to_replace(output, overwrite=False)
    earlier = images_to_replace(output, overwrite=True)
    assert earlier == ([output] if output.is_file() else [output / f"{seed:06d}.png" for seed in range(4)])


def test_what_is_replaced_leaves_the_new_images_and_what_is_no_image(folder):
    (folder / "notes.txt").write_text("mine")
    write_samples(folder, pictures(2), record(2, 4, nfe=9), images_to_replace(folder, overwrite=True))
    assert sorted(path.name for path in folder.iterdir()) == ["000002.png", "000003.png", "notes.txt"]
    assert {record_in(path).made_by["nfe"] for path in folder.glob("*.png")} == {9}


@pytest.mark.parametrize("name", ["mine.png", "000004.png", "more/000003.png", "3.png"])
def test_an_image_that_no_sample_put_there_is_not_touched(folder, name):
    """A copy of the fourth image, which says that a sample wrote it, but under this name none did."""
    (folder / "more").mkdir()
    (folder / "000003.png").rename(folder / name)
    with pytest.raises(InputError, match=f"`sample` did not write .*{name}; move it away"):
        images_to_replace(folder, overwrite=True)
    assert (folder / name).is_file()


@pytest.mark.parametrize("other", [None, Record("bench", {"nfe": 5}, [0, 4], {})])
def test_an_image_that_something_else_wrote_is_not_touched(folder, other):
    write_image(folder / "000001.png", pictures(1)[0], other)
    with pytest.raises(InputError, match=r"`sample` did not write .*000001.png; move it away"):
        images_to_replace(folder, overwrite=True)


def test_a_file_is_no_folder_and_a_folder_no_grid(tmp_path):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder.png").mkdir()
    for name, what in (("file", "file"), ("folder.png", "folder")):
        with pytest.raises(InputError, match=f"{name}: is a {what}; name another"):
            images_to_replace(tmp_path / name, overwrite=True)
