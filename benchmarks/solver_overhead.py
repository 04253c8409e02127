"""What a solver costs beside the network: time of ``solve`` over time inside the denoiser's calls.

Both times are taken in the same run, the second by a wrapper around the denoiser; they are of the processor, and on a
device of the clock, with the device waited for before and after each call. Rounds are interleaved: every solver once,
then every solver again; the median ratio counts. Plugins are the same rules with every interval halved, at as many
network runs: by ``FixedPlacement(0.5)``, and by a placer that answers for each sample, as a predictor does, so that
rules compute their coefficients per sample.

    python benchmarks/solver_overhead.py --output runs/solver_overhead --batch 256
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import torch
from meters import now, write_csv

from amed_lightning.denoisers.registry import digits
from amed_lightning.flow.model import Condition, Denoised, Denoiser, DiffusionModel
from amed_lightning.flow.probability_flow import Evaluation, ProbabilityFlow
from amed_lightning.noise.schedules import Polynomial, levels
from amed_lightning.runtime.processes import compute_alike
from amed_lightning.seeds import Seeds, Stream
from amed_lightning.solvers.placement import FixedPlacement, Placement, Placer
from amed_lightning.solvers.registry import SOLVERS, intervals_for
from amed_lightning.solvers.state import Solver, solve
from amed_lightning.tensors import Images, Level

VARIANTS: tuple[tuple[str, dict[str, Any]], ...] = (
    *((name, {}) for name in SOLVERS),
    ("ipndm_v", {"form": "textbook"}),
    ("deis", {"form": "textbook"}),
    ("deis", {"variable": "rhoAB"}),
)
"""Every solver as it comes, and the options that change its arithmetic."""


class Stopwatch:
    """A denoiser that adds up the seconds spent inside another."""

    def __init__(self, denoiser: Denoiser, device: torch.device) -> None:
        self.denoiser, self.device, self.cost, self.seconds = denoiser, device, denoiser.cost, 0.0

    def __call__(self, x: Images, sigma: Level, condition: Condition | None) -> Denoised:
        """Denoise, and time it."""
        started = now(self.device)
        answer = self.denoiser(x, sigma, condition)
        self.seconds += now(self.device) - started
        return answer


class HalfPerSample:
    """The ratio 1/2, in the shape of a predictor's answer."""

    def __call__(self, here: Evaluation, sigma: Level, sigma_next: Level) -> Placement:
        """Return the placement."""
        return Placement(here.features.new_full((len(here.features), 1, 1, 1), 0.5))


PLACERS: dict[str, Placer] = {"FixedPlacement(0.5)": FixedPlacement(0.5), "1/2 per sample": HalfPerSample()}


def candidates() -> Iterator[tuple[dict[str, Any], Solver]]:
    """Yield each solver with what its row says of it; plugins exist where a rule has one evaluation per interval."""
    for name, options in VARIANTS:
        described = ", ".join([name, *(f"{key}={value}" for key, value in options.items())])
        plain = SOLVERS[name](**options)
        yield {"solver": described, "placer": "none"}, plain
        if plain.evaluations_per_interval == 1:
            for kind, placer in PLACERS.items():
                yield {"solver": described, "placer": kind}, SOLVERS[name](placer, **options)


def seconds(solver: Solver, model: DiffusionModel, noise: Images, nfe: int) -> tuple[float, float]:
    """Return the seconds of one run and, of these, the seconds inside the network."""
    watch = Stopwatch(model.denoiser, noise.device)
    sigmas = levels(Polynomial(), intervals_for(solver, nfe, afs=False), model.noise_range)
    started = now(noise.device)
    with torch.inference_mode():
        state = solve(solver, ProbabilityFlow(watch), sigmas[0].to(noise) * noise, sigmas)
    whole = now(noise.device) - started
    if state.nfe != nfe:
        raise RuntimeError(f"{state.nfe} network runs were counted where {nfe} were planned")
    return whole, watch.seconds


def measure(batch: int, nfe: int, repeats: int, device: torch.device) -> list[dict[str, Any]]:
    """Return a row per solver and placer, sorted by ratio; a first round that warms up is dropped."""
    model = digits().to(device)
    noise = Seeds(Stream.evaluation, 0, batch).noise(model.shape).to(device)
    solvers = list(candidates())
    rounds = [[seconds(solver, model, noise, nfe) for _, solver in solvers] for _ in range(repeats + 1)][1:]
    rows = []
    for (described, _), times in zip(solvers, zip(*rounds, strict=True), strict=True):
        ratios = [whole / network for whole, network in times]
        rows.append(
            {
                **described,
                "ratio": median(ratios),
                "ratio_lowest": min(ratios),
                "ratio_highest": max(ratios),
                "own_ms_per_nfe": 1000 * median(whole - network for whole, network in times) / nfe,
                "network_ms_per_nfe": 1000 * median(network for _, network in times) / nfe,
                "model": model.digest,
                "batch": batch,
                "nfe": nfe,
                "repeats": repeats,
                "device": str(device),
                "threads": torch.get_num_threads(),
                "torch": torch.__version__,
            }
        )
    order = ["none", *PLACERS]
    return sorted(rows, key=lambda row: (order.index(row["placer"]), row["ratio"]))


def main() -> None:
    """Measure, write the rows, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("runs/solver_overhead"), help="folder of the result")
    parser.add_argument("--batch", type=int, default=256, help="samples at once")
    parser.add_argument("--nfe", type=int, default=8, help="network runs per sample; even, and 8 fills every history")
    parser.add_argument("--repeats", type=int, default=5, help="rounds that count")
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"), help="where to compute")
    arguments = parser.parse_args()
    compute_alike()
    rows = measure(arguments.batch, arguments.nfe, arguments.repeats, arguments.device)
    write_csv(rows, arguments.output / "solver_overhead.csv")
    print(f"{'solver':24}{'placer':21}{'ratio':>7}  {'lowest, highest':16}{'own ms':>8}{'network ms':>12}  per NFE")
    for row in rows:
        spread = f"{row['ratio_lowest']:.3f}, {row['ratio_highest']:.3f}"
        times = f"{row['own_ms_per_nfe']:8.2f}{row['network_ms_per_nfe']:12.1f}"
        print(f"{row['solver']:24}{row['placer']:21}{row['ratio']:7.3f}  {spread:16}{times}")


if __name__ == "__main__":
    main()
