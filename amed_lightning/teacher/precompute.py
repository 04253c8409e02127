"""Fill a trajectory store, with any number of processes, from wherever an earlier run stopped."""

import time

import torch

from amed_lightning.flow.model import DiffusionModel
from amed_lightning.runtime.processes import Processes
from amed_lightning.runtime.progress import progress
from amed_lightning.runtime.signals import stop_if_asked
from amed_lightning.seeds import Seeds
from amed_lightning.teacher.store import SHARD_SIZE, TrajectoryStore
from amed_lightning.teacher.trajectories import Trajectories, roll_out

SECONDS_BETWEEN_LOOKS = 0.2


def precompute(
    store: TrajectoryStore, model: DiffusionModel, seeds: list[Seeds], processes: Processes, device: torch.device
) -> None:
    """Write the shards that are missing; return when all are there.

    The missing shards are dealt out once. A process that has done its part looks for the others' files.

    Args:
        store: where to.
        model: the recipe's model, on ``device``.
        seeds: ranges of trajectories to have.
        processes: this process among those that share the work.
        device: where to compute.
    """
    batch_size = store.recipe.batch_size
    missing = processes.broadcast([shard for group in seeds for shard in store.missing(group)])
    mine = missing[processes.global_rank :: processes.world_size]
    if mine:
        with progress("teacher", len(mine) * SHARD_SIZE, "trajectories") as advance:
            for shard in mine:
                stop_if_asked()
                batches = []
                for batch in shard.blocks(batch_size):
                    batches.append(roll_out(model, store.recipe, batch, device))
                    advance(batch_size)
                store.write(shard, _concatenated(batches))
    while any(not store.path(shard).is_dir() for shard in missing):
        stop_if_asked()
        time.sleep(SECONDS_BETWEEN_LOOKS)


def _concatenated(batches: list[Trajectories]) -> Trajectories:
    conditions = [batch.condition for batch in batches if batch.condition is not None]
    return Trajectories(
        torch.cat([batch.states for batch in batches]),
        torch.cat([batch.derivatives for batch in batches]),
        torch.cat([batch.features for batch in batches]),
        torch.cat(conditions) if conditions else None,
        torch.cat([batch.seeds for batch in batches]),
    )
