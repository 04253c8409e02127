"""Precomputing on two nodes, stopped three times, each time in another way."""

import pytest
import yaml

from ..cli.command import call
from ..teacher.stores import records
from .jobs import script, submit
from .test_fit import FIT

pytestmark = pytest.mark.slurm
SHARDS = 12
"""Of training trajectories; there is one more to validate on."""


def write_config(folder):
    """Write a teacher that takes a second or two for a shard."""
    config = yaml.safe_load(yaml.safe_dump(FIT))
    config["model"]["init_args"]["student"]["model"] = {"name": "digits"}
    teacher = {"solver": {"name": "heun"}, "inner_levels": 3, "batch_size": 64}
    config["data"]["init_args"] |= {"teacher": teacher, "trajectories": 256 * SHARDS}
    folder.mkdir()
    (folder / "fit.yaml").write_text(yaml.safe_dump(config))
    return folder


def shards(folder):
    return sorted(path.parent.name for path in folder.glob("store/*/[tv]*/data.mdb"))


def test_a_job_that_is_stopped_three_times_writes_the_store_of_one_process(cluster, tmp_path, monkeypatch):
    folder, plain = write_config(tmp_path / "job"), write_config(tmp_path / "plain")

    def start():
        return submit(cluster, folder, "--nodes=2", script("precompute.sbatch"), "fit.yaml")

    def more_shards(job):
        count = len(shards(folder))
        job.await_that(lambda: len(shards(folder)) > count, "another shard")
        assert len(shards(folder)) < SHARDS, "too fast to be stopped in between"

    job = start()
    more_shards(job)
    job.signal("USR1")
    job.await_restart(1)
    more_shards(job)
    cluster.run("scontrol", "requeue", job.number)
    job.await_restart(2)
    more_shards(job)
    cluster.run("scancel", "--signal=KILL", f"{job.number}.0")
    assert job.await_end() == "FAILED"
    job = start()
    assert job.await_end() == "COMPLETED", job.output
    assert "complete: store/" in job.output

    monkeypatch.chdir(plain)
    assert call("precompute", "--config", "fit.yaml") == 0
    assert len(shards(plain)) == SHARDS + 1
    assert shards(folder) == shards(plain)
    for one, other in zip(sorted(folder.glob("store/*/[tv]*")), sorted(plain.glob("store/*/[tv]*")), strict=True):
        assert records(one) == records(other)
