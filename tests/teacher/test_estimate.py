"""The estimate says what filling the store then takes, and writes nothing."""

from dataclasses import replace

import pytest
import torch

from amed_lightning.seeds import Seeds, Stream
from amed_lightning.teacher.estimate import Estimate, estimate
from amed_lightning.teacher.store import TrajectoryStore
from amed_lightning.teacher.trajectories import SHARD_SIZE, Trajectories, recipe_for

from ..sampling.models import mixture, watched
from .stores import CPU, fill, parts_of, store_of, teacher, training

WANTED = [training(0, 300), Seeds(Stream.validation, 0, 10)]


@pytest.mark.parametrize("solver", ["heun", "ipndm", "unipc", "dpm_solver_2"])
def test_it_counts_the_records_and_the_network_runs_that_filling_takes(tmp_path, solver):
    store = TrajectoryStore(tmp_path, recipe_for(parts_of(), teacher(solver={"name": solver}, inner_levels=2)))
    told = estimate(store, mixture(), WANTED, 1, CPU)
    assert not any(tmp_path.iterdir())
    model, calls = watched(mixture())
    fill(store, *WANTED, model=model)
    assert told.records == sum(map(len, (shard for seeds in WANTED for shard in store.shards(seeds))))
    assert told.records * told.runs_per_trajectory == sum(calls.sizes)


def test_it_counts_a_guided_evaluation_twice(tmp_path):
    model, calls = watched(mixture())
    calls.cost = 2
    assert estimate(store_of(tmp_path), model, WANTED, 1, CPU).runs_per_trajectory == 2 * 12


def test_it_counts_what_is_missing_only(tmp_path):
    store = store_of(tmp_path)
    fill(store, training(0, SHARD_SIZE))
    assert estimate(store, mixture(), WANTED, 1, CPU).records == 2 * 64
    fill(store, *WANTED)
    model, calls = watched(mixture())
    told = estimate(store, model, WANTED, 1, CPU)
    assert (told.records, told.bytes_on_disk, told.seconds) == (0, 0, 0.0)
    assert calls.sizes == []


def test_the_time_is_that_of_the_batches_of_the_busiest_process(tmp_path, monkeypatch):
    monkeypatch.setattr("amed_lightning.teacher.estimate._seconds_per_call", lambda *_: 0.5)
    seconds = [estimate(store_of(tmp_path), mixture(), WANTED, world_size, CPU).seconds for world_size in (1, 2, 3, 8)]
    one_shard = 4 * 12 * 0.5
    assert seconds == [3 * one_shard, 2 * one_shard, one_shard, one_shard]


@pytest.mark.parametrize("feature_size", [1, 200, 250, 502, 503, 770, 1017, 1018, 3000])
def test_a_shard_takes_the_bytes_that_it_says(tmp_path, feature_size):
    """Records on both sides of what LMDB still fits into a page that they share, and of a page and two pages."""
    recipe = replace(recipe_for(parts_of(num_intervals=1), teacher()), feature_size=feature_size, shape=(1, 1, 1))
    store = TrajectoryStore(tmp_path, recipe)
    numbers = torch.zeros(SHARD_SIZE, 2, 1, 1, 1)
    shard = training(0, SHARD_SIZE)
    features = torch.zeros(SHARD_SIZE, 1, feature_size)
    store.write(shard, [Trajectories(numbers, numbers[:, :1], features, None, torch.arange(SHARD_SIZE))])
    assert (store.path(shard) / "data.mdb").stat().st_size == store.shard_bytes(shard)


def test_it_says_everything_in_four_lines():
    assert Estimate(512, 3 * 2**20, 12, 61.3, 30.71).lines() == [
        "records: 512",
        "disk: 3.0 MiB",
        "network runs: 6144 (12 per trajectory)",
        "time: about 61 s, and 30.7 s a shard (teacher.shard_size)",
    ]
