"""Tensors come back as they were written, or not at all."""

import os
import resource

import pytest
import torch

from amed_lightning.runtime import tensor_file
from amed_lightning.runtime.tensor_file import DamagedFileError, read_with_facts, write_tensors

TENSORS = {"sums": torch.arange(6, dtype=torch.float64).reshape(2, 3), "count": torch.tensor(7)}
FACTS = {"seconds": 1.5, "nfe": 5}


@pytest.fixture
def path(tmp_path):
    write_tensors(tmp_path / "block.safetensors", TENSORS, FACTS)
    return tmp_path / "block.safetensors"


def test_they_come_back_with_their_facts(path):
    tensors, facts = read_with_facts(path)
    assert tensors.keys() == TENSORS.keys()
    assert all(tensors[name].equal(value) for name, value in TENSORS.items())
    assert facts == FACTS


def test_equal_contents_are_equal_bytes(path, tmp_path):
    for number in range(20):
        other = tmp_path / f"{number}.safetensors"
        write_tensors(other, TENSORS, FACTS)
        assert other.read_bytes() == path.read_bytes()


def test_any_changed_or_missing_byte_is_noticed(path):
    whole = path.read_bytes()
    for number in range(0, len(whole), 5):
        path.write_bytes(whole[:number] + bytes([whole[number] ^ 4]) + whole[number + 1 :])
        with pytest.raises(DamagedFileError, match=r"block\.safetensors: not readable"):
            read_with_facts(path)
        path.write_bytes(whole[:number])
        with pytest.raises(DamagedFileError):
            read_with_facts(path)


@pytest.mark.parametrize("wrong", [torch.nan, torch.inf])
def test_a_number_that_is_not_finite_is_not_read(tmp_path, monkeypatch, wrong):
    with monkeypatch.context() as patch:
        patch.setattr(tensor_file, "not_finite", lambda tensors: None)
        write_tensors(tmp_path / "block.safetensors", TENSORS | {"error": torch.tensor([1.0, wrong])})
    with pytest.raises(
        DamagedFileError, match=r"block\.safetensors: not readable \('error' has a NaN or an infinity\)$"
    ):
        read_with_facts(tmp_path / "block.safetensors")


def test_one_that_is_gone_is_named(tmp_path):
    with pytest.raises(DamagedFileError, match=r"gone\.safetensors: not readable"):
        read_with_facts(tmp_path / "gone.safetensors")


def test_one_that_the_system_does_not_open_is_not_called_damaged(path):
    """Whoever finds damage makes the file again, and would do so with whole ones."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, limits[1]))
    try:
        with pytest.raises(OSError, match=r"Too many open files: .*block\.safetensors"):
            read_with_facts(path)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert read_with_facts(path)[0]["count"] == 7


def test_what_nobody_would_read_is_not_written(tmp_path):
    with pytest.raises(FloatingPointError, match="'b' has a NaN"):
        write_tensors(tmp_path / "block.safetensors", {"b": torch.tensor([1.0, torch.nan])})
    assert not list(tmp_path.iterdir())
