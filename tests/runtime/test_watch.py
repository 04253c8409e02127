"""A process that is gone, or hangs, is seen by the others; one that is only slow is not missed."""

import socket
import threading
from types import SimpleNamespace

import pytest
import torch.distributed as dist

from amed_lightning.runtime import watch
from amed_lightning.runtime.exit_codes import ExitCode
from amed_lightning.runtime.watch import LOOKS_OF_PATIENCE, Others


@pytest.fixture
def three():
    store = dist.HashStore()
    return [Others(store, rank, 3) for rank in range(3)]


def looks(*processes, times=LOOKS_OF_PATIENCE):
    return [process.look() for _ in range(times) for process in processes]


def test_processes_that_count_are_there(three):
    assert looks(*three, times=3 * LOOKS_OF_PATIENCE) == [None] * 9 * LOOKS_OF_PATIENCE


@pytest.mark.parametrize("gone", [0, 1, 2])
def test_one_that_does_not_count_any_more_is_named_by_the_others(three, gone):
    looks(*three)
    left = [process for process in three if process.rank != gone]
    looks(*left, times=1)  # who was before it in the last round sees its last count now
    assert looks(*left, times=LOOKS_OF_PATIENCE - 2) == [None] * 2 * (LOOKS_OF_PATIENCE - 2)
    looks(*left, times=1)
    assert {process.look() for process in left} == {gone}


def test_one_that_has_never_counted_is_missed_as_late(three):
    assert looks(three[0], three[1], times=LOOKS_OF_PATIENCE - 1) == [None] * 2 * (LOOKS_OF_PATIENCE - 1)
    assert three[0].look() == 2


def test_one_that_counts_again_in_time_is_not_missed(three):
    looks(*three)
    for _ in range(3):
        assert looks(three[0], times=LOOKS_OF_PATIENCE - 1) == [None] * (LOOKS_OF_PATIENCE - 1)
        looks(*three, times=1)


def test_without_the_store_the_process_that_keeps_it_is_gone():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = dist.TCPStore("127.0.0.1", port, is_master=True, wait_for_workers=False)
    others = Others(dist.TCPStore("127.0.0.1", port, wait_for_workers=False), 1, 2)
    keeper = Others(server, 0, 2)
    assert looks(others, keeper, times=2) == [None] * 4
    del server, keeper
    assert looks(others)[-1] == 0


def test_a_keeper_that_hangs_before_the_first_look_is_missed(monkeypatch, capsys):
    """Then even a connection to the store waits for ever."""
    answer, ended, codes = threading.Event(), threading.Event(), []

    def clone():
        answer.wait()
        raise RuntimeError("Connection closed by peer")

    store = SimpleNamespace(clone=clone)
    group = SimpleNamespace(get_world_size=lambda: 2, get_rank=lambda: 1, distributed_c10d=SimpleNamespace())
    group.distributed_c10d._get_default_store = lambda: store
    monkeypatch.setattr(watch, "_group", lambda: group)
    monkeypatch.setattr(watch, "SECONDS_BETWEEN_LOOKS", 0.01)
    monkeypatch.setattr(watch.os, "_exit", lambda code: (codes.append(code), ended.set()))
    watcher = threading.Thread(target=watch._watch, args=[ended, ExitCode.undecided], daemon=True)
    watcher.start()
    watcher.join(10)
    answer.set()
    assert codes == [ExitCode.undecided]
    assert "process 0 of this job is gone" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("message", "is_lost"),
    [
        ("[../gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:4711", True),
        ("Connection reset by peer", True),
        ("recvValue failed: failed to recv, got 0 bytes. Connection was likely closed.", True),
        ("mat1 and mat2 shapes cannot be multiplied (2x3 and 4x5)", False),
    ],
)
def test_what_a_collective_says_of_a_lost_process_is_known(monkeypatch, message, is_lost):
    monkeypatch.setattr(watch, "_group", lambda: dist)
    assert watch.is_of_a_lost_process(RuntimeError(message)) == is_lost


def test_an_error_of_a_process_alone_is_its_own():
    assert not watch.is_of_a_lost_process(RuntimeError("Connection closed by peer"))


def test_a_library_that_is_still_being_imported_has_no_group_yet(monkeypatch):
    monkeypatch.setitem(watch.sys.modules, "torch.distributed", SimpleNamespace())
    assert watch._group() is None
