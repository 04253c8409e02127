"""What a compiler saves: the seconds of a sample with the network compiled, and with all of the sample, beside neither.

All three are of one run, interleaved round by round; the median ratio counts. The first call of each, which compiles,
has a column of its own. Times are of the processor, and on a device of the clock, with the device waited for.

    python benchmarks/compiled.py --output runs/compiled --batch 1 64
"""

import argparse
from pathlib import Path
from statistics import median
from typing import Any, Literal

import torch
from meters import now, write_csv

from amed_lightning.denoisers.arithmetic import Arithmetic
from amed_lightning.runtime.processes import compute_alike
from amed_lightning.sampling.config import SamplerConfig
from amed_lightning.sampling.parts import build_sampler
from amed_lightning.sampling.sampler import Sampler
from amed_lightning.seeds import Seeds, Stream
from amed_lightning.tensors import Images

COMPILED: tuple[bool | Literal["sampler"], ...] = (False, True, "sampler")


def samplers(nfe: int, device: torch.device) -> list[Sampler]:
    """Return the digits' sampler as it is compiled, in the order of ``COMPILED``."""
    parts = {"name": "digits"}, {"name": "ipndm", "order": 3}, {"name": "time_uniform"}
    return [
        build_sampler(SamplerConfig(*parts, nfe=nfe, arithmetic=Arithmetic(compile=how))).to(device) for how in COMPILED
    ]


def seconds(sampler: Sampler, noise: Images) -> float:
    """Return the seconds of a sample."""
    started = now(noise.device)
    with torch.inference_mode():
        sampler.sample(noise)
    return now(noise.device) - started


def measure(batch: int, nfe: int, repeats: int, device: torch.device) -> list[dict[str, Any]]:
    """Return a row for each way to compile."""
    alike = samplers(nfe, device)
    noise = Seeds(Stream.tuning, 0, batch).noise(alike[0].model.shape).to(device)
    first = [seconds(sampler, noise) for sampler in alike]
    rounds = [[seconds(sampler, noise) for sampler in alike] for _ in range(repeats + 1)][1:]
    context = {"batch": batch, "nfe": nfe, "repeats": repeats, "device": str(device), "torch": torch.__version__}
    return [
        {
            "compile": str(how).lower(),
            "ratio": median(times[place] / times[0] for times in rounds),
            "ms": 1000 * median(times[place] for times in rounds),
            "first_s": first[place],
            **context,
        }
        for place, how in enumerate(COMPILED)
    ]


def main() -> None:
    """Measure, write the rows, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("runs/compiled"), help="folder of the result")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 64], help="samples at once")
    parser.add_argument("--nfe", type=int, default=5, help="network runs per sample")
    parser.add_argument("--repeats", type=int, default=20, help="rounds that count")
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"), help="where to compute")
    arguments = parser.parse_args()
    compute_alike()
    rows = [
        row for batch in arguments.batch for row in measure(batch, arguments.nfe, arguments.repeats, arguments.device)
    ]
    write_csv(rows, arguments.output / "compiled.csv")
    print(f"{'batch':>5}  {'compile':9}{'ratio':>7}{'ms':>9}{'first s':>9}")
    for row in rows:
        print(f"{row['batch']:>5}  {row['compile']:9}{row['ratio']:7.3f}{row['ms']:9.2f}{row['first_s']:9.1f}")


if __name__ == "__main__":
    main()
