r"""Error against network runs, for every solver of the registry.

Two problems with one question each: how far from the exact end of its trajectory does a sample land?

``mixture``
    the exact flow of eight anisotropic Gaussians on 8x8 pixels, in float64: nothing but the solver errs.
``digits``
    the shipped network in float32: the solvers meet a flow that was learned.

Each solver runs on the schedule on which its published baseline is. The error is the root mean square over pixels and
evaluation seeds of the distance to a fine run, whose own error is estimated by the distance to one of half as many
intervals; the files state it, and below it a curve means nothing. A seed close to the border between two images ends
at either, which one sample's error in the root mean square shows and the median over the seeds (in the rows) does not.

    python benchmarks/work_precision.py --output runs/work_precision --samples 96
"""

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import torch
from jaxtyping import Float
from matplotlib import pyplot as plt
from meters import write_csv
from torch import Tensor

from amed_lightning.config import Spec
from amed_lightning.denoisers.gaussian import GaussianMixture, exact_model
from amed_lightning.denoisers.registry import digits
from amed_lightning.flow.model import DiffusionModel
from amed_lightning.sampling.config import SamplerConfig
from amed_lightning.sampling.parts import build_sampler
from amed_lightning.seeds import Seeds, Stream
from amed_lightning.solvers.registry import SOLVERS, intervals_for
from amed_lightning.tensors import Images

NETWORK_RUNS = (4, 6, 8, 10, 12, 16, 20, 24, 32)
POLYNOMIAL: Spec = {"name": "polynomial", "rho": 7.0}
LOGSNR: Spec = {"name": "logsnr"}
ENTRIES: tuple[tuple[Spec, Spec], ...] = (
    ({"name": "euler"}, POLYNOMIAL),
    ({"name": "heun"}, POLYNOMIAL),
    ({"name": "dpm_solver_2"}, POLYNOMIAL),
    ({"name": "ipndm", "order": 4}, POLYNOMIAL),
    ({"name": "ipndm_v", "order": 4, "form": "published"}, POLYNOMIAL),
    ({"name": "ipndm_v", "order": 4, "form": "textbook"}, POLYNOMIAL),
    ({"name": "deis", "order": 4, "variable": "tAB"}, {"name": "time_uniform", "rho": 2.0}),
    ({"name": "dpm_solver_pp", "order": 3, "prediction": "data", "lower_order_final": True}, LOGSNR),
    ({"name": "unipc", "order": 3, "prediction": "data", "variant": "bh2", "lower_order_final": True}, LOGSNR),
    ({"name": "amed"}, {"name": "time_uniform", "rho": 1.0}),
)
"""Solvers and the schedules of their published baselines; amed, without a predictor, on the one of its recipes."""
REFERENCE = ({"name": "unipc", "order": 3, "prediction": "noise", "lower_order_final": False}, POLYNOMIAL)
"""Solver and schedule of the fine runs: order 3 with its own warm-up, and no entry's rule on the same grid."""


@dataclass(frozen=True)
class Problem:
    """A flow, where its trajectories start, and how finely they are known.

    Attributes:
        name: of the panel.
        model: whose flow it is.
        dtype: of the states.
        reference_intervals: of the fine run.
    """

    name: str
    model: DiffusionModel
    dtype: torch.dtype
    reference_intervals: int


def gaussian_mixture(components: int = 8) -> GaussianMixture:
    """Return a mixture on 8x8 pixels, with means as far apart as images are and variances from 1/1000 to 1/2."""
    generator = torch.Generator().manual_seed(2024)
    means = 0.5 * torch.randn(components, 1, 8, 8, generator=generator, dtype=torch.float64)
    exponents = -3 + 2.7 * torch.rand(components, 1, 8, 8, generator=generator, dtype=torch.float64)
    return GaussianMixture(torch.arange(1, components + 1) / sum(range(components + 1)), means, 10**exponents)


def problems() -> tuple[Problem, Problem]:
    """Return the two problems."""
    return (
        Problem("mixture", exact_model(gaussian_mixture()), torch.float64, reference_intervals=1024),
        Problem("digits", digits(), torch.float32, reference_intervals=160),
    )


def run(problem: Problem, solver: Spec, schedule: Spec, num_intervals: int, noise: Images) -> tuple[Images, int]:
    """Return the last states of a solver, and the network runs that each took."""
    sampler = build_sampler(SamplerConfig({"name": problem.name}, solver, schedule, num_intervals), problem.model)
    with torch.inference_mode():
        state = sampler.sample(noise.to(problem.dtype))
    return state.x, state.nfe


def distances(a: Images, b: Images) -> Float[Tensor, "batch"]:
    """Return each sample's root mean square difference."""
    return (a - b).double().square().flatten(1).mean(1).sqrt()


