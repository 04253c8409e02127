"""How fast the trajectory store is read: against a plain copy of the same bytes, and beside the steps that wait for it.

Records have CIFAR-10's shape (3x32x32 pixels, 64 features) and hold random numbers; a batch is 128 of them, as in the
published recipe. The plain copies take the same records in the same order from a page-cached file, one ``readinto`` for
neighbours: ``ratio`` is against one that puts each batch into memory of its own, as a batch must be that lives while
the next is read, ``of reused`` against one that fills the same memory again and again, which stays in the processor's
cache. Epochs of store and copies alternate. Each batch is timed, and ratios are those of the medians, which batches
that lost the processor to somebody else hardly move. A first epoch of each warms up, which looks at the checksums too.

``in order``        a store of the student's grid, whole records, in the order of their seeds
``shuffled``        the same in the order of a training epoch
``half precision``  the same in float16, turned into float32
``dense, inside``   a student whose levels are among the store's: pieces of records
``dense, between``  a student whose levels are not: pieces, and the interpolation
``in memory``       the first, read once, batches picked by index
``streamed``        the first, by the loader that reads ahead

The second table is a fit of the digits' predictor: seconds that the Trainer waits for batches, and seconds in steps, of
the host's clock. It may be on a device; what else is read is read into the host's memory.
The third is what the ranks of a job take, all together and one after another, to open the dense store and to read each
its part of it for the first time, checksums included, and again.

    python benchmarks/store_reads.py --output runs/store_reads
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import redirect_stderr
from io import StringIO
from itertools import chain, pairwise
from pathlib import Path
from statistics import median
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.profilers import SimpleProfiler

from amed_lightning.cli.training import distillation
from amed_lightning.noise.schedules import Logsnr, NoiseRange, Polynomial, levels
from amed_lightning.runtime.processes import compute_alike
from amed_lightning.runtime.shipped import recipe
from amed_lightning.seeds import Seeds, Stream
from amed_lightning.teacher.store import TrajectoryReader, TrajectoryStore
from amed_lightning.teacher.trajectories import SHARD_SIZE, TeacherRecipe, Trajectories
from amed_lightning.training.loading import InMemory, ReadAhead, Streamed

SHAPE, FEATURE_SIZE, NUM_INTERVALS, DENSE_INTERVALS = (3, 32, 32), 64, 3, 18
RANGE = NoiseRange(0.002, 80.0)
INSIDE, BETWEEN = (levels(schedule, NUM_INTERVALS, RANGE) for schedule in (Polynomial(), Logsnr()))
RANKS = 1, 2, 64
IN_ORDER, REQUIRED = "in order", 0.8
"""What is to reach which part of the plain copy's speed: whole records, in order and shuffled."""
FIT = "digits/amed-5"

Epoch = Callable[[list[list[int]]], Iterable[object]]
"""Reads one batch after another."""


def filled(root: Path, num_intervals: int, dtype: str, shards: int) -> TrajectoryStore:
    """Return a store of random numbers."""
    sigmas = tuple(levels(Polynomial(), num_intervals, RANGE).tolist())
    solver, classes = {"name": "heun"}, 10
    recipe = TeacherRecipe("random", SHAPE, FEATURE_SIZE, classes, solver, sigmas, num_intervals, 64, dtype=dtype)
    store, generator = TrajectoryStore(root, recipe), torch.Generator().manual_seed(0)
    for shard in Seeds(Stream.training, 0, shards * SHARD_SIZE).blocks(SHARD_SIZE):
        shapes = ((num_intervals + 1, *SHAPE), (num_intervals, *SHAPE), (num_intervals, FEATURE_SIZE))
        parts = [torch.randn(SHARD_SIZE, *shape, generator=generator) for shape in shapes]
        labels = torch.randint(classes, (SHARD_SIZE,), generator=generator)
        store.write(shard, [Trajectories(*parts, labels, torch.arange(shard.start, shard.stop))])
    return store


