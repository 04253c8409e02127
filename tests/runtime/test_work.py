"""Whoever shares work, every result is made; nobody waits for the dead, and no two make the same thing for nothing."""

import json
import multiprocessing
import os
import signal
import threading
import time
from dataclasses import asdict, replace
from functools import partial

import pytest

from amed_lightning.runtime import work
from amed_lightning.runtime.lock import Holder
from amed_lightning.runtime.signals import Stopped, listening, stop_if_asked
from amed_lightning.runtime.work import Claim, shared

from ..teacher.stores import Member, Team

ALONE = Member(Team(1), 0)


class Results:
    """Small files in a folder, and who made them."""

    def __init__(self, folder, count=6, seconds=0.0):
        self.folder, self.seconds, self.made = folder, seconds, []
        self.items = {f"item-{number}": lambda number=number: self.make(f"item-{number}") for number in range(count)}

    def make(self, name):
        time.sleep(self.seconds)
        self.made.append(name)
        (self.folder / name).write_text(name)

    def is_done(self, name):
        return (self.folder / name).is_file()

    def share(self, processes=ALONE, tell=None):
        with shared("work", self.items, self.is_done, self.folder, processes, tell=tell) as mine:
            for name in mine:
                if callable(finish := self.items[name]()):
                    mine.later(finish)

    @property
    def left(self):
        return sorted(path.name for path in self.folder.iterdir() if path.name not in self.items)


@pytest.fixture
def results(tmp_path):
    return Results(tmp_path)


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(work, "SECONDS_OF_PATIENCE", 0.3)
    monkeypatch.setattr(work, "SECONDS_BETWEEN_TOUCHES", 0.05)
    monkeypatch.setattr(work, "SECONDS_TO_NOTICE", 0.05)


class TestAlone:
    def test_what_is_missing_is_made_once_in_order_and_no_claim_is_left(self, results):
        results.make("item-2")
        results.share()
        assert results.made == ["item-2", "item-0", "item-1", "item-3", "item-4", "item-5"]
        results.share()
        assert len(results.made) == 6
        assert results.left == []

    def test_a_failure_leaves_no_claim(self, results):
        results.items["item-1"] = lambda: 1 / 0
        with pytest.raises(ZeroDivisionError):
            results.share()
        assert results.made == ["item-0"]
        assert results.left == []

    def test_a_signal_stops_it_after_the_item_at_hand(self, results):
        real = results.items["item-1"]
        results.items["item-1"] = lambda: (os.kill(os.getpid(), signal.SIGTERM), real())[-1]
        with listening(), pytest.raises(Stopped):
            results.share()
        assert results.made == ["item-0", "item-1"]
        assert results.left == []


class TestFinishing:
    """Items whose makers leave something to do to a thread."""

    def leave(self, results, finish):
        """Let every item be made in two parts; the second is told the item's name."""
        results.begun = []

        def begin(name):
            results.begun.append((name, threading.current_thread()))
            return lambda: finish(name)

        results.items = {name: partial(begin, name) for name in results.items}

    def test_an_item_is_begun_while_the_one_before_is_finished_and_all_are_there_at_the_end(self, results):
        finished, second = [], threading.Event()

        def finish(name):
            if name == "item-0":
                assert second.wait(10)
            finished.append((name, threading.current_thread()))
            results.make(name)

        self.leave(results, finish)
        real = results.items["item-1"]
        results.items["item-1"] = lambda: (second.set(), real())[-1]
        results.share()
        assert [name for name, _ in results.begun] == [name for name, _ in finished] == results.made == [*results.items]
        assert {thread for _, thread in results.begun} == {threading.current_thread()}
        assert threading.current_thread() not in {thread for _, thread in finished}
        assert results.left == []

    def test_it_is_claimed_and_the_claim_touched_until_it_is_finished(self, results, impatient):
        seen = []

        def finish(name):
            claim = Claim(results.folder, name)
            before = claim.touched()
            time.sleep(0.2)
            seen.append((claim.taken(), claim.touched() > before))
            results.make(name)

        self.leave(results, finish)
        results.share()
        assert seen == [(False, True)] * len(results.items)

    @pytest.mark.parametrize("broken", ["item-0", "item-2", "item-5"])
    def test_what_goes_wrong_with_one_ends_the_work_at_the_next_and_leaves_no_claim(self, results, broken):
        self.leave(results, lambda name: 1 / 0 if name == broken else results.make(name))
        with pytest.raises(ZeroDivisionError):
            results.share()
        names = [*results.items]
        assert results.made == names[: names.index(broken)]
        assert [name for name, _ in results.begun] == names[: names.index(broken) + 2]
        assert results.left == []

    def test_a_signal_loses_what_is_being_begun_and_nothing_else(self, results, capsys):
        self.leave(results, lambda name: (time.sleep(0.1), results.make(name)))
        real = results.items["item-2"]
        results.items["item-2"] = lambda: (real(), os.kill(os.getpid(), signal.SIGTERM), stop_if_asked())
        with listening(), pytest.raises(Stopped):
            results.share()
        assert results.made == ["item-0", "item-1"]
        assert "work: stopped, 4 blocks are left" in capsys.readouterr().err
        assert results.left == []

    def test_several_processes_finish_each_once(self, tmp_path):
        results = Results(tmp_path, count=12, seconds=0.02)
        self.leave(results, results.make)
        Team(3).run(results.share)
        assert sorted(results.made) == sorted(results.items)
        assert sorted(name for name, _ in results.begun) == sorted(results.items)
        assert results.left == []


