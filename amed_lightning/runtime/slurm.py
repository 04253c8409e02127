"""What a process needs to know about the SLURM job that it runs in, and asking for another turn."""

import os
import subprocess
from typing import TYPE_CHECKING

from amed_lightning.config import InputError

if TYPE_CHECKING:
    from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment


def slurm_environment() -> "list[ClusterEnvironment]":
    """Return Lightning's plugin for SLURM, without its own requeueing, where there is a job; nothing elsewhere.

    What torchrun has started in a job are torchrun's processes, to Lightning too: SLURM's tasks are only the torchruns.

    Raises:
        InputError: the number of tasks is none; or there are several, and this is a process that ``srun`` has not
            started.
    """
    from lightning.fabric.plugins.environments.slurm import SLURMEnvironment  # seconds, and `doctor` needs none of it
    from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment

    if not SLURMEnvironment.detect() or TorchElasticEnvironment.detect():
        return []
    tasks = number("SLURM_NTASKS", 1)
    if tasks > 1 and "SLURM_STEP_ID" not in os.environ:
        raise InputError(f"this job has {tasks} tasks, and this process would wait for them: start it with `srun`")
    return [SLURMEnvironment(auto_requeue=False)]


def number(variable: str, default: int) -> int:
    """Return the number that one of SLURM's variables has.

    Raises:
        InputError: it has something else.
    """
    written = os.environ.get(variable, "") or str(default)
    if not written.isdecimal():
        raise InputError(f"{variable} is {written!r}, and SLURM sets it to a number; unset it outside of a job")
    return int(written)


def job_name() -> str | None:
    """Return the name by which ``scontrol`` knows this job; a task of an array has two numbers.

    The number of the array's own job would stand for all its tasks.
    """
    if array := os.environ.get("SLURM_ARRAY_JOB_ID"):
        return f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    return os.environ.get("SLURM_JOB_ID")


def requeue() -> str:
    """Ask SLURM to start this job again, if it can be asked from here.

    Returns:
        What came of it, for the log. Where nothing did, the exit code is the batch script's to act on.
    """
    job = job_name()
    if job is None:
        return "not in a SLURM job"
    try:
        asked = _ask("scontrol", "requeue", job)
    except OSError:
        return "there is no scontrol here"
    return f"job {job} is requeued" if asked.returncode == 0 else f"scontrol: {asked.stderr.strip()}"


def has_ended(job: str) -> bool:
    """Whether SLURM says that a job is over; False where it cannot be asked.

    Args:
        job: its name.
    """
    try:
        asked = _ask("squeue", "--noheader", "--jobs", job)
    except OSError:
        return False
    return "Invalid job id" in asked.stderr or (asked.returncode == 0 and not asked.stdout.strip())


def _ask(*command: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command, capture_output=True, text=True, check=False)
