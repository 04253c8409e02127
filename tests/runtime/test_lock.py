"""One run per directory, whatever the one before has left there."""

import errno
import fcntl
import json
import threading
import time
from dataclasses import asdict, replace

import pytest

from amed_lightning.config import InputError, digest
from amed_lightning.runtime.lock import DirectoryLock, Holder

from .commands import commands, enter_job

ELSEWHERE = Holder(job=None, restart=0, step=None, host="elsewhere", process=1, since="2026-01-01T00:00:00+0000")


def left(folder, holder):
    """Leave a lock as a killed process does."""
    (folder / "run.lock").write_text(json.dumps(asdict(holder)))


def take(folder):
    with DirectoryLock(folder).held():
        pass


def assert_taken(folder, by=""):
    with pytest.raises(InputError, match=f"belongs to another run \\({by}.*name another --trainer.default_root_dir"):
        take(folder)


def assert_free(folder):
    lock = DirectoryLock(folder)
    with lock.held():
        lock.require()
        assert_taken(folder)
    assert not list(folder.iterdir())


@pytest.fixture
def slurm(tmp_path_factory, monkeypatch):
    return commands(tmp_path_factory.mktemp("slurm") / "bin", monkeypatch)


class TestHeld:
    def test_nobody_else_gets_in_and_nothing_is_left(self, tmp_path):
        assert_free(tmp_path)
        assert_free(tmp_path)

    def test_it_is_released_when_the_run_fails(self, tmp_path):
        with pytest.raises(ValueError, match="of the run"), DirectoryLock(tmp_path).held():
            raise ValueError("of the run")
        assert_free(tmp_path)

    def test_the_directory_is_made(self, tmp_path):
        with DirectoryLock(tmp_path / "new" / "run").held():
            assert (tmp_path / "new" / "run" / "run.lock").is_file()

    def test_what_a_killed_process_of_this_host_has_left_is_taken_over(self, tmp_path):
        left(tmp_path, Holder())
        assert_free(tmp_path)

    def test_another_host_is_believed(self, tmp_path):
        left(tmp_path, ELSEWHERE)
        assert_taken(tmp_path, by="process 1 on elsewhere")

    def test_of_many_that_want_what_was_left_one_at_a_time_has_it(self, tmp_path):
        left(tmp_path, Holder())
        inside, most, entered, refused = [], [], [], []

        def enter():
            lock = DirectoryLock(tmp_path)
            lock.me = replace(lock.me, process=threading.get_native_id())
            try:
                with lock.held():
                    inside.append(1)
                    most.append(len(inside))
                    entered.append(lock.me)
                    lock.require()
                    inside.pop()
            except InputError:
                refused.append(lock.me)

        threads = [threading.Thread(target=enter) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(entered) + len(refused) == 16
        assert entered
        assert max(most) == 1

    @pytest.mark.parametrize("written", ["of another program", "{}", '{"host": "elsewhere"}', "\0"])
    def test_a_file_of_somebody_else_by_that_name_is_left_as_it_is(self, tmp_path, written):
        (tmp_path / "run.lock").write_text(written)
        with pytest.raises(
            InputError, match=r"run.lock: not a lock of this program; .* delete it if nobody works here"
        ):
            take(tmp_path)
        assert (tmp_path / "run.lock").read_text() == written

    @pytest.mark.parametrize("length", [0, 5, 40])
    def test_one_that_a_full_disk_has_cut_off_is_replaced_after_the_time_that_writing_takes(
        self, tmp_path, monkeypatch, length
    ):
        monkeypatch.setattr("amed_lightning.runtime.lock.SECONDS_TO_WRITE", 0.2)
        (tmp_path / "run.lock").write_text(json.dumps(asdict(ELSEWHERE))[:length])
        began = time.monotonic()
        take(tmp_path)
        assert time.monotonic() - began > 0.2
        assert not list(tmp_path.iterdir())

    def test_one_whose_writer_is_still_there_is_not(self, tmp_path, monkeypatch):
        monkeypatch.setattr("amed_lightning.runtime.lock.SECONDS_TO_WRITE", 0.2)
        with (tmp_path / "run.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            assert_taken(tmp_path, by="process 0 on an unknown host")

    def test_where_it_cannot_be_written_none_is_left(self, tmp_path):
        def full(_):
            raise OSError(errno.ENOSPC, "No space left on device")

        with pytest.MonkeyPatch.context() as context:
            context.setattr("os.fsync", full)
            with pytest.raises(OSError, match=r"No space left on device: .*run.lock"):
                take(tmp_path)
        assert_free(tmp_path)

    @pytest.mark.parametrize("whole", [True, False])
    def test_a_change_that_a_killed_process_began_is_taken_over_too(self, tmp_path, monkeypatch, whole):
        monkeypatch.setattr("amed_lightning.runtime.lock.SECONDS_TO_WRITE", 0.2)
        left(tmp_path, gone := Holder())
        change = tmp_path / f"run.lock.{digest(asdict(gone))[:16]}"
        change.write_text(json.dumps(asdict(gone)) if whole else "")
        assert_free(tmp_path)

    def test_a_change_that_another_host_has_begun_is_named(self, tmp_path, monkeypatch):
        monkeypatch.setattr("amed_lightning.runtime.lock.SECONDS_TO_WRITE", 0.05)
        left(tmp_path, gone := Holder())
        (tmp_path / f"run.lock.{digest(asdict(gone))[:16]}").write_text(json.dumps(asdict(ELSEWHERE)))
        with pytest.raises(InputError, match=r"run.lock: somebody else has begun to take it over"):
            take(tmp_path)


class TestJobs:
    def test_an_earlier_start_of_the_same_job_is_over(self, tmp_path, monkeypatch):
        enter_job(monkeypatch, RESTART_COUNT="1")
        left(tmp_path, replace(ELSEWHERE, job="12"))
        assert_free(tmp_path)

    @pytest.mark.parametrize("count", ["0", "1"])
    def test_another_step_of_the_same_start_and_a_later_start_are_not(self, tmp_path, monkeypatch, slurm, count):
        slurm.answer("squeue", printed="12")
        enter_job(monkeypatch, RESTART_COUNT=count)
        left(tmp_path, replace(ELSEWHERE, job="12", step="1", restart=1))
        assert_taken(tmp_path, by="job 12, process 1 on elsewhere")

    @pytest.mark.parametrize("known", [True, False])
    def test_another_job_is_asked_for(self, tmp_path, slurm, known):
        slurm.answer("squeue", printed="11 R" if known else "")
        left(tmp_path, replace(ELSEWHERE, job="11"))
        (assert_taken if known else assert_free)(tmp_path)
        assert "--noheader --jobs 11" in slurm.calls("squeue")


class TestFellows:
    def test_those_of_the_same_start_may_go_on_and_others_not(self, tmp_path, monkeypatch, slurm):
        slurm.answer("squeue", printed="11")
        enter_job(monkeypatch, PROCID="1")
        DirectoryLock(tmp_path).check()
        left(tmp_path, replace(ELSEWHERE, job="12", step="0"))
        DirectoryLock(tmp_path).check()
        left(tmp_path, replace(ELSEWHERE, job="11", step="0"))
        with pytest.raises(InputError, match="belongs to another run"):
            DirectoryLock(tmp_path).check()


def test_a_process_whose_directory_was_taken_over_is_told(tmp_path):
    lock = DirectoryLock(tmp_path)
    with lock.held():
        left(tmp_path, ELSEWHERE)
        with pytest.raises(InputError, match="taken over by process 1 on elsewhere"):
            lock.require()
    assert (tmp_path / "run.lock").is_file()
