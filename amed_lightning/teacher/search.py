"""Search a schedule: run GITS on the trajectories of a store and write the levels that any configuration can name."""

import json
import math
from dataclasses import asdict

import torch

from amed_lightning.config import InputError, complete, write_atomically
from amed_lightning.noise.found import Found
from amed_lightning.noise.schedules import SCHEDULES
from amed_lightning.runtime.processes import Processes
from amed_lightning.sampling.config import SamplerConfig
from amed_lightning.sampling.parts import SamplerParts
from amed_lightning.seeds import Seeds, Stream
from amed_lightning.teacher.gits import cheapest_path, jump_costs, with_inserted_level
from amed_lightning.teacher.precompute import precompute
from amed_lightning.teacher.store import TrajectoryReader, TrajectoryStore
from amed_lightning.teacher.trajectories import TeacherConfig, recipe_for
from amed_lightning.teacher.wanted import FINE_SCHEDULE, TEACHER, ScheduleSearch


def search(config: ScheduleSearch, processes: Processes, device: torch.device) -> list[float]:
    """Find the levels and write them, with how they were found.

    Args:
        config: what to search.
        processes: share the teacher's work; rank 0 writes.
        device: where to compute.

    Raises:
        InputError: a part or a number that does not fit.
    """
    fine, teacher = _grid(config), TeacherConfig(config.teacher or TEACHER, 0, config.batch_size, config.afs)
    store = TrajectoryStore(config.root, recipe_for(fine, teacher))
    seeds = Seeds(Stream.tuning, 0, config.trajectories)
    precompute(store, fine.model.to(device), [seeds], processes, device, "search.batch_size")

    path = _chosen(config, fine, TrajectoryReader(store, seeds), device)
    found = Found(
        sigmas=tuple(fine.sigmas[path].tolist()),
        indices=tuple(path),
        metric=config.metric,
        gamma=config.gamma,
        afs=config.afs,
        model=fine.model.digest,
        solver=fine.purpose["solver"],
        teacher=store.recipe.solver,
        schedule=complete("schedule", SCHEDULES, fine.config.schedule),
        fine_intervals=config.fine_intervals,
        trajectories=config.trajectories,
        recipe=store.recipe.digest,
    )
    if processes.global_rank == 0:
        write_atomically(config.output, json.dumps(asdict(found), indent=2).encode() + b"\n")
    return list(found.sigmas)


def _chosen(config: ScheduleSearch, fine: SamplerParts, reader: TrajectoryReader, device: torch.device) -> list[int]:
    """Return the indices of the chosen levels, with the one that an analytic first step inserts."""
    batches = torch.split(torch.arange(config.trajectories), config.batch_size)
    costs = jump_costs((reader.read(batch.tolist()) for batch in batches), fine.sigmas, config.metric)
    try:
        path = cheapest_path(costs, config.num_intervals, config.gamma)
    except ValueError as error:
        raise InputError(f"{reader.store.folder}: {error}") from error
    if config.afs:
        sampler = fine.configured()
        path = with_inserted_level(path, sampler, fine.sigmas, reader.read(batches[0].tolist()).to(device))
    reader.close()
    return path


def _grid(config: ScheduleSearch) -> SamplerParts:
    """Check the numbers before anything is computed, and return the student's parts on the fine teacher's levels."""
    if config.trajectories < 1 or config.trajectories % config.batch_size:
        raise InputError(f"trajectories is {config.trajectories}; it must be a multiple of {config.batch_size}")
    if not 1 <= config.num_intervals <= config.fine_intervals:
        raise InputError(
            f"num_intervals {config.num_intervals} cannot be chosen among fine_intervals {config.fine_intervals}"
        )
    if not 0 < config.gamma < math.inf:
        raise InputError(f"gamma is {config.gamma}; it must be above zero and finite")
    schedule = config.schedule or FINE_SCHEDULE
    student = config.solver, schedule, config.fine_intervals, config.afs
    fine = SamplerParts(SamplerConfig(config.model, *student, arithmetic=config.arithmetic))
    start, largest = float(fine.sigmas[0]), fine.model.noise_range.sigma_max
    if start != largest:
        raise InputError(
            f"schedule {schedule}: it starts at {start:g}, and what is chosen from it has to start at the model's "
            f"{largest:g}; take form: textbook"
        )
    return fine
