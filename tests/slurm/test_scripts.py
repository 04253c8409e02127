"""The batch scripts without a cluster: what they start, and what they do when it ends."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ..runtime.commands import commands, enter_job

SCRIPTS = Path(__file__).parents[2] / "slurm"
HOME = SCRIPTS.parent
ARGUMENTS = {
    "precompute.sbatch": "precompute --config some.yaml --trainer.devices 2 --trainer.num_nodes 3 --more",
    "fit.sbatch": "fit --config some.yaml --trainer.devices 2 --trainer.num_nodes 3 --more",
    "bench_array.sbatch": "bench run --config some.yaml --output runs/bench --devices 2 --num_nodes 3 --more",
    "nightly.sbatch": "bench nightly --config some.yaml --devices 2 --num_nodes 3 --more",
}


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """A job of six tasks on three nodes, with stand-ins for SLURM's commands."""
    slurm = commands(tmp_path / "bin", monkeypatch)
    slurm.answer("scontrol")
    enter_job(monkeypatch, JOB_NAME="night", JOB_NUM_NODES="3", NTASKS="6", NTASKS_PER_NODE="2", SUBMIT_DIR=str(HOME))
    monkeypatch.delenv("AMED_HOME", raising=False)
    return slurm


def run(name, *words):
    return subprocess.run(["bash", SCRIPTS / name, *words], capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("name", ["job.sh", *ARGUMENTS])
def test_shellcheck_finds_nothing(name):
    program = Path(sys.executable).with_name("shellcheck")
    done = subprocess.run([program, "-x", "-P", HOME, SCRIPTS / name], capture_output=True, text=True)
    assert (done.stdout, done.returncode) == ("", 0)


@pytest.mark.parametrize("name", ARGUMENTS)
def test_every_script_asks_for_what_a_requeue_needs(name):
    options = [line.split(maxsplit=1)[1] for line in (SCRIPTS / name).read_text().splitlines() if "#SBATCH" in line]
    assert "--requeue" in options
    assert "--open-mode=append" in options
    assert any(option.startswith("--signal=USR1@") for option in options)


@pytest.mark.parametrize(("name", "arguments"), ARGUMENTS.items())
def test_a_script_runs_its_verb_on_all_tasks(slurm, monkeypatch, name, arguments):
    array = {"JOB_ID": "9", "TASK_ID": "3", "TASK_MIN": "1", "TASK_COUNT": "4"} if "array" in name else {}
    for variable, value in array.items():
        monkeypatch.setenv(f"SLURM_ARRAY_{variable}", value)
    slurm.answer("srun")
    assert run(name, "some.yaml", "--more").returncode == 0
    assert slurm.calls("srun") == [f"{HOME}/.venv/bin/python -m amed_lightning {arguments}"]
    assert slurm.calls("scontrol") == []


def test_a_container_and_an_interpreter_can_be_named(slurm, monkeypatch):
    slurm.answer("srun")
    monkeypatch.setenv("CONTAINER", "apptainer exec image.sif")
    monkeypatch.setenv("PYTHON", "python3")
    run("precompute.sbatch", "some.yaml")
    (called,) = slurm.calls("srun")
    assert called.startswith("apptainer exec image.sif python3 -m amed_lightning precompute")


class TestEnding:
    @pytest.mark.parametrize(("code", "requeued"), [(0, []), (1, []), (2, []), (137, []), (85, ["requeue 12"])])
    def test_85_alone_is_requeued_and_the_code_is_the_jobs(self, slurm, code, requeued):
        slurm.answer("srun", code=code)
        assert run("fit.sbatch", "some.yaml").returncode == code
        assert slurm.calls("scontrol") == requeued

    def test_a_task_of_an_array_is_requeued_alone(self, slurm, monkeypatch):
        monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "9")
        monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
        slurm.answer("srun", code=85)
        run("precompute.sbatch", "some.yaml")
        assert slurm.calls("scontrol") == ["requeue 9_3"]

    def test_where_the_processes_have_asked_already_a_second_request_does_no_harm(self, slurm):
        slurm.answer("srun", code=85)
        slurm.answer("scontrol", complaint="Job is pending execution for job 12", code=1)
        done = run("fit.sbatch", "some.yaml")
        assert done.returncode == 85
        assert "12: not requeued from here" in done.stderr

    @pytest.mark.parametrize(("asked", "requeued"), [("false", []), ("true", ["requeue 12"])])
    def test_after_term_to_the_processes_it_stays_until_slurm_ends_it(self, slurm, monkeypatch, asked, requeued):
        monkeypatch.setenv("REQUEUE_ON_TERM", asked)
        slurm.answer("srun", code=143)
        script = subprocess.Popen(["bash", SCRIPTS / "fit.sbatch", "some.yaml"])
        try:
            with pytest.raises(subprocess.TimeoutExpired):
                script.wait(3)
            script.send_signal(signal.SIGTERM)
            assert script.wait(10) == 143
        finally:
            script.kill()
        assert slurm.calls("scontrol") == requeued

    def test_it_does_not_stay_for_ever(self, slurm, monkeypatch):
        monkeypatch.setenv("GRACE_SECONDS", "1")
        slurm.answer("srun", code=143)
        assert run("fit.sbatch", "some.yaml").returncode == 143

    @pytest.mark.parametrize(("number", "code"), [(signal.SIGUSR1, 85), (signal.SIGTERM, 143)])
    def test_signals_to_the_script_do_not_end_it_before_its_processes(self, slurm, number, code):
        """``scancel`` sends TERM to both; then nothing is waited for."""
        slurm.answer("srun", code=code)
        (slurm.folder / "srun").write_text(f"#!/bin/sh\ntouch {slurm.folder}/began\nsleep 2\nexit {code}\n")
        script = subprocess.Popen(["bash", SCRIPTS / "fit.sbatch", "some.yaml"])
        try:
            while not (slurm.folder / "began").exists():
                time.sleep(0.05)
            os.kill(script.pid, number)
            assert script.wait(10) == code
        finally:
            script.kill()


def test_two_steps_of_a_job_and_two_jobs_have_ports_of_their_own(slurm, monkeypatch):
    ports = []
    lines = f'. "{SCRIPTS}/job.sh"; step one; echo $MASTER_PORT; step two; echo $MASTER_PORT'
    slurm.answer("srun")
    for job in ("12", "13"):
        monkeypatch.setenv("SLURM_JOB_ID", job)
        ports += subprocess.run(["bash", "-c", lines], capture_output=True, text=True).stdout.split()
    assert len(set(ports)) == 4
    assert all(20000 <= int(port) < 32768 for port in ports)
