from itertools import pairwise

import pytest
import torch
from torch.func import functional_call, jacrev

from amed_lightning.amed.learned_table import GROUPS, LearnedTable
from amed_lightning.flow.probability_flow import ProbabilityFlow
from amed_lightning.noise.schedules import Polynomial, levels
from amed_lightning.solvers.registry import SOLVERS
from amed_lightning.solvers.state import solve
from amed_lightning.solvers.tabulated import table_of
from amed_lightning.training.normal_equations import Linear, NormalEquations, Replay, costs_of, normal_equations

from ..solvers.problems import RANGE, Watched, mixture, start

pytestmark = pytest.mark.usefixtures("unchecked")

RUNS, RADIUS = 4, 0.3
NOISE = start() / RANGE.sigma_max


def learned(groups=GROUPS):
    sigmas = levels(Polynomial(), RUNS, RANGE)
    table = LearnedTable.beginning_at(table_of(SOLVERS["ipndm"](order=3), sigmas), float(sigmas[-1]), groups)
    generator = torch.Generator().manual_seed(5)
    table.set(0.1 * torch.randn(len(table.numbers), generator=generator, dtype=torch.float64))
    return table


def target():
    sigmas = levels(Polynomial(), 40, RANGE)
    return solve(SOLVERS["heun"](), ProbabilityFlow(mixture()), NOISE * sigmas[0], sigmas).x


def equations(table, rows=slice(None), radius=RADIUS):
    return normal_equations(Linear.at(table), mixture(), NOISE[rows], None, target()[rows], radius)


def exactly(table, radius):
    """Cost, gradient and Gauss-Newton matrix by automatic differentiation of the whole run, and of its cost."""
    numbers = {name: value.detach() for name, value in table.named_parameters() if value.requires_grad}

    def end(given):
        return Replay(mixture(), NOISE, None).end(functional_call(table, given), [])[0].flatten(1)

    def root(given):
        return (1 + (end(given) - target().flatten(1)).square().mean(1) / radius**2).sqrt()

    def cost(given):
        return radius**2 * (root(given) - 1)

    jacobian = torch.cat(list(jacrev(end)(numbers).values()), -1).movedim(-1, 1).detach()
    weight = 1 / (root(numbers).detach() * jacobian.shape[2])
    matrix = torch.einsum("b,bip,bjp->ij", weight, jacobian, jacobian)
    gradient = torch.cat(list(jacrev(lambda given: cost(given).sum())(numbers).values()))
    return matrix, gradient.detach(), cost(numbers).mean()


@pytest.mark.parametrize("radius", [RADIUS, 0.03], ids=["near", "far beyond the radius"])
@pytest.mark.parametrize("groups", [GROUPS, ["levels"], ["query"], ["weights"], ["sums"], ["first"]], ids=str)
def test_differences_agree_with_automatic_differentiation(groups, radius):
    table = learned(groups)
    found, count = equations(table, radius=radius), len(table.numbers)
    matrix, gradient, cost = exactly(table, radius)
    assert found.cost == pytest.approx(float(cost), rel=1e-12)
    torch.testing.assert_close(
        found.sums[: count**2].reshape(count, count), matrix, rtol=1e-2, atol=1e-2 * matrix.max()
    )
    torch.testing.assert_close(found.sums[count**2 : -3], gradient, rtol=1e-2, atol=1e-2 * gradient.abs().max())


def test_the_costs_of_tables_are_those_of_their_equations():
    near, far = learned(), learned()
    far.set(far.numbers + 0.1)
    *sums, samples, runs = costs_of([near(), far()], mixture(), NOISE, None, target(), RADIUS).tolist()
    assert [each / samples for each in sums] == pytest.approx([equations(each).cost for each in (near, far)], rel=1e-9)
    assert runs == 2 * RUNS * len(NOISE)


def test_the_cost_falls_along_its_gradient():
    table = learned()
    before, count = equations(table), len(table.numbers)
    gradient = before.sums[count**2 : -3] / len(NOISE)
    size = 1e-4 / float(gradient.norm())
    table.set(table.numbers - size * gradient)
    expected = before.cost - size * float(gradient.square().sum())
    assert equations(table).cost == pytest.approx(expected, abs=0.05 * (before.cost - expected))


def test_blocks_add_up_to_the_whole():
    table = learned()
    blocks = torch.stack([equations(table, slice(start, start + 2)).sums for start in range(0, len(NOISE), 2)])
    torch.testing.assert_close(NormalEquations.added(blocks).sums, equations(table).sums, rtol=1e-9, atol=1e-12)


def test_the_last_rows_numbers_cost_no_run_and_the_others_those_behind_them():
    watched, table = Watched(mixture()), learned(["weights"])
    found = normal_equations(Linear.at(table), watched, NOISE, None, target(), RADIUS)
    # Rows 3, 4 and the sample's have 1, 2 and 3 numbers, and 2, 1 and 0 runs behind them.
    expected = RUNS + 1 * 2 + 2 * 1
    assert len(watched.levels) == expected
    assert found.runs == expected * len(NOISE)


def test_undamped_steps_find_the_least_squares():
    table = learned(["weights"])
    seen = []
    for _ in range(6):
        found = equations(table)
        seen.append(found.cost)
        table.set(table.numbers + found.step(1e-6))
    assert seen[-1] < 1e-2 * seen[0]
    assert seen == sorted(seen, reverse=True)


def test_more_damping_is_a_shorter_step():
    found = equations(learned())
    lengths = [float(found.step(damping).norm()) for damping in (1e-6, 1e-2, 1.0, 100.0)]
    assert all(longer > 1.01 * shorter for longer, shorter in pairwise(lengths))
