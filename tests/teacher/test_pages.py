"""What LMDB would follow out of a file is refused before it does."""

import mmap
import os
import random

import pytest

from amed_lightning.teacher import environment
from amed_lightning.teacher.pages import require_sound

PAGE, SMALL, LARGE, FEW, MANY = mmap.PAGESIZE, 600, 9000, 4, 2000
LAST_PAGE, TRANSACTION, ROOT, FLAGS = 136, 144, 128, 92
"""Where a meta page keeps them."""


def written(folder, size, count=8):
    environment.write(folder, range(count), [bytes([index % 256]) * size for index in range(count)], size)
    return folder / "data.mdb"


@pytest.mark.parametrize(("size", "count"), [(SMALL, 1), (SMALL, 8), (LARGE, 8), (SMALL, MANY), (1, 1)])
def test_what_was_written_here_is_sound(tmp_path, size, count):
    require_sound(written(tmp_path, size, count))


def changed(path, at, value, width):
    """Change a number of the later meta page, or of a page that it leads to."""
    content = bytearray(path.read_bytes())
    content[at : at + width] = value.to_bytes(width, "little")
    path.write_bytes(content)


def number(path, at, width=8):
    return int.from_bytes(path.read_bytes()[at : at + width], "little")


def later(path):
    return max(range(2), key=lambda page: number(path, page * PAGE + TRANSACTION)) * PAGE


@pytest.mark.parametrize("size", [SMALL, LARGE])
@pytest.mark.parametrize(("place", "width"), [(LAST_PAGE, 8), (ROOT, 8), (FLAGS, 2), (16, 4), (40, 4), (10, 2)])
def test_a_meta_page_that_leads_elsewhere_is_refused(tmp_path, size, place, width):
    path = written(tmp_path, size)
    changed(path, later(path) + place, 1000, width)
    with pytest.raises(ValueError, match="page"):
        require_sound(path)


@pytest.mark.parametrize("size", [SMALL, LARGE])
@pytest.mark.parametrize(("place", "value"), [(0, 9), (10, 3), (12, 9), (14, 0), (16, 4), (16, 4095)])
def test_a_page_that_leads_elsewhere_is_refused(tmp_path, size, place, value):
    path = written(tmp_path, size, FEW)
    changed(path, number(path, later(path) + ROOT) * PAGE + place, value, 2)
    with pytest.raises(ValueError, match=r"page|beyond the file"):
        require_sound(path)


@pytest.mark.parametrize(
    ("size", "place", "value"), [(SMALL, 0, 5000), (LARGE, 2, 500), (SMALL, 4, 2), (LARGE, 16, 99)]
)
def test_a_record_that_leads_elsewhere_is_refused(tmp_path, size, place, value):
    path = written(tmp_path, size, FEW)
    leaf = number(path, later(path) + ROOT) * PAGE
    changed(path, leaf + number(path, leaf + 16, 2) + place, value, 2)
    with pytest.raises(ValueError, match=r"beyond|is not that of a record"):
        require_sound(path)


def test_a_branch_that_leads_to_itself_is_refused(tmp_path):
    path = written(tmp_path, SMALL, MANY)
    root = number(path, later(path) + ROOT)
    changed(path, root * PAGE + number(path, root * PAGE + 16, 2), root, 4)
    with pytest.raises(ValueError, match="is there twice"):
        require_sound(path)


@pytest.mark.parametrize("size", [0, PAGE, 2 * PAGE + 1])
def test_a_file_that_is_cut_off_is_refused(tmp_path, size):
    path = written(tmp_path, SMALL)
    os.truncate(path, size)
    with pytest.raises(ValueError, match="no LMDB file"):
        require_sound(path)


def test_noise_is_refused(tmp_path):
    path = written(tmp_path, LARGE)
    path.write_bytes(random.Random(0).randbytes(path.stat().st_size))
    with pytest.raises(ValueError, match="meta page 0 is damaged"):
        require_sound(path)