def cases(folder: Path, shards: int) -> Iterator[tuple[str, TrajectoryReader, Epoch]]:
    """Yield each way to read: its name, its reader, and what goes through an epoch."""
    seeds = Seeds(Stream.training, 0, shards * SHARD_SIZE)
    own, half = (filled(folder, NUM_INTERVALS, dtype, shards) for dtype in ("float32", "float16"))
    dense = filled(folder, DENSE_INTERVALS, "float32", shards)
    for name, store, sigmas in (
        (IN_ORDER, own, INSIDE),
        ("shuffled", own, INSIDE),
        ("half precision", half, INSIDE),
        ("dense, inside", dense, INSIDE),
        ("dense, between", dense, BETWEEN),
    ):
        reader = TrajectoryReader(store, seeds, sigmas)
        yield name, reader, lambda batches, reader=reader: map(reader.read, batches)
        reader.close()
    reader = TrajectoryReader(own, seeds, INSIDE)
    memory = InMemory(reader, torch.device("cpu"))
    yield "in memory", reader, lambda batches: map(memory.__getitem__, batches)
    yield "streamed", reader, lambda batches: ReadAhead(Streamed(reader), batch_size=None, sampler=batches)


def seconds(batches: Iterable[object]) -> list[float]:
    """Return how long each batch took, after the first."""
    arriving = iter(batches)
    next(arriving)
    ticks = [time.perf_counter(), *(time.perf_counter() for _ in arriving)]
    return [after - before for before, after in pairwise(ticks)]


def plain_copy(path: Path, row_bytes: int, batches: Iterable[list[int]], reuse: bool) -> Iterator[object]:
    """Copy the same records from a file, one batch after another, into one buffer or each into its own."""
    buffer = None
    with path.open("rb", buffering=0) as file:
        for batch in batches:
            if buffer is None or not reuse:
                buffer = np.empty(len(batch) * row_bytes, dtype=np.uint8)
            in_order = batch == list(range(batch[0], batch[0] + len(batch)))
            for place, first in enumerate(batch[:1] if in_order else batch):
                file.seek(first * row_bytes)
                file.readinto(buffer if in_order else buffer[place * row_bytes : (place + 1) * row_bytes])
            yield buffer


def reads(folder: Path, shards: int, batch: int, repeats: int) -> Iterator[dict[str, Any]]:
    """Yield a row per way to read."""
    for name, reader, epoch in cases(folder, shards):
        path, row_bytes, in_order = folder / "plain", reader.view.row_bytes, torch.arange(len(reader))
        with path.open("wb") as file:
            for part in in_order.split(batch):
                file.write(reader.rows(part.tolist()).numpy().tobytes())
        times: list[list[list[float]]] = []
        for number in range(repeats + 1):
            order = torch.randperm(len(reader), generator=torch.Generator().manual_seed(number))
            batches = [part.tolist() for part in (in_order if name == IN_ORDER else order).split(batch)]
            copies = [plain_copy(path, row_bytes, batches, reuse) for reuse in (False, True)]
            times.append([seconds(way) for way in (*copies, epoch(batches))])
        copied, reused, read = (median(chain.from_iterable(way)) for way in zip(*times[1:], strict=True))
        gigabytes = batch * row_bytes / 1e9
        yield {
            "way": name,
            "kib_per_trajectory": row_bytes / 1024,
            "ratio": copied / read,
            "ratio_of_reused": reused / read,
            "read_gb_per_second": gigabytes / read,
            "plain_gb_per_second": gigabytes / copied,
            "reused_gb_per_second": gigabytes / reused,
        }


def waits(folder: Path, epochs: int, device: torch.device) -> Iterator[dict[str, Any]]:
    """Yield, for trajectories in memory and streamed, what a fit on digits waits for them."""
    for way, share in (("in memory", 0.5), ("streamed", 0.0)):
        options = [f"--data.root={folder}/store", f"--data.memory_share={share}"]
        with redirect_stderr(StringIO()):
            module, data, _ = distillation([*recipe(FIT), *options])
        profiler = SimpleProfiler()
        silent = {"logger": False, "enable_checkpointing": False, "enable_model_summary": False}
        trainer = pl.Trainer(
            accelerator=device.type, max_epochs=epochs, profiler=profiler, use_distributed_sampler=False,
            default_root_dir=folder, enable_progress_bar=False, num_sanity_val_steps=0, **silent,
        )  # fmt: skip
        trainer.fit(module, data)
        durations = profiler.recorded_durations
        waited = durations["[_TrainingEpochLoop].train_dataloader_next"]
        moved = durations["[Strategy]SingleDeviceStrategy.batch_to_device"]
        steps = durations["run_training_batch"]
        yield {
            "way": way,
            "batches": len(steps),
            "first_wait_seconds": waited[0],
            "wait_seconds": sum(waited[1:]) + sum(moved),
            "step_seconds": sum(steps),
            "share": (sum(waited[1:]) + sum(moved)) / sum(steps),
        }


