# ruff: noqa: RUF001 - the page writes Greek letters
"""The part of docs/solvers.md on schedules: both forms of ``discrete``, what GITS finds and joins, single precision.

Its numbers are computed here, by the package and, for single precision, by the published tools' formulas.
"""

import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from amed_lightning.bench.plan import Planned, plan
from amed_lightning.bench.published import Published, read_published
from amed_lightning.bench.suite import Dataset, Entry, Suite
from amed_lightning.config import Spec, build
from amed_lightning.denoisers.gaussian import anisotropic_gaussian
from amed_lightning.flow.probability_flow import ProbabilityFlow
from amed_lightning.noise.discrete_time import DiscreteTime
from amed_lightning.noise.found import read_found
from amed_lightning.noise.schedules import (
    FIRST_TIME,
    Discrete,
    Grid,
    Logsnr,
    NoiseRange,
    Polynomial,
    Schedule,
    TimeUniform,
    levels,
    scaled_linear_log_alphas,
)
from amed_lightning.runtime.processes import launch
from amed_lightning.solvers.registry import SOLVERS
from amed_lightning.solvers.state import solve
from amed_lightning.teacher.search import search
from amed_lightning.teacher.wanted import FINE_SCHEDULE, TEACHER, ScheduleSearch
from amed_lightning.tensors import Images

Row = tuple[str, ...]


def table(header: Row, rows: Iterable[Row]) -> str:
    """Write a table."""
    return "".join(f"| {' | '.join(line)} |\n" for line in [header, tuple("---" for _ in header), *rows])


TABLE = scaled_linear_log_alphas()
WITHIN = NoiseRange(0.1, 10.0, TABLE)
WHOLE = NoiseRange(*(math.sqrt(math.expm1(-2 * TABLE[entry])) for entry in (0, -1)), TABLE)
DISCRETE = """\
## Schedules

Levels are computed in float64. Their ends are the model's; others are refused, with the one exception below.

### `discrete` with ρ other than 1

Let t₀ and t_N be the times of σ_max and σ_min, and u go from 0 to 1. The published tools take the times
`(t₀ + u (t_N^(1/ρ) − t₀))^ρ`, in which a root of t₀ is missing; `form: textbook` has
`(t₀^(1/ρ) + u (t_N^(1/ρ) − t₀^(1/ρ)))^ρ`. Both are one where ρ = 1 or t₀ = 1. Elsewhere the published grid starts below
σ_max. Its first level is then the noise's, the analytic first step's and the teacher's too, and neither GITS nor a list
can have it. With Stable Diffusion's table, N = 3:
"""


def both_forms() -> Iterator[Row]:
    """Yield the levels of ``discrete`` in both forms, in one line where these are one."""
    for noise_range in (WITHIN, WHOLE):
        for rho in (1.0, 2.0):
            written: dict[str, list[str]] = defaultdict(list)
            for form in ("published", "textbook"):
                grid = levels(Discrete(rho, form), 3, noise_range).tolist()
                written[" ".join(f"{level:.9g}" for level in grid)].append(form)
            for grid_text, forms in written.items():
                ends = f"{noise_range.sigma_max:.4g} to {noise_range.sigma_min:.4g}"
                yield ends, f"{rho:g}", ", ".join(forms), grid_text


JUMPS = 5
PLAIN = ScheduleSearch({}, {}, JUMPS, Path())
"""A search that is told nothing else."""
GITS = f"""\
### GITS

A search that is told nothing else takes metric `{PLAIN.metric}`, gamma {PLAIN.gamma:g} and {PLAIN.trajectories}
trajectories of `{TEACHER["name"]}`, order {TEACHER["order"]}, over {PLAIN.fine_intervals} intervals of
`{FINE_SCHEDULE["name"]}`, ρ = {FINE_SCHEDULE["rho"]:g}. So do the published recipe's flags: `--metric=dev --coeff=1.15
--num_warmup=256 --solver_tea=ipndm --max_order=4 --num_steps_tea=61 --schedule_type=polynomial --schedule_rho=7`. Costs
are computed in float64. A row's label says what the file of its levels holds: metric and gamma, then whatever is unlike
the recipe or the row's own solver. A published figure stands beside levels that were found as it was, for the same
solver, in as many network runs. On the exact `anisotropic_gaussian`, {JUMPS} network runs, with the FID that such a row
has beside it on CIFAR-10:
"""
SEARCHES: list[tuple[Spec, dict[str, Any]]] = [
    ({"name": "euler"}, {}),
    ({"name": "ipndm", "order": 4}, {}),
    ({"name": "euler"}, {"metric": "l1"}),
    ({"name": "euler"}, {"metric": "l2"}),
    ({"name": "euler"}, {"gamma": 1.1}),
    ({"name": "euler"}, {"fine_intervals": 30}),
    ({"name": "euler"}, {"afs": True}),
]
"""The solver, and what its search is told."""


