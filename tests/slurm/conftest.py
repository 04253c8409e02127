"""One cluster, and all that happens on it; where there can be none, its tests are skipped and say why."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from .cluster import Cluster, UnavailableError
from .fits import Fits
from .work import a_store_stopped_three_times, a_sweep_of_which_one_task_is_killed

AT_ONCE = 4
"""Scenes at a time: each has two processes or more, of some 500 MB."""


@pytest.fixture(scope="session")
def cluster(tmp_path_factory):
    try:
        with Cluster(tmp_path_factory.mktemp("slurm")) as running:
            yield running
    except UnavailableError as reason:
        pytest.skip(str(reason))


@pytest.fixture(scope="session")
def outcomes(cluster, tmp_path_factory):
    """Let everything happen, and return what came of each scene, as a future.

    What can happen at the same time does; the eviction and the crash, which hit every job, wait for the others.
    """
    root = tmp_path_factory.mktemp("jobs")
    fits = Fits(cluster, root)
    together = [fits.left_alone, fits.warned, fits.told_to_end_where_that_means_a_requeue]
    together += [fits.cancelled_and_submitted_again, fits.two_in_one_directory]
    together += [
        partial(scene, cluster, root) for scene in (a_store_stopped_three_times, a_sweep_of_which_one_task_is_killed)
    ]
    by_itself = [fits.evicted, fits.on_a_node_that_crashes]
    futures = {}
    for scenes, workers in ((together, AT_ONCE), (by_itself, 1)):
        with ThreadPoolExecutor(workers) as pool:
            futures |= {getattr(scene, "func", scene).__name__: pool.submit(scene) for scene in scenes}
    return futures