class TestTogether:
    @pytest.mark.parametrize("count", [2, 3, 7])
    def test_each_takes_the_first_that_is_free_and_nothing_is_made_twice(self, tmp_path, count):
        results = Results(tmp_path, seconds=0.02)
        Team(count).run(results.share)
        assert sorted(results.made) == sorted(results.items)
        assert {*results.made[:2]} <= {f"item-{number}" for number in range(count + 1)}
        assert results.left == []

    def test_what_others_have_made_counts_as_soon_as_an_item_is_made(self, tmp_path):
        """Three items are claimed and made by others while the fourth is made here."""
        results, told = Results(tmp_path, count=6), []
        claims = [Claim(tmp_path, f"item-{number}") for number in range(3)]
        for claim in claims:
            assert claim.taken()
        real = results.items["item-3"]
        results.items["item-3"] = lambda: ([results.make(claim.name) or claim.release() for claim in claims], real())[
            -1
        ]
        results.share(tell=told.append)
        assert told == ["item-3", "item-0", "item-1", "item-2", "item-4", "item-5"]

    def test_two_jobs_share_too(self, tmp_path):
        """Neither knows of the other's processes."""
        results = Results(tmp_path, count=12, seconds=0.02)
        jobs = [threading.Thread(target=Team(2).run, args=[results.share]) for _ in range(2)]
        for job in jobs:
            job.start()
        for job in jobs:
            job.join()
        assert sorted(results.made) == sorted(results.items)

    def test_a_result_that_is_deleted_is_made_again_by_the_next_call(self, results, impatient):
        """The last item's maker deletes another's result before it is done."""
        real = results.items["item-5"]
        results.items["item-5"] = lambda: ((results.folder / "item-0").unlink(), real())[-1]
        results.share()
        assert not results.is_done("item-0"), "it was there when it was looked at"
        results.items["item-5"] = real
        results.share()
        assert results.is_done("item-0")


class TestOthers:
    def claimed(self, results, name, **changes):
        claim = Claim(results.folder, name)
        claim.path.write_text(json.dumps(asdict(replace(Holder(), **changes))))
        return claim

    def test_what_a_dead_process_of_this_host_has_claimed_is_taken_over_at_once(self, results):
        process = multiprocessing.get_context("fork").Process(target=os._exit, args=[0])
        process.start()
        process.join()
        self.claimed(results, "item-3", process=process.pid)
        started = time.monotonic()
        results.share()
        assert time.monotonic() - started < 2
        assert sorted(results.made) == sorted(results.items)

    def test_what_nobody_touches_is_taken_over_by_name(self, results, impatient, capsys):
        self.claimed(results, "item-3", host="elsewhere", process=7)
        results.share()
        assert results.made[-1] == "item-3"
        told = capsys.readouterr().err
        assert "waiting for item-3: process 7 on elsewhere, since" in told
        assert "item-3: taken over, process 7 on elsewhere, since" in told
        assert results.left == []

    @pytest.mark.parametrize("content", ["", "{", "[]", '{"host": 1}'])
    def test_an_unreadable_claim_counts_as_somebody_s_until_it_is_left(self, results, impatient, capsys, content):
        Claim(results.folder, "item-3").path.write_text(content)
        results.share()
        assert results.made[-1] == "item-3"
        assert "another process" in capsys.readouterr().err

    def test_a_claim_that_is_touched_is_respected_and_its_result_waited_for(self, results, impatient):
        claim = self.claimed(results, "item-3", host="elsewhere")

        def at_work():
            with claim.kept():
                time.sleep(1.0)
                (results.folder / "item-3").write_text("by another")

        other = threading.Thread(target=at_work)
        other.start()
        results.share()
        other.join()
        assert "item-3" not in results.made
        assert (results.folder / "item-3").read_text() == "by another"

    def test_a_folder_that_another_job_has_removed_meanwhile_is_made_again(self, tmp_path):
        claim = Claim(tmp_path / "gone", "item")
        assert claim.taken()
        claim.release()

    def test_one_that_is_released_without_a_result_is_made(self, results, impatient):
        claim = self.claimed(results, "item-3", host="elsewhere")
        real = results.items["item-5"]
        results.items["item-5"] = lambda: (real(), threading.Timer(0.1, claim.release).start())[-1]
        results.share()
        assert results.made[-1] == "item-3"
