"""SLURM's variables, and its commands through stand-ins; `tests/slurm` has the real ones."""

import pytest

from amed_lightning.config import InputError
from amed_lightning.runtime.processes import launch
from amed_lightning.runtime.slurm import has_ended, job_name, requeue, slurm_environment

from .commands import commands, enter_job


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    return commands(tmp_path / "bin", monkeypatch)


class TestRequeue:
    def test_it_names_the_job(self, slurm, monkeypatch):
        enter_job(monkeypatch)
        slurm.answer("scontrol")
        assert requeue() == "job 12 is requeued"
        assert slurm.calls("scontrol") == ["requeue 12"]

    def test_it_names_the_task_of_an_array_and_not_the_job_that_stands_for_all(self, slurm, monkeypatch):
        enter_job(monkeypatch, ARRAY_JOB_ID="12", ARRAY_TASK_ID="3")
        slurm.answer("scontrol")
        requeue()
        assert slurm.calls("scontrol") == ["requeue 12_3"]

    def test_a_refusal_is_passed_on(self, slurm, monkeypatch):
        enter_job(monkeypatch)
        slurm.answer("scontrol", complaint="slurm_requeue error: Access denied", code=1)
        assert requeue() == "scontrol: slurm_requeue error: Access denied"

    def test_without_scontrol_or_without_a_job_it_says_so(self, monkeypatch):
        monkeypatch.setenv("PATH", "/nowhere")
        enter_job(monkeypatch)
        assert requeue() == "there is no scontrol here"
        monkeypatch.delenv("SLURM_JOB_ID")
        assert requeue() == "not in a SLURM job"
        assert job_name() is None


class TestHasEnded:
    @pytest.mark.parametrize(
        ("answer", "ended"),
        [
            ({"printed": "12 main fit root R 0:10 1 n1"}, False),
            ({}, True),
            ({"complaint": "slurm_load_jobs error: Invalid job id specified", "code": 1}, True),
            ({"complaint": "Unable to contact slurm controller", "code": 1}, False),
        ],
    )
    def test_only_a_job_that_slurm_does_not_know_has(self, slurm, answer, ended):
        slurm.answer("squeue", **answer)
        assert has_ended("12") == ended
        assert slurm.calls("squeue") == ["--noheader --jobs 12"]

    def test_in_doubt_it_has_not(self, monkeypatch):
        monkeypatch.setenv("PATH", "/nowhere")
        assert not has_ended("12")


class TestEnvironment:
    def test_there_is_none_outside_a_job(self):
        assert slurm_environment() == []

    def test_lightning_requeues_nothing(self, monkeypatch):
        enter_job(monkeypatch)
        (environment,) = slurm_environment()
        assert not environment.auto_requeue

    def test_what_torchrun_has_started_in_a_job_is_torchruns(self, monkeypatch):
        enter_job(monkeypatch, NTASKS="2", NTASKS_PER_NODE="2")
        monkeypatch.delenv("SLURM_STEP_ID")
        monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
        assert slurm_environment() == []

    def test_a_process_that_would_wait_for_others_for_ever_is_refused(self, monkeypatch):
        enter_job(monkeypatch, NTASKS="2", NTASKS_PER_NODE="2")
        monkeypatch.delenv("SLURM_STEP_ID")
        for start in (slurm_environment, lambda: launch("cpu", 2)):
            with pytest.raises(InputError, match=r"this job has 2 tasks, .* start it with `srun`"):
                start()

    def test_a_single_process_may_do_without_srun(self, monkeypatch):
        enter_job(monkeypatch, NTASKS="2", NTASKS_PER_NODE="2")
        monkeypatch.delenv("SLURM_STEP_ID")
        assert launch("cpu").world_size == 1
