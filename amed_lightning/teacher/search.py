"""Search a schedule: run GITS on the trajectories of a store and write the levels that any configuration can name."""

import json
from dataclasses import dataclass, field
from pathlib import Path

import torch

from amed_lightning.config import InputError, Spec, complete, write_atomically
from amed_lightning.denoisers.arithmetic import Arithmetic
from amed_lightning.runtime.processes import Processes
from amed_lightning.sampling.sampler import SamplerConfig, SamplerParts
from amed_lightning.seeds import Seeds, Stream
from amed_lightning.solvers.registry import SOLVERS
from amed_lightning.teacher.gits import Metric, cheapest_path, jump_costs, with_inserted_level
from amed_lightning.teacher.precompute import precompute
from amed_lightning.teacher.store import TrajectoryReader, TrajectoryStore
from amed_lightning.teacher.trajectories import TeacherConfig, recipe_for


@dataclass(frozen=True)
class ScheduleSearch:
    """What to search.

    Attributes:
        model: name and options of the denoiser.
        solver: of the student, which decides about the level inserted below an analytic first step.
        num_intervals: jumps to choose; with an analytic first step one more level may be inserted.
        output: where the ``.json`` goes.
        afs: whether student and teacher take the analytic first step.
        teacher: name and options of the fine solver.
        schedule: of the fine teacher.
        fine_intervals: among whose levels to choose.
        trajectories: to average over, of the tuning stream; a multiple of ``batch_size``.
        batch_size: trajectories per network run.
        metric: what a jump costs.
        gamma: weight of the later costs.
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
    fine_intervals: int = 60
    trajectories: int = 256
    batch_size: int = 256
    metric: Metric = "l2"
    gamma: float = 1.15
    root: Path = Path("runs/trajectories")
    arithmetic: Arithmetic = field(default_factory=Arithmetic)


def search(config: ScheduleSearch, processes: Processes, device: torch.device) -> list[float]:
    """Find the levels and write them, with how they were found.

    Args:
        config: what to search.
        processes: share the teacher's work; rank 0 writes.
        device: where to compute.

    Raises:
        InputError: a part or a number that does not fit.
    """
    if config.trajectories < 1 or config.trajectories % config.batch_size:
        raise InputError(f"trajectories is {config.trajectories}; it must be a multiple of {config.batch_size}")
    fine = config.schedule or {"name": "polynomial"}
    student = config.solver, fine, config.fine_intervals, config.afs
    parts = SamplerParts(SamplerConfig(config.model, *student, arithmetic=config.arithmetic))
    teacher = TeacherConfig(config.teacher or {"name": "ipndm"}, 0, config.batch_size, config.afs)
    store = TrajectoryStore(config.root, recipe_for(parts, teacher))
    seeds = Seeds(Stream.tuning, 0, config.trajectories)
    precompute(store, parts.model.to(device), [seeds], processes, device)

    reader = TrajectoryReader(store, seeds)
    batches = torch.split(torch.arange(len(seeds)), config.batch_size)
    costs = jump_costs((reader.read(batch.tolist()) for batch in batches), parts.sigmas, config.metric)
    try:
        path = cheapest_path(costs, config.num_intervals, config.gamma)
    except ValueError as error:
        raise InputError(str(error)) from error
    if config.afs:
        sampler = parts.sampler(parts.configured_placer())
        path = with_inserted_level(path, sampler, parts.sigmas, reader.read(batches[0].tolist()).to(device))
    reader.close()
    sigmas: list[float] = parts.sigmas[path].tolist()
    if processes.global_rank == 0:
        content = {
            "sigmas": sigmas,
            "indices": path,
            "metric": config.metric,
            "gamma": config.gamma,
            "afs": config.afs,
            "solver": complete("solver", SOLVERS, config.solver),
            "trajectories": config.trajectories,
            "recipe": store.recipe.digest,
        }
        write_atomically(config.output, json.dumps(content, indent=2).encode() + b"\n")
    return sigmas
