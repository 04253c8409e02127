"""What a search for a schedule is told; nothing of it needs torch."""

from dataclasses import dataclass, field
from pathlib import Path

from amed_lightning.config import Spec
from amed_lightning.denoisers.arithmetic import Arithmetic
from amed_lightning.noise.found import Metric

TEACHER: Spec = {"name": "ipndm", "order": 4}
FINE_SCHEDULE: Spec = {"name": "polynomial", "rho": 7.0}
FINE_INTERVALS = 60
"""The published search's."""


@dataclass(frozen=True)
class ScheduleSearch:
    """What to search.

    Attributes:
        model: name and options of the denoiser.
        solver: of the student, which decides about the level inserted below an analytic first step.
        num_intervals: jumps to choose; with an analytic first step one more level may be inserted.
        output: where the ``.json`` goes.
        afs: whether student and teacher take the analytic first step.
        teacher: name and options of the fine solver; ``TEACHER`` if there is none.
        schedule: of the fine teacher; ``FINE_SCHEDULE`` if there is none.
        fine_intervals: among whose levels to choose.
        trajectories: to average over, of the tuning stream; a multiple of ``batch_size``.
        batch_size: trajectories per network run.
        metric: what a jump costs, dev as published, l1 or l2.
        gamma: weight of the later costs; 1.15 in the published recipe, 1.1 on others.
        root: folder of the trajectory stores.
        arithmetic: how the network computes.
    """

    model: Spec
    solver: Spec
    num_intervals: int
    output: Path
    afs: bool = False
    teacher: Spec | None = None
    schedule: Spec | None = None
    fine_intervals: int = FINE_INTERVALS
    trajectories: int = 256
    batch_size: int = 256
    metric: Metric = "dev"
    gamma: float = 1.15
    root: Path = Path("runs/trajectories")
    arithmetic: Arithmetic = field(default_factory=Arithmetic)
