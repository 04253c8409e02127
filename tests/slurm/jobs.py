"""Jobs of the cluster: submitted, looked at, signalled."""

import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .cluster import Cluster, wait_until

HOME = Path(__file__).parents[2]
SHORT = "--time=00:20:00"
SECONDS = 300
"""How long anything may take; the machine may be busy."""


@dataclass
class Job:
    """A job, and the folder that it was submitted in."""

    cluster: Cluster
    folder: Path
    number: str

    def field(self, name: str) -> str:
        """Return what SLURM says about the job."""
        shown = self.cluster.run("scontrol", "show", "job", self.number, "-o")
        return re.search(rf"\b{name}=(\S*)", shown)[1]

    def task(self, number: int) -> "Job":
        """Return a task of an array."""
        return Job(self.cluster, self.folder, f"{self.number}_{number}")

    @property
    def state(self) -> str:
        return self.field("JobState")

    @property
    def restarts(self) -> int:
        return int(self.field("Restarts"))

    def signal(self, name: str, *options: str) -> None:
        """Send a signal to the processes of the job's steps."""
        self.cluster.run("scancel", f"--signal={name}", *options, self.number)

    def await_state(self, *states: str) -> str:
        self.await_that(lambda: self.state in states, f"job {self.number} to be {' or '.join(states)}")
        return self.state

    def await_restart(self, count: int) -> None:
        self.await_that(
            lambda: self.restarts == count and self.state == "RUNNING", f"restart {count} of job {self.number}"
        )

    def await_end(self) -> str:
        """Wait until the job is over, and return how it ended."""
        return self.await_state("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL")

    def await_that(self, holds: Callable[[], bool], what: str) -> None:
        try:
            wait_until(holds, what, self.cluster.folder, SECONDS, pause=0.5)
        except TimeoutError as error:
            raise TimeoutError(f"{error}\n{self.cluster.run('squeue', '-a')}\n{self.output}") from None

    @property
    def output(self) -> str:
        """What the job has printed so far, in all its starts."""
        return "\n".join(path.read_text() for path in self.folder.glob(f"*-{self.number}*.out"))


def submit(cluster: Cluster, folder: Path, *words: str | Path) -> Job:
    """Submit one of the project's scripts, or a command.

    Args:
        cluster: where.
        folder: to submit it in.
        words: options of sbatch, ``--wrap`` among them or else the script below ``slurm/`` and its arguments.
    """
    number = cluster.run("sbatch", "--parsable", SHORT, *words, cwd=folder, variables=variables())
    return Job(cluster, folder, number.strip())


def variables() -> dict[str, str]:
    """Return what the scripts need to know where they are not submitted from a checkout."""
    return {"AMED_HOME": str(HOME), "PYTHON": sys.executable, "PYTHONPATH": str(HOME)}


def script(name: str) -> Path:
    return HOME / "slurm" / name