def searches(published: Published) -> Iterator[Row]:
    """Search; yield the label of what was found, its levels, and the figures that stand beside it."""
    processes = launch("cpu")
    with TemporaryDirectory() as folder:
        for solver, told in SEARCHES:
            path = Path(folder) / "found.json"
            config = ScheduleSearch({"name": "anisotropic_gaussian"}, solver, JUMPS, path, root=Path(folder), **told)
            search(config, processes, processes.device)
            cell, found = cell_on(path, solver, config.afs, published), read_found(path)
            yield (
                f"`{cell.label}`",
                ", ".join(f"`{name}: {json.dumps(value)}`" for name, value in told.items()),
                f"`{cell.schedule_label}`",
                " ".join(map(str, found.indices)),
                " ".join(f"{level:.4g}" for level in found.sigmas),
                ", ".join(dict.fromkeys(f"{figure.value:.2f}" for figure in published.beside(cell))),
            )


def cell_on(path: Path, solver: Spec, afs: bool, published: Published) -> Planned:
    """Return the cell of a solver on found levels, scored as CIFAR-10's published figures are."""
    theirs = published.scored["cifar10"]
    dataset = Dataset("cifar10", {"name": "digits"}, {"name": "inception"}, theirs.real_images)
    entry = Entry(solver, [{"name": "gits", "path": str(path)}], [JUMPS], afs=(afs,))
    (cell,) = plan(Suite("found", [dataset], [entry], num_blocks=50, block_size=theirs.n // 50))
    return cell


LEFT_OUT = """\
What of GITS' figures is joined to nothing, and why:
"""


def left_out(published: Published) -> Iterator[Row]:
    """Yield the published rows of GITS that have no place in our tables."""
    rows: dict[str, list[dict[str, str]]] = defaultdict(list)
    for row, reason in published.left_out:
        if "gits" in row["solver"]:
            rows[reason].append(row)
    for reason, of_reason in rows.items():
        spelled, datasets = (dict.fromkeys(row[column] for row in of_reason) for column in ("solver", "dataset"))
        yield ", ".join(f"`{name}`" for name in spelled), ", ".join(datasets), reason


SINGLE = """\
### float32 and float64

The published tools compute levels in float32, and states too. Here levels are float64, and the states between network
runs float32 unless `arithmetic: {precision: float64}` is asked for; EDM's own sampler, whose row is `heun + denoised`,
keeps states and levels in float64. The published formulas give in float64 what is here; in float32, over N = 3 to 18:
"""
EDM = NoiseRange(0.002, 80.0)


def published_polynomial(u: Grid, noise_range: NoiseRange) -> Grid:
    """EDM's, with rho = 7."""
    high, low = (end ** (1 / 7) for end in (noise_range.sigma_max, noise_range.sigma_min))
    return (high + u * (low - high)) ** 7


def published_logsnr(u: Grid, noise_range: NoiseRange) -> Grid:
    """Uniform in the logarithm."""
    first, last = (-torch.tensor(end, dtype=u.dtype).log() for end in (noise_range.sigma_max, noise_range.sigma_min))
    return (-torch.linspace(float(first), float(last), len(u), dtype=u.dtype)).exp()


def published_time_uniform(u: Grid, noise_range: NoiseRange) -> Grid:
    """With rho = 1: an exponential less 1, in which small levels lose their digits."""
    ends = torch.tensor([noise_range.sigma_max, noise_range.sigma_min], dtype=u.dtype)
    high, low = (ends**2 + 1).log()
    beta_d = 2 * (low / FIRST_TIME - high) / (FIRST_TIME - 1)
    t = 1 + u * (FIRST_TIME - 1)
    return (math.e ** (beta_d * t**2 / 2 + (high - beta_d / 2) * t) - 1) ** 0.5


def published_discrete(u: Grid, noise_range: NoiseRange) -> Grid:
    """With rho = 1: 1 less an exponential."""
    time = DiscreteTime(torch.tensor(noise_range.log_alphas, dtype=u.dtype))
    first, last = time.of(torch.tensor([noise_range.sigma_max, noise_range.sigma_min], dtype=u.dtype))
    log_alpha = -time.sigma(first + u * (last - first)).square().log1p() / 2
    return (1 - (2 * log_alpha).exp()).sqrt() / log_alpha.exp()


FORMULAS: dict[str, tuple[Schedule, NoiseRange, Callable[[Grid, NoiseRange], Grid]]] = {
    "polynomial": (Polynomial(), EDM, published_polynomial),
    "logsnr": (Logsnr(), EDM, published_logsnr),
    "time_uniform": (TimeUniform(), EDM, published_time_uniform),
    "discrete": (Discrete(), WHOLE, published_discrete),
}


def published_levels(name: str, num_intervals: int, dtype: torch.dtype) -> Grid:
    """Return the levels of a published tool that computes in ``dtype``."""
    _, noise_range, formula = FORMULAS[name]
    return formula(torch.arange(num_intervals + 1, dtype=dtype) / num_intervals, noise_range)


def difference(name: str, dtype: torch.dtype) -> float:
    """Return by which part of a level a published tool's are at most another than ours."""
    schedule, noise_range, _ = FORMULAS[name]
    return max(
        float((published_levels(name, size, dtype) / levels(schedule, size, noise_range) - 1).abs().max())
        for size in range(3, 19)
    )


def single_levels() -> Iterator[Row]:
    """Yield what single precision does to a schedule's levels."""
    for name, (_, noise_range, _) in FORMULAS.items():
        first, *_, last = published_levels(name, 6, torch.float32).tolist()
        ends = f"{noise_range.sigma_max:.5g} to {noise_range.sigma_min:.5g}"
        yield f"`{name}`", ends, f"{first:.5g} to {last:.5g}", f"{difference(name, torch.float32):.0e}"


STATES = """\
No list of levels repeats `time_uniform` as published: its last level is not the model's. By how much samples of the
exact `anisotropic_gaussian` move at most, 64 from the same noise, N = 6, against float64 throughout:
"""
PROTOCOLS: list[tuple[Spec, str]] = [
    ({"name": "euler"}, "polynomial"),
    ({"name": "heun"}, "polynomial"),
    ({"name": "ipndm", "order": 4}, "polynomial"),
    ({"name": "dpm_solver_pp", "order": 3}, "logsnr"),
    ({"name": "amed"}, "time_uniform"),
]
"""Solvers on the schedules on which they are published; AMED's places without its predictor."""


def ends(solver: Spec, sigmas: Grid, precision: torch.dtype) -> Images:
    """Solve the exact Gaussian from fixed noise, states in ``precision``; return the samples in float64."""
    model = anisotropic_gaussian()
    noise = torch.randn(64, *model.image_shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = noise.to(precision) * sigmas[0].to(precision)
    return solve(build("solver", SOLVERS, solver), ProbabilityFlow(model.denoiser), x, sigmas).x.double()


def single_states() -> Iterator[Row]:
    """Yield what single precision does to samples."""
    for solver, name in PROTOCOLS:
        ours, theirs = levels(FORMULAS[name][0], 6, EDM), published_levels(name, 6, torch.float32)
        exact = ends(solver, ours, torch.float64)
        found = [(ends(solver, sigmas, torch.float32) - exact).abs().max() for sigmas in (ours, theirs)]
        label = "-".join(map(str, solver.values()))
        yield f"`{label}`", f"`{name}`", *(f"{float(largest):.0e}" for largest in found)


def section() -> str:
    """Return the section."""
    published = read_published(Path(__file__).parents[1] / "benchmarks")
    asked = (
        "Solver",
        "The search is told",
        "Schedule's label",
        "Chosen among the teacher's",
        "Levels",
        "FID beside it",
    )
    parts = [
        DISCRETE + "\n" + table(("σ", "ρ", "form", "Levels"), both_forms()),
        GITS + "\n" + table(asked, searches(published)),
        LEFT_OUT + "\n" + table(("Rows", "Datasets", "Reason"), left_out(published)),
        SINGLE
        + "\n"
        + table(("Schedule", "σ", "σ in float32", "A level moves by at most, of itself"), single_levels()),
        STATES + "\n" + table(("Solver", "Schedule", "float32 states", "float32 states and levels"), single_states()),
    ]
    return "\n".join(parts)
