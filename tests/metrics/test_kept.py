"""References that a folder keeps: real images pass the detector once, and never stand for other images."""

import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from amed_lightning.config import InputError
from amed_lightning.data.folder import image_files
from amed_lightning.data.images import ImageSet
from amed_lightning.metrics.files import digits_classifier
from amed_lightning.metrics.kept import KeptReferences
from amed_lightning.metrics.statistics import Statistics, statistics_of

from ..bench.suites import Alone
from ..data.files import edm_name, pictures, write_folder
from ..teacher.stores import Team

COUNT = 20


def folder_of(folder: Path, seed: int) -> ImageSet:
    """Write other images for each seed, and read them."""
    return image_files(write_folder(folder, pictures(COUNT, channels=1, seed=seed)))


class Looks:
    """The images in a folder, and how often the digits' detector has looked at them."""

    def __init__(self, folder: Path) -> None:
        self.images, self.count = folder_of(folder / "images", 0), 0
        self.detector, self.weights = digits_classifier()

    def look(self) -> Statistics:
        self.count += 1
        return statistics_of(self.detector, self.weights, self.images, keep_features=True, batch_size=8)

    def kept(self, folder: Path, processes: object = None, version: int = 1) -> Statistics:
        """Ask as a job that starts now."""
        return KeptReferences(folder / "kept", processes or Alone(), version)("images", self.images, self.look)


@pytest.fixture
def looks(tmp_path):
    return Looks(tmp_path)


def same(one: Statistics, other: Statistics) -> bool:
    """Whether two are equal to the last bit."""
    numbers = [(each.moments.mean, each.moments.covariance, each.features) for each in (one, other)]
    facts = [(each.moments.count, each.dataset, each.detector, each.shape, [*each.notes]) for each in (one, other)]
    return facts[0] == facts[1] and all(map(torch.equal, *numbers))


@pytest.mark.parametrize("processes", [1, 3])
def test_a_job_s_processes_look_once_and_all_have_the_bits_of_who_looked(tmp_path, looks, processes):
    found = []
    Team(processes).run(lambda member: found.append(looks.kept(tmp_path, member)))
    assert looks.count == 1
    assert len(found) == processes
    expected = looks.look()
    assert all(same(each, expected) for each in found)


def test_the_next_job_reads_the_pixels_alone(tmp_path, looks):
    first, read = looks.kept(tmp_path), []
    real = looks.images.read
    looks.images = replace(looks.images, read=lambda number: (read.append(number), real(number))[1])
    assert same(looks.kept(tmp_path), first)
    assert looks.count == 1
    assert {*read} == {*range(COUNT)}


def test_one_job_reads_them_once_however_often_it_asks(tmp_path, looks):
    job = KeptReferences(tmp_path, Alone(), 1)
    first = job("images", looks.images, looks.look)
    looks.images = replace(looks.images, read=lambda number: pytest.fail(f"image {number} is read again"))
    assert same(job("images", looks.images, looks.look), first)


def test_other_pixels_are_looked_at_and_those_of_before_are_known_when_they_return(tmp_path, looks):
    before = looks.kept(tmp_path)
    looks.images = folder_of(tmp_path / "other", 1)
    after = looks.kept(tmp_path)
    assert looks.count == 2
    assert same(after, looks.look())
    assert not same(after, before)
    looks.images = image_files(tmp_path / "images")
    assert same(looks.kept(tmp_path), before)
    assert looks.count == 3, "the two above, and the test's own"


@pytest.mark.parametrize("change", ["version", "name"])
def test_what_was_kept_for_something_else_does_not_count(tmp_path, looks, change):
    looks.kept(tmp_path)
    if change == "version":
        looks.kept(tmp_path, version=2)
    else:
        KeptReferences(tmp_path / "kept", Alone(), 1)("features too", looks.images, looks.look)
    assert looks.count == 2


@pytest.mark.parametrize("ending", ["npz", "json"])
def test_a_damaged_file_is_made_again(tmp_path, looks, ending):
    first = looks.kept(tmp_path)
    (path,) = (tmp_path / "kept").glob(f"*.{ending}")
    path.write_bytes(path.read_bytes()[:-9])
    assert same(looks.kept(tmp_path), first)
    assert looks.count == 1 + (ending == "npz")


def test_a_file_that_is_another_set_s_is_made_again(tmp_path, looks):
    first = looks.kept(tmp_path)
    (path,) = (tmp_path / "kept").glob("*.npz")
    looks.images = folder_of(tmp_path / "other", 1)
    looks.kept(tmp_path)
    (second,) = {*(tmp_path / "kept").glob("*.npz")} - {path}
    second.replace(path)
    looks.images = image_files(tmp_path / "images")
    assert same(looks.kept(tmp_path), first)


def test_a_process_that_is_killed_at_work_leaves_nothing_half_and_the_next_goes_on(tmp_path, looks):
    if not (child := os.fork()):
        try:
            KeptReferences(tmp_path / "kept", Alone(), 1)(
                "images", looks.images, lambda: os.kill(os.getpid(), signal.SIGKILL)
            )
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    assert [path.suffix for path in (tmp_path / "kept").iterdir()] == [".claim"]
    assert same(looks.kept(tmp_path), looks.look())


def test_what_a_killed_process_has_finished_is_not_looked_at_again(tmp_path, looks):
    first = looks.kept(tmp_path)
    for path in (tmp_path / "kept").glob("*.json"):
        path.unlink()
    assert same(looks.kept(tmp_path), first)
    assert looks.count == 1


def test_an_image_that_cannot_be_read_is_every_process_error(tmp_path, looks):
    (tmp_path / "images" / edm_name(3)).write_bytes(b"no image")
    errors = []

    def work(member):
        with pytest.raises(InputError, match=edm_name(3)) as refusal:
            looks.kept(tmp_path, member)
        errors.append(str(refusal.value))

    Team(2).run(work)
    assert len(errors) == 2
    assert not list((tmp_path / "kept").iterdir())
