"""All that happens to jobs on the cluster, and how fits are compared."""

from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .cluster import Cluster
from .fits import Fits
from .kit import a_table_of_which_a_fit_fails_at_first
from .work import a_store_stopped_twice, a_sweep_of_which_one_task_is_killed

AT_ONCE = 4
"""Scenes at a time: each has two processes or more, of some 500 MB."""
QUICK = ("started_by_torchrun", "warned", "evicted_and_later_on_a_node_that_crashes")
"""What happens to fits that end like one left alone; the others, for `make stress`, are of the same kinds."""
OTHERS = ("told_to_end_where_that_means_a_requeue", "cancelled_and_submitted_again")


def happen(cluster: Cluster, root: Path, others: tuple[str, ...] = ()) -> dict[str, Future[Any]]:
    """Let everything happen once, and return what came of each scene.

    What can happen at the same time does; the eviction and the crash, which hit every job, wait for the others.
    """
    fits = Fits(cluster, root)
    together = [fits.left_alone, fits.warned, fits.started_by_torchrun, fits.two_in_one_directory]
    together += [getattr(fits, name) for name in others]
    work = (a_table_of_which_a_fit_fails_at_first, a_store_stopped_twice, a_sweep_of_which_one_task_is_killed)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        futures = {scene.__name__: pool.submit(partial(scene, cluster, root)) for scene in work}
        futures |= {scene.__name__: pool.submit(scene) for scene in together}
    with ThreadPoolExecutor(1) as pool:
        last = fits.evicted_and_later_on_a_node_that_crashes
        return futures | {last.__name__: pool.submit(last)}


def weights(folder: Path) -> dict[str, Tensor]:
    """Return the bytes of a run's exported predictor, and all tensors of its last checkpoint."""
    run = folder / "runs" / "run"
    checkpoint = torch.load(run / "last.ckpt", weights_only=True)
    exported = torch.frombuffer(bytearray((run / "predictor.safetensors").read_bytes()), dtype=torch.uint8)
    tensors = dict(checkpoint["state_dict"]) | {"exported": exported}
    for index, state in checkpoint["optimizer_states"][0]["state"].items():
        tensors |= {f"{index}.{name}": value for name, value in state.items()}
    return tensors


def assert_equal_fits(one: Path, other: Path) -> None:
    mine, theirs = weights(one), weights(other)
    assert mine.keys() == theirs.keys()
    for name, value in mine.items():
        assert value.equal(theirs[name]), name
