"""Plain lines of progress say what is known."""

import pytest

from amed_lightning.runtime import progress
from amed_lightning.runtime.progress import progress_lines


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_a_line_every_ten_seconds_and_at_the_end(clock, capsys):
    advance = progress_lines("fit", 100, "batches")
    for second in range(1, 26):
        clock[0] = second
        advance(4)
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "fit: 40/100 batches, 4/s, 15 s left",
        "fit: 80/100 batches, 4/s, 5 s left",
        "fit: 100/100 batches, 4/s, 0 s left",
    ]


def test_slow_work_says_how_long_each_takes(clock, capsys):
    advance = progress_lines("teacher", 3, "shards")
    clock[0] = 90
    advance(1)
    assert capsys.readouterr().err == "teacher: 1/3 shards, 90.0 s each, 180 s left\n"


def test_a_total_that_nobody_knows_is_not_made_up(clock, capsys):
    advance = progress_lines("fit", None, "batches")
    for second in (5, 10, 20):
        clock[0] = second
        advance(20)
    assert capsys.readouterr().err.splitlines() == ["fit: 40 batches, 4/s", "fit: 60 batches, 3/s"]


def test_what_was_done_before_a_restart_is_no_part_of_the_rate(clock, capsys):
    advance = progress_lines("fit", 100, "batches", already=80)
    clock[0] = 10
    advance(5)
    assert capsys.readouterr().err == "fit: 85/100 batches, 2.0 s each, 30 s left\n"
