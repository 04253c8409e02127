"""Again and again: what `make slurm` does once."""

import random
import statistics
import time

import pytest

from .fits import Fits
from .scenes import OTHERS, QUICK, assert_equal_fits, happen

pytestmark = pytest.mark.stress
SIGNALS, TURNS = 10, 3
SECONDS_TO_STOP = 60
"""A stop takes well under a second of a machine that is not busy; a deadlock takes for ever."""


def test_no_signal_in_a_fit_of_short_steps_on_two_ranks_makes_it_hang(cluster, tmp_path, capsys):
    job = Fits(cluster, tmp_path).started_without_pauses()
    checkpoint, waits, chance = job.folder / "runs" / "run" / "last.ckpt", [], random.Random(0)
    for count in range(1, SIGNALS + 1):
        time.sleep(chance.random())
        began = time.monotonic()
        job.signal("USR1")
        while job.state == "RUNNING":
            assert time.monotonic() - began < SECONDS_TO_STOP, job.output
            time.sleep(0.1)
        waits.append(time.monotonic() - began)
        job.await_restart(count)
        saved = checkpoint.stat().st_mtime_ns
        job.await_that(lambda saved=saved: checkpoint.stat().st_mtime_ns > saved, "another checkpoint")
    cluster.run("scancel", job.number)
    assert job.output.count("fit: stopped after") == SIGNALS
    with capsys.disabled():
        spread = f"median {statistics.median(waits):.1f} s, longest {max(waits):.1f} s"
        print(f"\n{SIGNALS} of {SIGNALS} signalled runs stopped: {spread}")


@pytest.mark.parametrize("turn", range(TURNS))
def test_everything_that_happens_to_jobs_happens_again(cluster, tmp_path, turn):
    outcomes = happen(cluster, tmp_path, OTHERS)
    for future in outcomes.values():
        future.result()
    for scene in QUICK + OTHERS:
        assert_equal_fits(outcomes[scene].result(), outcomes["left_alone"].result())