def openings(folder: Path, shards: int, batch: int) -> Iterator[dict[str, float]]:
    """Yield the processor's seconds of all ranks of a job, for each number of them."""
    store, seeds = filled(folder, DENSE_INTERVALS, "float32", shards), Seeds(Stream.training, 0, shards * SHARD_SIZE)
    for ranks in RANKS:
        times = [0.0, 0.0, 0.0]
        for rank in range(ranks):
            ticks = [time.process_time()]
            reader, mine = TrajectoryReader(store, seeds), torch.arange(rank, len(seeds), ranks)
            ticks.append(time.process_time())
            for _ in range(2):
                for part in mine.split(batch):
                    reader.rows(part.tolist())
                ticks.append(time.process_time())
            reader.close()
            times = [time + after - before for time, (before, after) in zip(times, pairwise(ticks), strict=True)]
        gib = len(seeds) * reader.view.row_bytes / 2**30
        yield {"ranks": ranks, "gib": gib} | dict(zip(("open", "first", "again"), times, strict=True))


def main() -> None:
    """Measure, write the rows, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("runs/store_reads"), help="folder of the result")
    parser.add_argument("--shards", type=int, default=4, help="of 256 trajectories each, in each store")
    parser.add_argument("--batch", type=int, default=128, help="trajectories per batch")
    parser.add_argument("--repeats", type=int, default=50, help="epochs that count")
    parser.add_argument("--epochs", type=int, default=2, help="of the fit on digits")
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"), help="where that fit computes")
    arguments = parser.parse_args()
    compute_alike()
    arguments.output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=arguments.output) as folder:
        read = list(reads(Path(folder), arguments.shards, arguments.batch, arguments.repeats))
        waited = list(waits(Path(folder), arguments.epochs, arguments.device))
        opened = list(openings(Path(folder), arguments.shards, arguments.batch))
    protocol = {"shape": SHAPE, "threads": torch.get_num_threads(), "torch": torch.__version__}
    options = {name: value for name, value in vars(arguments).items() if name not in ("output", "device")}
    options["device"] = str(arguments.device)
    result = {"reads": read, "required": REQUIRED, "waits": waited, "openings": opened, **protocol, **options}
    (arguments.output / "store_reads.json").write_text(json.dumps(result, indent=2) + "\n")
    print(f"{'way':16}{'KiB each':>10}{'ratio':>8}{'of reused':>11}{'GB/s':>7}{'plain':>7}{'reused':>8}")
    for row in read:
        ratios = f"{row['ratio']:8.2f}{row['ratio_of_reused']:11.2f}"
        copies = f"{row['plain_gb_per_second']:7.1f}{row['reused_gb_per_second']:8.1f}"
        print(f"{row['way']:16}{row['kib_per_trajectory']:10.1f}{ratios}{row['read_gb_per_second']:7.1f}{copies}")
    met = all(row["ratio"] >= REQUIRED for row in read[:2])
    print(f"ratio required of the first two: {REQUIRED}, {'met' if met else 'MISSED'}")
    for row in waited:
        waiting = f"waits {row['wait_seconds']:.3f} s beside {row['step_seconds']:.2f} s of steps ({row['share']:.2%})"
        print(f"digits, {row['way']}: {waiting}, the first batch apart ({row['first_wait_seconds']:.3f} s)")
    for row in opened:
        parts = ", ".join(f"{name} {row[name]:.3f} s" for name in ("open", "first", "again"))
        print(f"{row['gib']:.2f} GiB on {row['ranks']} ranks, all together: {parts}")


if __name__ == "__main__":
    main()
