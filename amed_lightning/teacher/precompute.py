"""Fill a trajectory store, with any number of processes, from wherever an earlier run stopped."""

from functools import partial

import torch

from amed_lightning.flow.model import DiffusionModel
from amed_lightning.runtime.places import require_place
from amed_lightning.runtime.processes import Processes
from amed_lightning.runtime.signals import stop_if_asked
from amed_lightning.runtime.work import share
from amed_lightning.seeds import Seeds
from amed_lightning.teacher.store import TrajectoryStore
from amed_lightning.teacher.trajectories import Trajectories, roll_out


def precompute(
    store: TrajectoryStore, model: DiffusionModel, seeds: list[Seeds], processes: Processes, device: torch.device
) -> None:
    """Write the shards that are missing; return when all are there.

    Args:
        store: where to.
        model: the recipe's model, on ``device``.
        seeds: ranges of trajectories to have.
        processes: this process among those that share the work.
        device: where to compute.

    Raises:
        InputError: the store cannot be written.
    """
    shards = [shard for group in seeds for shard in store.shards(group)]
    if any(not store.path(shard).is_dir() for shard in shards):
        require_place(store.folder, is_folder=True)
    make = {store.path(shard).name: partial(_compute, store, model, shard, device) for shard in shards}
    share("teacher", make, lambda name: (store.folder / name).is_dir(), store.folder, processes, "shards")


def _compute(store: TrajectoryStore, model: DiffusionModel, shard: Seeds, device: torch.device) -> None:
    """Write a shard; it is given up where a signal comes between two of its batches."""
    batches = []
    for batch in shard.blocks(store.recipe.batch_size):
        stop_if_asked()
        batches.append(roll_out(model, store.recipe, batch, device))
    store.write(shard, _concatenated(batches))


def _concatenated(batches: list[Trajectories]) -> Trajectories:
    conditions = [batch.condition for batch in batches if batch.condition is not None]
    return Trajectories(
        torch.cat([batch.states for batch in batches]),
        torch.cat([batch.derivatives for batch in batches]),
        torch.cat([batch.features for batch in batches]),
        torch.cat(conditions) if conditions else None,
        torch.cat([batch.seeds for batch in batches]),
    )
