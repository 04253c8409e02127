"""What a killed writer has left is used or removed by the next one of the same file; a living one's is left alone."""

import os
import signal
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest

from amed_lightning.config import write_atomically
from amed_lightning.runtime import unfinished as module
from amed_lightning.runtime.unfinished import unfinished


def killed_in_the_middle(path, is_folder):
    """Let a process begin to write and be killed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of a fork beside threads, which wait for ever
        if not (child := os.fork()):
            with unfinished(path, is_folder) as temporary:
                (temporary / "part" if is_folder else temporary).write_bytes(b"a longer part than the next one")
                os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)


@pytest.mark.parametrize("is_folder", [False, True])
def test_what_a_killed_writer_left_is_empty_for_the_next_and_gone_after_it(tmp_path, is_folder):
    path = tmp_path / "new" / "name"
    killed_in_the_middle(path, is_folder)
    (left,) = path.parent.iterdir()
    with unfinished(path, is_folder) as temporary:
        assert temporary == left
        assert (list(temporary.iterdir()) if is_folder else temporary.read_bytes()) in ([], b"")
        temporary.rename(path)
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("is_folder", [False, True])
def test_a_living_writer_keeps_what_it_has(tmp_path, is_folder):
    path = tmp_path / "name"
    with unfinished(path, is_folder) as first, unfinished(path, is_folder) as second:
        assert first != second
        assert first.exists()
        second.rename(path)
        assert first.exists()
    assert list(tmp_path.iterdir()) == [path]


def test_of_what_fails_nothing_is_left_and_the_error_names_the_file(tmp_path):
    with (
        open("/dev/full", "wb", buffering=0) as full,
        pytest.raises(OSError, match=r"No space left on device: '.*/name'"),
        unfinished(tmp_path / "name"),
    ):
        full.write(b"content")
    assert not list(tmp_path.iterdir())


def test_a_name_of_the_longest_length_can_be_written(tmp_path):
    path = tmp_path / ("n" * 255)
    write_atomically(path, b"content")
    assert path.read_bytes() == b"content"


def test_writers_of_one_name_at_a_time_each_leave_a_whole_file(tmp_path):
    contents = [bytes([number]) * 5000 for number in range(8)]
    with ThreadPoolExecutor(8) as threads:
        for _ in range(20):
            list(threads.map(lambda content: write_atomically(tmp_path / "name", content), contents))
            assert (tmp_path / "name").read_bytes() in contents
    assert [path.name for path in tmp_path.iterdir()] == ["name"]


@pytest.mark.parametrize("is_folder", [False, True])
def test_a_folder_that_is_removed_under_a_writer_is_made_again(tmp_path, monkeypatch, is_folder):
    """As a table's is, by another job that has joined its blocks."""
    path, real, calls = tmp_path / "blocks" / "name", module._made, []

    def removed_once(own, is_folder):
        if not calls:
            own.parent.rmdir()
        calls.append(own)
        return real(own, is_folder)

    monkeypatch.setattr(module, "_made", removed_once)
    with unfinished(path, is_folder) as temporary:
        temporary.rename(path)
    assert path.exists()
    assert len(calls) == 2
