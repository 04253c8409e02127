"""What page faults cost: processor seconds of sampling with glibc as it is, and told to keep large blocks.

    python benchmarks/allocator.py [model] [images]

Each way in processes of its own, in turn, the least of three; the sums of the images must be equal.
"""

import subprocess
import sys

MEASURED = """
import resource, sys
import torch
from amed_lightning.runtime.allocator import keep_large_blocks
from amed_lightning.sampling.config import SamplerConfig
from amed_lightning.sampling.images import generate
from amed_lightning.sampling.parts import build_sampler
from amed_lightning.seeds import Seeds, Stream

way, model, images = sys.argv[1:]
if way == "kept":
    keep_large_blocks()
sampler = build_sampler(SamplerConfig({"name": model}, {"name": "ipndm", "order": 3}, {"name": "time_uniform"}, 8))
before = resource.getrusage(resource.RUSAGE_SELF)
seeds = Seeds(Stream.tuning, 0, int(images))
total = sum(float(batch.images.double().sum()) for batch in generate(sampler, seeds, 256, torch.device("cpu")))
after = resource.getrusage(resource.RUSAGE_SELF)
user, system = after.ru_utime - before.ru_utime, after.ru_stime - before.ru_stime
print(user, system, after.ru_minflt - before.ru_minflt, total)
"""
WAYS = ("as it is", "kept")


def main(model: str = "digits", images: str = "2304") -> None:
    """Measure both ways, and print them side by side."""
    best: dict[str, list[float]] = {}
    for _ in range(3):
        for way in WAYS:
            command = [sys.executable, "-c", MEASURED, way, model, images]
            found = [float(word) for word in subprocess.check_output(command, text=True).split()]
            best[way] = min(best.get(way, found), found, key=lambda each: each[0] + each[1])
    for way, (user, system, faults, _) in best.items():
        print(f"{way:<10} user {user:.2f} s, system {system:.2f} s, {faults:,.0f} page faults")
    first, second = (sum(best[way][:2]) for way in WAYS)
    assert best[WAYS[0]][3] == best[WAYS[1]][3], "the images differ"
    print(f"kept / as it is: {second / first:.2f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
