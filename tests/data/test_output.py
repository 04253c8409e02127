"""Where samples go: nothing of anybody else's is touched, no two samplers' images lie together, a run goes on."""

import pytest

from amed_lightning.config import InputError
from amed_lightning.data.output import Samples
from amed_lightning.data.picture import Record, record_in, write_image

from .files import pictures


def record(first=0, stop=4, source="code", **changes):
    return Record("sample", {"nfe": 5, "sigmas": (2.0, 1.0)} | changes, [first, stop], {"source": source})


def write(output, of, count=4):
    """Write what a run does, after it has removed what it replaces."""
    samples = Samples(output, of)
    seeds = range(*of.seeds)
    samples.write(seeds, pictures(count))
    if samples.is_grid:
        samples.join()
    samples.close()


@pytest.fixture(params=["images", "grid.png"])
def output(request, tmp_path):
    """Where an earlier sample has written."""
    write(tmp_path / request.param, record())
    return tmp_path / request.param


@pytest.fixture
def folder(tmp_path):
    write(tmp_path / "images", record())
    return tmp_path / "images"


def test_a_place_without_images_may_be_written_to(tmp_path):
    assert Samples(tmp_path / "none", record()).to_replace(overwrite=False) == []
    assert Samples(tmp_path / "none.png", record()).to_replace(overwrite=False) == []
    (tmp_path / "notes.txt").write_text("mine")
    assert Samples(tmp_path, record()).to_replace(overwrite=False) == []


OTHERS = [record(stop=5), record(nfe=6), record(source="newer code")]


@pytest.mark.parametrize("other", OTHERS)
def test_images_of_another_run_are_refused_unless_they_may_be_replaced(output, other):
    with pytest.raises(InputError, match=r"--output .*: holds \d images already, like .*.png; .*with --overwrite"):
        Samples(output, other).to_replace(overwrite=False)
    earlier = Samples(output, other).to_replace(overwrite=True)
    assert earlier == ([output] if output.is_file() else [output / f"{seed:06d}.png" for seed in range(4)])


@pytest.mark.parametrize("overwrite", [False, True])
def test_images_of_the_same_run_are_kept(output, overwrite):
    again = Samples(output, record())
    assert again.to_replace(overwrite) == []
    assert again.are_there(range(4))


def test_what_is_missing_of_a_run_is_seen(folder):
    (folder / "000002.png").unlink()
    assert Samples(folder, record()).are_there(range(2))
    assert not Samples(folder, record()).are_there(range(2, 4))


def test_a_grid_s_images_lie_in_a_folder_of_its_run_until_it_is_made(tmp_path):
    run, other = (Samples(tmp_path / "grid.png", each) for each in (record(), record(nfe=6)))
    run.write(range(2), pictures(2))
    assert run.are_there(range(2))
    assert not run.are_there(range(2, 4))
    assert not other.are_there(range(2))
    run.write(range(2, 4), pictures(2))
    run.join()
    run.close()
    assert [path.name for path in tmp_path.iterdir()] == ["grid.png"]


def test_what_is_replaced_leaves_the_new_images_and_what_is_no_image(folder):
    (folder / "notes.txt").write_text("mine")
    for image in Samples(folder, record(2, 4, nfe=9)).to_replace(overwrite=True):
        image.unlink()
    write(folder, record(2, 4, nfe=9), count=2)
    assert sorted(path.name for path in folder.iterdir()) == ["000002.png", "000003.png", "notes.txt"]
    assert {record_in(path).made_by["nfe"] for path in folder.glob("*.png")} == {9}


@pytest.mark.parametrize("name", ["mine.png", "000004.png", "more/000003.png", "3.png"])
@pytest.mark.parametrize("now", [record(), record(nfe=9)])
def test_an_image_that_no_sample_put_there_is_not_touched(folder, name, now):
    """A copy of the fourth image, which says that a sample wrote it, but under this name none did."""
    (folder / "more").mkdir()
    (folder / "000003.png").rename(folder / name)
    with pytest.raises(InputError, match=f"`sample` did not write .*{name}; move it away"):
        Samples(folder, now).to_replace(overwrite=True)
    assert (folder / name).is_file()


@pytest.mark.parametrize("other", [None, Record("bench", {"nfe": 5}, [0, 4], {})])
def test_an_image_that_something_else_wrote_is_not_touched(folder, other):
    write_image(folder / "000001.png", pictures(1)[0], other)
    with pytest.raises(InputError, match=r"`sample` did not write .*000001.png; move it away"):
        Samples(folder, record()).to_replace(overwrite=True)


def test_a_file_is_no_folder_and_a_folder_no_grid(tmp_path):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder.png").mkdir()
    for name, what in (("file", "file"), ("folder.png", "folder")):
        with pytest.raises(InputError, match=f"{name}: is a {what}; name another"):
            Samples(tmp_path / name, record())
