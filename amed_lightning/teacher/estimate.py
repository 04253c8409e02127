"""What a store will take before it is filled: records, bytes, network runs, time."""

import time
from dataclasses import dataclass, field, replace
from functools import partial

import torch

from amed_lightning.flow.model import Condition, Denoised, DiffusionModel
from amed_lightning.runtime.micro_batches import unhalved
from amed_lightning.seeds import Seeds, Stream
from amed_lightning.teacher.store import TrajectoryStore
from amed_lightning.teacher.trajectories import roll_out
from amed_lightning.tensors import Images, Level


@dataclass
class _Calls:
    """A denoiser that counts its calls and answers them all with zeros."""

    feature_size: int
    cost: int
    count: int = field(default=0)

    def __call__(self, x: Images, sigma: Level, condition: Condition | None) -> Denoised:
        self.count += 1
        return Denoised(torch.zeros_like(x), x.new_zeros(len(x), self.feature_size))


@dataclass(frozen=True)
class Estimate:
    """What the missing shards of a store will take.

    Attributes:
        records: to compute.
        bytes_on_disk: of their shards.
        runs_per_trajectory: of the network.
        seconds: of the network, shared by the processes.
        seconds_per_shard: of one process for one, which is lost where it is interrupted.
    """

    records: int
    bytes_on_disk: int
    runs_per_trajectory: int
    seconds: float
    seconds_per_shard: float

    def lines(self) -> list[str]:
        """Say it."""
        runs = self.records * self.runs_per_trajectory
        return [
            f"records: {self.records}",
            f"disk: {self.bytes_on_disk / 2**20:.1f} MiB",
            f"network runs: {runs} ({self.runs_per_trajectory} per trajectory)",
            f"time: about {self.seconds:.0f} s, and {self.seconds_per_shard:.3g} s a shard (teacher.shard_size)",
        ]


def estimate(
    store: TrajectoryStore, model: DiffusionModel, seeds: list[Seeds], world_size: int, device: torch.device
) -> Estimate:
    """Count what is missing and time the network on one batch; nothing is written.

    Args:
        store: to be filled.
        model: the recipe's model, on ``device``.
        seeds: ranges of trajectories to have.
        world_size: processes among which whole shards are dealt out.
        device: where to compute.

    Raises:
        InputError: memory has no room for the recipe's micro-batch.
    """
    recipe = store.recipe
    missing = [shard for group in seeds for shard in store.missing(group)]
    records = sum(map(len, missing))
    calls = _Calls(recipe.feature_size, model.denoiser.cost)
    roll_out(replace(model, denoiser=calls), recipe, Seeds(Stream.training, 0, 1), torch.device("cpu"))
    seconds = partial(_seconds_per_call, store, model, device)
    per_batch = calls.count * (unhalved(seconds, recipe.batch_size, "teacher.batch_size") if missing else 0.0)
    per_shard = max(map(len, missing), default=0) // recipe.batch_size * per_batch
    return Estimate(
        records,
        sum(map(store.shard_bytes, missing)),
        calls.count * model.denoiser.cost,
        -(-len(missing) // world_size) * per_shard,
        per_shard,
    )


def _seconds_per_call(store: TrajectoryStore, model: DiffusionModel, device: torch.device, batch_size: int) -> float:
    """Time a call of the denoiser on a batch, after one that warms up."""
    batch = Seeds(Stream.training, 0, batch_size)
    sigma = torch.tensor(store.recipe.sigmas[0], dtype=torch.float64, device=device)
    x = batch.noise(model.shape).to(device, model.state_dtype)
    x = x * sigma.to(x)
    condition = model.condition_for(batch)
    started = 0.0
    with torch.inference_mode():
        for _ in range(2):
            started = time.perf_counter()
            model.denoiser(x, sigma, None if condition is None else condition.to(device)).features.cpu()
    return time.perf_counter() - started
