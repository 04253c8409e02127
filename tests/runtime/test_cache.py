"""The folder of fetched files: every file whole and checked, fetched by one process."""

import hashlib
import os
import subprocess
import sys
import threading
import time
from contextlib import suppress

import pytest

from amed_lightning.config import InputError, write_atomically
from amed_lightning.runtime import cache as module
from amed_lightning.runtime import download
from amed_lightning.runtime.cache import RANKS, cache_folder, check, fetch, is_first_process
from amed_lightning.runtime.download import RemoteFile
from amed_lightning.runtime.network import is_offline, offline

from .server import CONTENT, cut_after, serve, status, whole

DIGEST = hashlib.sha256(CONTENT).hexdigest()
WRONG = "0" * 64


@pytest.fixture(autouse=True)
def _alone(monkeypatch):
    """No job, no user's choice, and no pause between attempts."""
    for name in ("RANK", *RANKS, "AMED_OFFLINE", "AMED_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(download, "PAUSES", (0.0, 0.0))


def remote(*sites, sha256=DIGEST):
    return RemoteFile("weights.pkl", tuple(site.address for site in sites), sha256)


def refusal(file, folder):
    with pytest.raises(InputError) as caught:
        fetch(file, folder)
    return str(caught.value)


class TestFolder:
    def test_it_is_what_the_user_says_or_where_the_system_keeps_such_files(self, monkeypatch, tmp_path):
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
        assert cache_folder() == tmp_path / ".cache" / "amed-lightning"
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
        assert cache_folder() == tmp_path / "xdg" / "amed-lightning"
        monkeypatch.setenv("AMED_CACHE", "~/weights")
        assert cache_folder() == tmp_path / "weights"


class TestFetch:
    def test_a_file_is_fetched_once(self, tmp_path):
        with serve(whole()) as site:
            for _ in range(2):
                path = fetch(remote(site), tmp_path / "deep")
                assert path.read_bytes() == CONTENT
            assert len(site.requests) == 1
        assert path == tmp_path / "deep" / "weights.pkl"
        assert [file.name for file in path.parent.iterdir() if not file.name.startswith(".")] == ["weights.pkl"]

    def test_an_interrupted_fetch_is_continued_by_the_next(self, tmp_path):
        with serve(cut_after(1000), cut_after(0)) as site:
            assert "it ended after 1000" in refusal(remote(site), tmp_path)
            assert not (tmp_path / "weights.pkl").exists()
            site.answers[:] = [whole()]
            site.requests.clear()
            assert fetch(remote(site), tmp_path).read_bytes() == CONTENT
            assert [request.range for request in site.requests] == ["bytes=1000-"]

    def test_the_first_mirror_that_has_it_gives_it(self, tmp_path):
        with serve(status(404)) as gone, serve(whole(b"another file")) as wrong, serve(whole()) as right:
            assert fetch(remote(gone, wrong, right), tmp_path).read_bytes() == CONTENT
        assert [len(site.requests) for site in (gone, wrong, right)] == [1, 1, 1]

    def test_a_mirror_continues_what_another_began(self, tmp_path):
        with serve(cut_after(1000), cut_after(0)) as broken, serve(whole()) as mirror:
            assert fetch(remote(broken, mirror), tmp_path).read_bytes() == CONTENT
        assert [request.range for request in mirror.requests] == ["bytes=1000-"]

    def test_where_nothing_helps_the_message_says_what_to_place_where(self, tmp_path):
        with serve(status(404)) as gone, serve(whole(b"another file")) as wrong:
            message = refusal(remote(gone, wrong), tmp_path)
        assert f"{gone.address}: HTTP 404" in message
        assert f"{wrong.address}: its SHA-256 is {hashlib.sha256(b'another file').hexdigest()}" in message
        assert message.endswith(f"get it from {gone.address} and place it at {tmp_path / 'weights.pkl'}")
        assert [path.name for path in tmp_path.iterdir() if not path.name.startswith(".")] == []

    def test_a_file_that_was_placed_by_hand_is_used(self, tmp_path):
        (tmp_path / "weights.pkl").write_bytes(CONTENT)
        assert fetch(remote(), tmp_path) == tmp_path / "weights.pkl"

    def test_a_folder_that_cannot_be_written_is_named(self, tmp_path):
        (tmp_path / "taken").write_text("a file")
        with serve(whole()) as site:
            message = refusal(remote(site), tmp_path / "taken" / "cifar10")
        assert message.startswith(f"{tmp_path / 'taken' / 'cifar10' / 'weights.pkl'}: Not a directory")
        assert "AMED_CACHE" in message

    def test_offline_nothing_is_asked_for(self, tmp_path, monkeypatch):
        monkeypatch.setenv("AMED_OFFLINE", "1")
        with serve(whole()) as site:
            assert "AMED_OFFLINE forbids the network" in refusal(remote(site), tmp_path)
            assert site.requests == []
        (tmp_path / "weights.pkl").write_bytes(CONTENT)
        assert fetch(remote(), tmp_path).read_bytes() == CONTENT

    @pytest.mark.parametrize("choice", [None, "0", "1"])
    def test_the_network_can_be_forbidden_for_a_while(self, monkeypatch, choice):
        if choice is not None:
            monkeypatch.setenv("AMED_OFFLINE", choice)
        with suppress(ZeroDivisionError), offline():
            assert is_offline()
            raise ZeroDivisionError
        assert os.environ.get("AMED_OFFLINE") == choice


class TestDigests:
    def test_a_file_that_changed_is_refused(self, tmp_path):
        path = tmp_path / "weights.pkl"
        path.write_bytes(b"something else")
        assert f"{path}: its SHA-256 is" in refusal(remote(), tmp_path)
        assert f"it should be {DIGEST}; it is damaged or another file" in refusal(remote(), tmp_path)

    def test_an_unknown_digest_is_recorded_and_then_expected(self, tmp_path):
        file = remote(sha256=None)
        path = tmp_path / "weights.pkl"
        path.write_bytes(CONTENT)
        check(file, path)
        assert (tmp_path / "weights.pkl.sha256").read_text() == f"{DIGEST}  weights.pkl\n"
        check(file, path)
        path.write_bytes(CONTENT[:-1])
        with pytest.raises(InputError, match=f"weights.pkl.sha256 recorded on first use {DIGEST}"):
            check(file, path)

    def test_a_recorded_digest_outlives_the_file(self, tmp_path):
        with serve(whole()) as site:
            fetch(remote(site, sha256=None), tmp_path).unlink()
        with serve(whole(CONTENT[::-1])) as site:
            assert "recorded on first use" in refusal(remote(site, sha256=None), tmp_path)

    def test_a_known_digest_is_not_recorded(self, tmp_path):
        with serve(whole()) as site:
            fetch(remote(site), tmp_path)
        assert not (tmp_path / "weights.pkl.sha256").exists()


FETCH = """
import sys
from pathlib import Path
from amed_lightning.runtime.cache import fetch
from amed_lightning.runtime.download import RemoteFile
fetch(RemoteFile("weights.pkl", (sys.argv[1],), sys.argv[2]), Path(sys.argv[3]))
"""


class TestProcesses:
    def test_two_that_want_a_file_at_once_fetch_it_once(self, tmp_path):
        begun = threading.Event()

        def slowly(handler):
            begun.wait(20)
            whole()(handler)

        with serve(slowly) as site:
            command = [sys.executable, "-c", FETCH, site.address, DIGEST, str(tmp_path)]
            processes = [subprocess.Popen(command) for _ in range(2)]
            time.sleep(1.0)
            begun.set()
            assert [process.wait(60) for process in processes] == [0, 0]
        assert len(site.requests) == 1
        assert (tmp_path / "weights.pkl").read_bytes() == CONTENT

    @pytest.mark.parametrize("rank", ["RANK", *RANKS])
    def test_the_first_of_a_job_has_no_number_or_zero(self, monkeypatch, rank):
        assert is_first_process()
        monkeypatch.setenv(rank, "0")
        assert is_first_process()
        monkeypatch.setenv(rank, "3")
        assert not is_first_process()

    @pytest.mark.parametrize(("rank", "task", "is_first"), [("0", "1", True), ("1", "0", False)])
    def test_in_a_job_torchrun_says_who_is_first_and_not_slurm(self, monkeypatch, rank, task, is_first):
        """Nodes meet in any order: the first process need not be on the first task's."""
        monkeypatch.setenv("RANK", rank)
        monkeypatch.setenv("SLURM_PROCID", task)
        assert is_first_process() == is_first

    def test_the_others_wait_for_the_first(self, tmp_path, monkeypatch):
        monkeypatch.setenv("RANK", "1")
        monkeypatch.setattr(module, "SECONDS_BETWEEN_LOOKS", 0.01)
        first = threading.Timer(0.1, lambda: write_atomically(tmp_path / "weights.pkl", CONTENT))
        with serve(whole()) as site:
            first.start()
            assert fetch(remote(site), tmp_path).read_bytes() == CONTENT
            assert site.requests == []
        first.join()

    def test_they_wait_as_long_as_it_moves_on_and_no_longer(self, tmp_path, monkeypatch):
        monkeypatch.setenv("SLURM_PROCID", "1")
        monkeypatch.setattr(module, "SECONDS_OF_PATIENCE", 0.2)
        part, looks = tmp_path / "weights.pkl.part", []

        def look(_):
            looks.append(1)
            if len(looks) <= 10:
                part.write_bytes(b"x" * len(looks))
            time.sleep(0.05)

        monkeypatch.setattr(
            module, "time", type("Time", (), {"monotonic": time.monotonic, "sleep": staticmethod(look)})
        )
        assert "`amed-lightning models fetch` on every node" in refusal(remote(), tmp_path)
        assert len(looks) > 10

    def test_where_every_node_has_its_own_folder_every_process_fetches(self, tmp_path, monkeypatch):
        monkeypatch.setenv("SLURM_PROCID", "1")
        with serve(whole()) as site:
            assert fetch(remote(site), tmp_path, every_process=True).read_bytes() == CONTENT
