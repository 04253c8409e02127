"""Problems whose solution is known, solvers started exactly on it, and stand-ins that watch what a solver does."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

import torch

from amed_lightning.denoisers.gaussian import GaussianMixture, gaussian
from amed_lightning.flow.model import Condition, Denoised, Denoiser
from amed_lightning.flow.probability_flow import Evaluation, ProbabilityFlow
from amed_lightning.noise.schedules import Grid, NoiseRange, Schedule, levels, scaled_linear_log_alphas
from amed_lightning.solvers.multistep import Multistep
from amed_lightning.solvers.placement import Placement
from amed_lightning.solvers.state import Solver, SolverState, solve
from amed_lightning.tensors import Images, Level

RANGE = NoiseRange(0.5, 2.0, scaled_linear_log_alphas())
SIZES = (32, 64)
ErrorAt: TypeAlias = Callable[[Solver, Grid], float]


def anisotropic() -> GaussianMixture:
    """Sixteen variances from 1/5 to 9: the error of one coordinate may cross zero, the root mean square does not."""
    return gaussian(torch.logspace(-0.7, 0.95, 16, dtype=torch.float64).reshape(1, 4, 4))


def mixture(dtype: torch.dtype = torch.float64) -> GaussianMixture:
    """Three unlike components of which none ever dominates: the flow is nonlinear, the features are never zero."""
    generator = torch.Generator().manual_seed(11)
    means = torch.randn(3, 1, 4, 4, generator=generator, dtype=torch.float64) / 4
    variances = 0.5 + torch.rand(3, 1, 4, 4, generator=generator, dtype=torch.float64)
    return GaussianMixture(torch.tensor([0.5, 0.3, 0.2], dtype=dtype), means.to(dtype), variances.to(dtype))


def start(seed: int = 0, batch: int = 8) -> Images:
    generator = torch.Generator().manual_seed(seed)
    return RANGE.sigma_max * torch.randn(batch, 1, 4, 4, generator=generator, dtype=torch.float64)


@dataclass
class Watched:
    """A denoiser that keeps every level it is asked about."""

    denoiser: Denoiser
    cost: int = 1
    levels: list[Level] = field(default_factory=list)

    def __call__(self, x: Images, sigma: Level, condition: Condition | None) -> Denoised:
        self.levels.append(sigma)
        return self.denoiser(x, sigma, condition)


@dataclass(frozen=True)
class SpreadPlacement:
    """Place every sample differently: ratios from 0.3 to 0.7, scales within their bounds around 1."""

    direction_bound: float = 0.1
    time_bound: float = 0.2

    def __call__(self, here: Evaluation, sigma: Level, sigma_next: Level) -> Placement:
        like = {"dtype": here.features.dtype, "device": here.features.device}
        spread = torch.linspace(-1, 1, len(here.features), **like).reshape(-1, 1, 1, 1)
        return Placement(0.5 + 0.2 * spread, 1 + self.direction_bound * spread, 1 - self.time_bound * spread)


def error_from_exact_history(solver: Solver, sigmas: Grid) -> float:
    """Solve from a state whose history lies on the exact solution; return the root mean square error at the end."""
    data, x = anisotropic(), start()
    flow = ProbabilityFlow(data)

    def exact(index: int) -> Images:
        return data.gaussian_solution(x, sigmas[0], sigmas[index])

    past = getattr(solver.rule if isinstance(solver, Multistep) else solver, "order", 1) - 1
    history = tuple(flow(exact(index), sigmas[index]) for index in range(past))
    state = SolverState(exact(past), sigmas[past], None, history, len(sigmas) - 1 - past, 0)
    for sigma_next in sigmas[past + 1 :]:
        state = solver.step(flow, state, sigma_next)
    return float((state.x - exact(-1)).square().mean().sqrt())


def error_with_warm_up(solver: Solver, sigmas: Grid) -> float:
    """Solve from the first level with no history; return the root mean square error at the end."""
    data, x = anisotropic(), start()
    state = solve(solver, ProbabilityFlow(data), x, sigmas)
    return float((state.x - data.gaussian_solution(x, sigmas[0], sigmas[-1])).square().mean().sqrt())


def measured_order(error: ErrorAt, solver: Solver, schedule: Schedule, sizes: tuple[int, int] = SIZES) -> float:
    """Return the slope of log error against log step between grids of two sizes."""
    coarse, fine = (math.log(error(solver, levels(schedule, size, RANGE))) for size in sizes)
    return (coarse - fine) / math.log(sizes[1] / sizes[0])
