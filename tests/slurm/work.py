"""Precomputing and sweeping: work in blocks, stopped in between."""

import yaml

from ..bench.suites import PLAIN
from .fits import FIT
from .jobs import script, submit

SHARDS = 8
"""Of training trajectories; there is one more to validate on."""
BLOCKS = 4
NFE = (26, 28, 30)
GAPS = "3-7:4"


def shards(folder):
    return sorted(path.parent.name for path in folder.glob("store/*/[tv]*/data.mdb"))


def write_fit(folder, count=SHARDS):
    """Write a teacher that takes a second or two for a shard, and how many shards of its trajectories."""
    config = yaml.safe_load(yaml.safe_dump(FIT))
    config["model"]["init_args"]["student"]["model"] = {"name": "digits"}
    teacher = {"solver": {"name": "heun"}, "inner_levels": 3, "batch_size": 64}
    config["data"]["init_args"] |= {"teacher": teacher, "trajectories": 256 * count}
    (folder / "fit.yaml").write_text(yaml.safe_dump(config))


def a_store_stopped_twice(cluster, root):
    """Warn and kill a job that precomputes; return its folder."""
    folder = root / "store"
    folder.mkdir()
    write_fit(folder)

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
    cluster.run("scancel", "--signal=KILL", f"{job.number}.0")
    assert job.await_end() == "FAILED"
    job = start()
    assert job.await_end() == "COMPLETED", job.output
    assert "complete: store/" in job.output
    return folder


def write_suite(folder):
    """Write a suite whose blocks take a second or so."""
    dataset = PLAIN["datasets"][0] | {"model": {"name": "digits"}}
    entries = [{"solver": {"name": "heun"}, "schedules": [{"name": "logsnr"}], "nfe": list(NFE)}]
    sizes = {"num_blocks": BLOCKS, "block_size": 96, "batch_size": 48}
    (folder / "suite.yaml").write_text(yaml.safe_dump(PLAIN | {"datasets": [dataset], "entries": entries} | sizes))


def a_sweep_of_which_one_task_is_killed(cluster, root):
    """Sweep with an array of two processes a task, whose numbers have gaps; return the folder."""
    folder = root / "sweep"
    folder.mkdir()
    write_suite(folder)
    words = (f"--array={GAPS}", "--ntasks-per-node=2", script("bench_array.sbatch"), "suite.yaml")
    array = submit(cluster, folder, *words)
    tasks = [array.task(number) for number in (3, 7)]
    tasks[1].await_that(lambda: any(folder.glob("runs/bench/*/blocks/*")), "a block")
    assert tasks[1].state == "RUNNING", "too fast to be killed in between"
    cluster.run("scontrol", "requeue", tasks[1].number)
    for task in tasks:
        assert task.await_end() == "COMPLETED", task.output
    assert [task.restarts for task in tasks] == [0, 1]
    return folder
