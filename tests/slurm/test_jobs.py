"""What a real SLURM does to jobs, and what they make of it."""

from pathlib import Path

import pytest
import yaml

from ..cli.command import call
from ..teacher.stores import records
from .jobs import script, submit
from .scenes import QUICK, assert_equal_fits
from .work import NFE, SHARDS, shards, write_fit

pytestmark = pytest.mark.slurm


class TestFit:
    @pytest.mark.parametrize("scene", QUICK)
    def test_it_ends_with_the_weights_of_one_left_alone(self, outcomes, scene):
        assert_equal_fits(outcomes[scene].result(), outcomes["left_alone"].result())

    def test_a_second_job_in_one_directory_is_refused(self, outcomes):
        first, said = outcomes["two_in_one_directory"].result()
        assert f"runs/run belongs to another run (job {first}, process" in said

    def test_the_first_configuration_stays_and_a_restart_on_the_same_terms_writes_none(self, outcomes):
        run = outcomes["warned"].result() / "runs" / "run"
        assert yaml.safe_load((run / "config.yaml").read_text())["trainer"]["num_nodes"] == 2
        assert not list(run.glob("restart-*"))


def test_a_store_that_was_stopped_twice_is_whole_and_its_shards_are_those_of_one_process(
    outcomes, tmp_path, monkeypatch
):
    folder = outcomes["a_store_stopped_twice"].result()
    assert len(shards(folder)) == SHARDS + 1
    monkeypatch.chdir(tmp_path)
    write_fit(tmp_path, count=SHARDS // 2)
    assert call("precompute", "--config", "fit.yaml") == 0
    mine = sorted(tmp_path.glob("store/*/[tv]*"))
    assert len(mine) == SHARDS // 2 + 1
    for shard in mine:
        assert records(shard) == records(folder / shard.relative_to(tmp_path))


def test_a_sweep_of_which_one_task_was_killed_is_complete_and_has_nothing_left_to_do(outcomes, capsys, monkeypatch):
    monkeypatch.chdir(outcomes["a_sweep_of_which_one_task_is_killed"].result())
    options = ("--config", "suite.yaml")
    assert call("bench", "table", *options) == 0
    assert "missing" not in capsys.readouterr().out
    (results,) = Path("runs/bench").iterdir()
    done = {path: path.stat().st_mtime_ns for folder in ("rows", "blocks") for path in (results / folder).iterdir()}
    assert len(done) > len(NFE)  # rows, and the images of the reference; sums go once a row is there
    assert not list(results.glob("rows/*.error*"))
    assert call("bench", "run", "--accelerator=cpu", *options) == 0
    assert {path: path.stat().st_mtime_ns for path in done} == done


class TestTable:
    """Two fits, a sweep by tasks 2 and 5, and the table."""

    def test_a_fit_that_fails_cancels_what_waits_for_it(self, outcomes):
        _, first = outcomes["a_table_of_which_a_fit_fails_at_first"].result()
        assert first == {
            "grey-a": "COMPLETED",
            "grey-b": "FAILED",
            "grey-sweep": "CANCELLED",
            "grey-table": "CANCELLED",
        }

    def test_what_the_fits_leave_is_what_the_sweep_reads_and_every_cell_is_in_the_table(self, outcomes):
        folder, _ = outcomes["a_table_of_which_a_fit_fails_at_first"].result()
        learned = [row for row in (folder / "runs/bench/small/table.md").read_text().splitlines() if "| amed" in row]
        assert len(learned) == 2
        assert not [row for row in learned if "missing" in row or "failed" in row]


@pytest.mark.parametrize("name", ["precompute", "fit", "bench_array", "table", "nightly"])
@pytest.mark.parametrize(("option", "field"), [("--mem=300", "MinMemoryNode"), ("--mem-per-cpu=300", "MinMemoryCPU")])
def test_a_job_takes_the_memory_that_is_asked_for(cluster, tmp_path, name, option, field):
    job = submit(cluster, tmp_path, "--hold", option, script(f"{name}.sbatch"), "some.yaml")
    assert job.field(field) == "300M"
    cluster.run("scancel", job.number)