def root_mean_square(values: Float[Tensor, "batch"]) -> float:
    """Summarise samples' distances as the error of the batch."""
    return float(values.square().mean().sqrt())


def measure(problem: Problem, seeds: Seeds) -> Iterator[dict[str, Any]]:
    """Yield a row for every solver and number of network runs; each carries the protocol that it belongs to."""
    noise = seeds.noise(problem.model.shape)
    truth, reference_runs = run(problem, *REFERENCE, problem.reference_intervals, noise)
    coarser, _ = run(problem, *REFERENCE, problem.reference_intervals // 2, noise)
    protocol = {
        "problem": problem.name,
        "model_digest": problem.model.digest,
        "dtype": str(problem.dtype).removeprefix("torch."),
        "sigma_min": problem.model.noise_range.sigma_min,
        "sigma_max": problem.model.noise_range.sigma_max,
        "stream": seeds.stream.name,
        "first_seed": seeds.start,
        "num_seeds": len(seeds),
        "reference": json.dumps(REFERENCE),
        "reference_nfe": reference_runs,
        "reference_error": root_mean_square(distances(coarser, truth)),
        "torch": torch.__version__,
    }
    for solver, schedule in ENTRIES:
        for budget in NETWORK_RUNS:
            options = {key: value for key, value in solver.items() if key != "name"}
            num_intervals = intervals_for(SOLVERS[solver["name"]](**options), budget, afs=False)
            x, nfe = run(problem, solver, schedule, num_intervals, noise)
            errors = distances(x, truth)
            yield {
                "solver": solver["name"],
                "options": json.dumps(options),
                "schedule": json.dumps(schedule),
                "num_intervals": num_intervals,
                "afs": False,
                "nfe": nfe,
                "rms_error": root_mean_square(errors),
                "median_error": float(errors.median()),
                **protocol,
            }


def label(row: dict[str, Any]) -> str:
    """Name a row's curve: solver, what distinguishes its options, schedule."""
    options, schedule = json.loads(row["options"]), json.loads(row["schedule"])
    details = [str(options[key]) for key in ("order", "form") if key in options]
    rho = f" {schedule['rho']:g}" if "rho" in schedule else ""
    return f"{' '.join([row['solver'], *details])} ({schedule['name']}{rho})"


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Draw a panel per problem, both axes logarithmic; a dotted line is the reference's own error."""
    names = list(dict.fromkeys(row["problem"] for row in rows))
    figure, panels = plt.subplots(1, len(names), figsize=(13, 5.5), layout="constrained")
    for panel, name in zip(panels, names, strict=True):
        mine = [row for row in rows if row["problem"] == name]
        for index, curve in enumerate(dict.fromkeys(map(label, mine))):
            points = [(row["nfe"], row["rms_error"]) for row in mine if label(row) == curve]
            panel.plot(*zip(*points, strict=True), marker="o", markersize=3, color=f"C{index}", label=curve)
        panel.axhline(mine[0]["reference_error"], color="black", linestyle=":", label="the reference's own error")
        panel.set(xscale="log", yscale="log", xlabel="network runs per sample (NFE)", ylabel="RMS error")
        panel.set_xticks(NETWORK_RUNS, map(str, NETWORK_RUNS))
        panel.minorticks_off()
        panel.set_title(f"{name}, {mine[0]['dtype']}, {mine[0]['num_seeds']} seeds")
        panel.grid(alpha=0.3)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right upper", fontsize="small")
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main() -> None:
    """Measure, write the rows and the picture, and print the errors."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("runs/work_precision"), help="folder of the results")
    parser.add_argument("--samples", type=int, default=96, help="evaluation seeds, from 0")
    arguments = parser.parse_args()
    if missing := set(SOLVERS) - {solver["name"] for solver, _ in ENTRIES}:
        parser.error(f"no entry runs {', '.join(sorted(missing))}")
    arguments.output.mkdir(parents=True, exist_ok=True)
    seeds = Seeds(Stream.evaluation, 0, arguments.samples)
    rows = [row for problem in problems() for row in measure(problem, seeds)]
    write_csv(rows, arguments.output / "work_precision.csv")
    plot(rows, arguments.output / "work_precision.png")
    for problem in dict.fromkeys(row["problem"] for row in rows):
        mine = [row for row in rows if row["problem"] == problem]
        print(f"\n{problem}: RMS error at {NETWORK_RUNS} NFE; the reference's own is {mine[0]['reference_error']:.1e}")
        for curve in dict.fromkeys(map(label, mine)):
            errors = [row["rms_error"] for row in mine if label(row) == curve]
            print(f"{curve:44}" + " ".join(f"{error:.1e}" for error in errors))


if __name__ == "__main__":
    main()
