"""Work begins again with half the micro-batch, or is refused where its size names the result."""

import gc
import weakref

import pytest
import torch

from amed_lightning.config import InputError
from amed_lightning.runtime.micro_batches import halving, unhalved


def with_room_for(room, tried):
    def run(size):
        tried.append(size)
        if size > room:
            raise torch.OutOfMemoryError("no room")
        return f"{size} at a time"

    return run


@pytest.mark.parametrize(("room", "sizes"), [(12, [12]), (11, [12, 6]), (3, [12, 6, 3]), (1, [12, 6, 3, 1])])
def test_it_ends_with_the_first_half_that_there_is_room_for(room, sizes):
    tried = []
    assert halving(with_room_for(room, tried), 12) == (f"{sizes[-1]} at a time", sizes[-1])
    assert tried == sizes


def test_without_room_for_one_the_error_is_the_device_s():
    with pytest.raises(torch.OutOfMemoryError):
        halving(with_room_for(0, []), 12)


def test_another_error_is_none_of_memory():
    def run(size):
        raise RuntimeError("something else")

    with pytest.raises(RuntimeError, match="something else"):
        halving(run, 12)


def test_what_the_larger_one_held_is_free_when_the_smaller_one_begins():
    held = []

    def run(size):
        assert not any(each() for each in held)
        images = torch.zeros(size)
        held.append(weakref.ref(images))
        if size > 1:
            raise torch.OutOfMemoryError("no room")

    gc.disable()  # what a cycle keeps would be found at some time, which may be too late
    try:
        halving(run, 4)
    finally:
        gc.enable()
    assert len(held) == 3


def test_people_are_told_of_each_half_if_they_are_to_be(capsys):
    halving(with_room_for(3, []), 12)
    assert capsys.readouterr().err == ""
    halving(with_room_for(3, []), 12, "sample")
    lines = capsys.readouterr().err.splitlines()
    assert lines[1] == "sample: no memory for 6 samples at a time; 3 are taken, which may change last digits"
    assert len(lines) == 2


def test_where_the_size_names_the_result_another_one_is_refused_and_the_size_that_fits_is_named():
    assert unhalved(with_room_for(12, []), 12, "teacher.batch_size") == "12 at a time"
    with pytest.raises(InputError, match=r"^teacher\.batch_size is 12, .* no memory .* set it to 3 or less"):
        unhalved(with_room_for(5, []), 12, "teacher.batch_size")
