"""The right file of weights or none: pinned, named, recorded, fetched."""

import hashlib

import pytest

from amed_lightning.config import InputError
from amed_lightning.metrics.weights import checked_digest, downloaded

CONTENT = b"weights" * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "weights.pth"
    path.write_bytes(CONTENT)
    return path


class TestChecking:
    @pytest.mark.parametrize("pin", [SHA256, SHA256[:8], SHA256.upper()])
    def test_a_file_that_is_pinned_is_compared(self, file, pin):
        assert checked_digest(file, pin) == SHA256
        file.write_bytes(CONTENT[:-1])
        with pytest.raises(InputError, match=r"weights.pth: its SHA-256 is .* the file is damaged or another one"):
            checked_digest(file, pin)

    def test_a_name_with_a_digest_is_compared(self, file):
        right = file.rename(file.with_name(f"net-{SHA256[:8]}.pth"))
        assert checked_digest(right) == SHA256
        assert not list(right.parent.glob("*.sha256"))
        with pytest.raises(InputError, match="should be 01234567"):
            checked_digest(right.rename(file.with_name("net-01234567.pth")))

    def test_an_unknown_file_is_recorded_at_its_first_use_and_compared_from_then_on(self, file):
        assert checked_digest(file) == SHA256
        assert file.with_name("weights.pth.sha256").read_text().strip() == SHA256
        assert checked_digest(file) == SHA256
        file.write_bytes(CONTENT + b"more")
        with pytest.raises(InputError, match=f"should be {SHA256}"):
            checked_digest(file)

    def test_an_empty_record_does_not_pass_for_one(self, file):
        record = file.with_name("weights.pth.sha256")
        record.touch()
        assert checked_digest(file) == SHA256
        assert record.read_text().strip() == SHA256

    def test_where_nothing_can_be_recorded_a_pin_is_asked_for(self, file):
        file.with_name("weights.pth.sha256").mkdir()
        with pytest.raises(InputError, match=f"cannot be written; pin the weights with the option sha256: {SHA256}"):
            checked_digest(file)
        assert checked_digest(file, SHA256) == SHA256


class TestFetching:
    @pytest.fixture(autouse=True)
    def cache(self, tmp_path, monkeypatch):
        monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
        return tmp_path / "cache" / "hub" / "checkpoints"

    def test_a_file_is_fetched_once(self, file, cache):
        path = downloaded(file.as_uri(), SHA256)
        assert path == cache / "weights.pth"
        assert path.read_bytes() == CONTENT
        file.unlink()
        assert downloaded(file.as_uri(), SHA256) == path

    def test_another_content_is_refused_and_not_kept(self, file, cache):
        file.write_bytes(CONTENT[:-1])
        with pytest.raises(InputError, match=r"cannot be fetched \(invalid hash value"):
            downloaded(file.as_uri(), SHA256)
        assert list(cache.iterdir()) == []

    def test_without_a_network_the_file_to_place_by_hand_is_named(self, file, cache):
        file.unlink()
        with pytest.raises(InputError, match=f"{cache / 'weights.pth'}: not there, and file:.* put the file there by"):
            downloaded(file.as_uri(), SHA256)
