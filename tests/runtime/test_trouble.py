"""The machine's faults are told from the program's, and each names its place and a cure."""

import errno
import io
import threading

import pytest
import torch

from amed_lightning.runtime.trouble import CURES, told


@pytest.mark.parametrize("code", CURES)
def test_an_error_of_the_system_names_the_file_and_a_cure(code):
    line = told(OSError(code, "in another language", "runs/file"))
    assert line.startswith("runs/file: ")
    assert line.endswith(f"; {CURES[code]}")


def test_one_without_a_cure_is_told_too():
    assert told(OSError(errno.ENODEV, "", "disk")) == "disk: No such device"


def test_both_names_of_a_rename_are_told():
    assert told(OSError(errno.EXDEV, "", "a", None, "b")) == "a to b: Invalid cross-device link"


def test_it_is_found_behind_the_errors_that_wrap_it():
    error = ValueError("while writing")
    error.__cause__ = OSError(errno.ENOSPC, "", "disk")
    assert told(error).startswith("disk: No space left on device")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MemoryError(), "no memory left"),
        (torch.OutOfMemoryError("CUDA out of memory.\nMore lines"), "no memory left (CUDA out of memory.)"),
        (ModuleNotFoundError("No module named 'x'", name="x"), "No module named 'x'; `amed-lightning doctor`"),
        (RuntimeError("Could not determine home directory."), "this user has no home directory; set HOME"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_else_a_machine_lacks(error, said):
    assert said in told(error)
    assert "\n" not in told(error)


def test_memory_that_torch_does_not_find_on_the_cpu_is_a_lack_of_it():
    with pytest.raises(RuntimeError) as raised:
        torch.empty(2**60, dtype=torch.uint8)
    assert told(raised.value).startswith("no memory left")


@pytest.mark.parametrize(
    "error",
    [
        ValueError("a defect"),
        RuntimeError("a defect"),
        ImportError("cannot import name 'x'", name="amed_lightning.config"),
        ImportError("cannot import name 'x'"),
        io.UnsupportedOperation("not writable"),
    ],
    ids=repr,
)
def test_a_defect_is_none_of_the_machines(error):
    assert told(error) is None


def test_a_thread_of_the_program_is_not_silenced(monkeypatch):
    from amed_lightning.cli.main import _of_a_thread

    seen = []
    monkeypatch.setattr(threading, "__excepthook__", seen.append)
    said = threading.ExceptHookArgs((OSError, OSError(errno.EIO, ""), None, threading.current_thread()))
    _of_a_thread(said)
    assert seen == [said]
