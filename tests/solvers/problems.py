"""Problems whose solution is known, and solvers started exactly on it."""

import torch

from amed_lightning.denoisers.gaussian import GaussianMixture, gaussian
from amed_lightning.flow.probability_flow import ProbabilityFlow
from amed_lightning.noise.schedules import Grid, NoiseRange, Schedule, levels
from amed_lightning.solvers.multistep import Multistep
from amed_lightning.solvers.state import Solver, SolverState
from amed_lightning.tensors import Images

RANGE = NoiseRange(sigma_min=0.5, sigma_max=2.0)
SIZES = (32, 48, 64, 96)


def anisotropic() -> GaussianMixture:
    """Sixteen variances from 1/5 to 9: the error of one coordinate may cross zero, the root mean square does not."""
    return gaussian(torch.logspace(-0.7, 0.95, 16, dtype=torch.float64).reshape(1, 4, 4))


def start(seed: int = 0, batch: int = 8) -> Images:
    generator = torch.Generator().manual_seed(seed)
    return RANGE.sigma_max * torch.randn(batch, 1, 4, 4, generator=generator, dtype=torch.float64)


def error_from_exact_history(solver: Solver, sigmas: Grid) -> float:
    """Solve from a state whose history lies on the exact solution; return the root mean square error at the end."""
    data, x = anisotropic(), start()
    flow = ProbabilityFlow(data)

    def exact(index: int) -> Images:
        return data.gaussian_solution(x, sigmas[0], sigmas[index])

    past = solver.rule.max_order - 1 if isinstance(solver, Multistep) else 0
    history = tuple(flow(exact(index), sigmas[index]) for index in range(past))
    state = SolverState(exact(past), sigmas[past], None, history, len(sigmas) - 1 - past, 0)
    for sigma_next in sigmas[past + 1 :]:
        state = solver.step(flow, state, sigma_next)
    return float((state.x - exact(-1)).square().mean().sqrt())


def measured_order(solver: Solver, schedule: Schedule) -> float:
    """Return the least-squares slope of log error against log step over the grids of SIZES intervals."""
    errors = [error_from_exact_history(solver, levels(schedule, size, RANGE)) for size in SIZES]
    steps = torch.tensor(SIZES, dtype=torch.float64).reciprocal().log()
    steps = steps - steps.mean()
    return float((steps * torch.tensor(errors, dtype=torch.float64).log()).sum() / steps.square().sum())
