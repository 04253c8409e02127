"""IDX files that are written here, whole and damaged."""

import gzip
import hashlib

import pytest

from amed_lightning.config import InputError
from amed_lightning.data.idx import read_idx

from .files import pictures, write_idx

IMAGES = pictures(5, 1, 28)[:, 0]
SHAPE = tuple(IMAGES.shape)


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_an_array_is_read_with_the_digest_of_what_is_unpacked(tmp_path, ending):
    plain = write_idx(tmp_path / "plain", IMAGES).read_bytes()
    found, sha256 = read_idx(write_idx(tmp_path / f"images{ending}", IMAGES), SHAPE)
    assert found.equal(IMAGES)
    assert sha256 == hashlib.sha256(plain).hexdigest()


@pytest.mark.parametrize("ending", ["", ".gz"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda whole: whole[:-1], r"3936 bytes are announced, and there are 3935"),
        (lambda whole: whole + b"\0", r"3936 bytes are announced, and there are more"),
        (lambda whole: b"\0\0\x0d" + whole[3:], "not an IDX file of bytes of shape"),
        (lambda whole: whole[:7] + b"\x06" + whole[8:], "not an IDX file of bytes of shape"),
        (lambda whole: b"", "not an IDX file of bytes of shape"),
    ],
    ids=["short", "long", "floats", "another count", "empty"],
)
def test_what_is_not_the_announced_array_is_refused(tmp_path, ending, change, message):
    whole = change(write_idx(tmp_path / "plain", IMAGES).read_bytes())
    path = tmp_path / f"images{ending}"
    path.write_bytes(gzip.compress(whole) if ending else whole)
    with pytest.raises(InputError, match=rf"images{ending}: .*{message}"):
        read_idx(path, SHAPE)


@pytest.mark.parametrize(
    "change",
    [lambda packed: packed[:-20], lambda packed: packed[:40] + b"\xff" * 20 + packed[60:], lambda packed: b"no gzip"],
    ids=["cut", "damaged", "another kind"],
)
def test_a_packed_file_that_cannot_be_unpacked_is_refused(tmp_path, change):
    path = write_idx(tmp_path / "images.gz", IMAGES)
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(InputError, match=r"images\.gz: cannot be read, it is damaged or cut off \(.+\); get it anew"):
        read_idx(path, SHAPE)


def test_no_more_is_unpacked_than_the_array_may_have(tmp_path):
    path = tmp_path / "images.gz"
    whole = write_idx(tmp_path / "plain", IMAGES).read_bytes()
    path.write_bytes(gzip.compress(whole + bytes(1000))[:-8] + bytes(8))  # a checksum that is not looked at
    with pytest.raises(InputError, match="there are more"):
        read_idx(path, SHAPE)
