"""What a real SLURM does to jobs, and what they make of it."""

from pathlib import Path

import pytest
import yaml

from ..cli.command import call
from ..teacher.stores import records
from .scenes import INTERRUPTED, assert_equal_fits
from .work import BLOCKS, SHARDS, shards, write_fit

pytestmark = pytest.mark.slurm


class TestFit:
    @pytest.mark.parametrize("scene", INTERRUPTED)
    def test_it_ends_with_the_weights_of_one_left_alone(self, outcomes, scene):
        assert_equal_fits(outcomes[scene].result(), outcomes["left_alone"].result())

    def test_a_second_job_in_one_directory_is_refused(self, outcomes):
        first, said = outcomes["two_in_one_directory"].result()
        assert f"runs/run belongs to another run (job {first}, process" in said

    def test_the_first_configuration_stays_and_a_restart_on_the_same_terms_writes_none(self, outcomes):
        run = outcomes["warned"].result() / "runs" / "run"
        assert yaml.safe_load((run / "config.yaml").read_text())["trainer"]["num_nodes"] == 2
        assert not list(run.glob("restart-*"))


def test_a_store_that_was_stopped_three_times_is_that_of_one_process(outcomes, tmp_path, monkeypatch):
    folder = outcomes["a_store_stopped_three_times"].result()
    monkeypatch.chdir(tmp_path)
    write_fit(tmp_path)
    assert call("precompute", "--config", "fit.yaml") == 0
    assert len(shards(tmp_path)) == SHARDS + 1
    assert shards(folder) == shards(tmp_path)
    for one, other in zip(sorted(folder.glob("store/*/[tv]*")), sorted(tmp_path.glob("store/*/[tv]*")), strict=True):
        assert records(one) == records(other)


def test_a_sweep_of_which_one_task_was_killed_is_complete_and_has_nothing_left_to_do(outcomes, capsys, monkeypatch):
    monkeypatch.chdir(outcomes["a_sweep_of_which_one_task_is_killed"].result())
    options = ("--config", "suite.yaml")
    assert call("bench", "table", *options) == 0
    assert "missing" not in capsys.readouterr().out
    (results,) = Path("runs/bench").iterdir()
    done = {path: path.stat().st_mtime_ns for folder in ("rows", "blocks") for path in (results / folder).iterdir()}
    assert len(done) > 8 * (BLOCKS + 1)
    assert not list(results.glob("rows/*.error*"))
    assert call("bench", "run", "--accelerator=cpu", *options) == 0
    assert {path: path.stat().st_mtime_ns for path in done} == done
