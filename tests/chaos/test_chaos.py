"""Whatever kills a command, and whenever: it ends at once, and the next start goes on to the same result."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.stress
KILLS = 25
"""Of four kinds of commands on one and on two ranks: 200."""


def python(*arguments: str, minutes: int) -> str:
    """Run a module of this folder in a process that has no threads yet, because it forks."""
    run = subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=Path(__file__).parents[2],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=60 * minutes,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


def test_two_hundred_kills_change_no_result():
    rows = [
        line.split("|")[1:-1] for line in python("tests.chaos.chaos", "--kills", str(KILLS), minutes=120).splitlines()
    ]
    assert sum(int(kills) for _, _, kills, *_ in rows[2:]) >= 8 * KILLS


def test_a_sweep_that_goes_on_with_other_numbers_of_processes_ends_alike():
    python("tests.chaos.chaos", "--kinds", "bench", "--ranks", "1,2,3", "--kills", "20", "--seed", "15", minutes=20)


def test_two_jobs_that_share_end_like_one_alone():
    python("tests.chaos.pairs", "--pairs", "20", minutes=120)


def test_a_rank_that_hangs_or_is_killed_ends_the_other_within_a_minute_with_a_line():
    for case in json.loads(python("tests.chaos.lost", minutes=10)):
        assert case["seconds"] < 60, case
        assert case["code"] == 1, case
        assert "of this job is gone" in case["said"], case
        assert "Traceback" not in case["said"], case
