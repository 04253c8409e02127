"""Fill a trajectory store, with any number of processes, from wherever an earlier run stopped."""

import sys
import time
from functools import partial

import torch

from amed_lightning.denoisers.interruptible import interruptible
from amed_lightning.flow.model import DiffusionModel
from amed_lightning.runtime.beside import Finish
from amed_lightning.runtime.micro_batches import unhalved
from amed_lightning.runtime.places import require_place
from amed_lightning.runtime.processes import Processes
from amed_lightning.runtime.work import shared
from amed_lightning.seeds import Seeds
from amed_lightning.teacher.store import TrajectoryStore
from amed_lightning.teacher.trajectories import TeacherRecipe, Trajectories, roll_out

_SECONDS_TO_TELL = 5.0
"""A shard that takes longer says how long."""


def precompute(
    store: TrajectoryStore,
    model: DiffusionModel,
    seeds: list[Seeds],
    processes: Processes,
    device: torch.device,
    option: str = "teacher.batch_size",
) -> None:
    """Write the shards that are missing; return when all are there.

    Args:
        store: where to.
        model: the recipe's model, on ``device``.
        seeds: ranges of trajectories to have.
        processes: this process among those that share the work.
        device: where to compute.
        option: that tells the recipe's micro-batch.

    Raises:
        InputError: the store cannot be written, or memory has no room for the recipe's micro-batch.
    """
    heeding = interruptible(model)
    shards = [shard for group in seeds for shard in store.shards(group)]
    if any(not store.path(shard).is_dir() for shard in shards):
        require_place(store.folder, is_folder=True)
    named = {store.path(shard).name: shard for shard in shards}
    with shared(
        "teacher", named, lambda name: (store.folder / name).is_dir(), store.folder, processes, "shards"
    ) as mine:
        for name in mine:
            mine.later(_compute(store, heeding, named[name], device, option))


def _compute(store: TrajectoryStore, model: DiffusionModel, shard: Seeds, device: torch.device, option: str) -> Finish:
    """Compute a shard and return what writes it; it is given up where a signal comes.

    One that takes long says so, because that is what a signal costs.
    """
    batches, began = list(shard.blocks(store.recipe.batch_size)), time.monotonic()
    run = partial(_roll_out, store.recipe, model, device, option)
    rolled = [run(batches[0])]
    if (seconds := (time.monotonic() - began) * len(batches)) > _SECONDS_TO_TELL:
        told = f"teacher: {seconds:.0f} s a shard of {len(shard)} trajectories, which a signal loses"
        print(f"{told} (teacher.shard_size {store.recipe.shard_size})", file=sys.stderr, flush=True)
    rolled += map(run, batches[1:])
    return partial(store.write, shard, rolled)


def _roll_out(
    recipe: TeacherRecipe, model: DiffusionModel, device: torch.device, option: str, batch: Seeds
) -> Trajectories:
    """Run the teacher in micro-batches of the recipe's size and of no other.

    Raises:
        InputError: memory has no room for them.
    """
    return unhalved(lambda size: roll_out(model, recipe, next(batch.blocks(size)), device), recipe.batch_size, option)
