import pytest
import torch

from amed_lightning.amed.learned_table import GROUPS, LearnedTable
from amed_lightning.flow.model import Denoised
from amed_lightning.flow.probability_flow import ProbabilityFlow
from amed_lightning.noise.schedules import Polynomial, levels
from amed_lightning.solvers.registry import SOLVERS
from amed_lightning.solvers.state import solve
from amed_lightning.solvers.tabulated import Tabulated, table_of

from ..solvers.problems import RANGE, start

RUNS = 5
SIGMAS = levels(Polynomial(), RUNS, RANGE)
END = float(SIGMAS[-1])


def learned(groups=GROUPS, solver="ipndm", afs=False, **options):
    sigmas = levels(Polynomial(), RUNS + afs, RANGE)
    return LearnedTable.beginning_at(table_of(SOLVERS[solver](**options), sigmas, afs), END, groups)


def disturbed(table, size=0.3):
    generator = torch.Generator().manual_seed(3)
    table.set(size * torch.randn(len(table.numbers), generator=generator, dtype=torch.float64))
    return table


class Constant:
    """A denoiser that always sees the same image."""

    cost = 1

    def __init__(self, image):
        self.image = image

    def __call__(self, x, sigma, condition):
        return Denoised(self.image.expand_as(x), x.new_zeros(len(x), 3))


@pytest.mark.parametrize("afs", [False, True], ids=["no afs", "afs"])
@pytest.mark.parametrize(
    ("solver", "options"), [("euler", {}), ("ipndm", {"order": 3}), ("deis", {}), ("dpm_solver_pp", {}), ("unipc", {})]
)
def test_zeros_are_the_classical_solver(solver, options, afs):
    sigmas = levels(Polynomial(), RUNS + afs, RANGE)
    expected = table_of(SOLVERS[solver](**options), sigmas, afs)
    table = learned(solver=solver, afs=afs, **options)()
    for name in ("told", "noise", "answers"):
        torch.testing.assert_close(getattr(table, name), getattr(expected, name), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("groups", "count"), [(["levels"], 4), (["query"], 5), (["weights"], 10), (["first"], 1)])
def test_a_group_is_so_many_numbers_and_the_others_stay(groups, count):
    table = disturbed(learned(groups))
    assert len(table.numbers) == count
    assert all(not numbers.any() for name, numbers in table.named_parameters() if name not in groups)


@pytest.mark.parametrize("groups", [["levels", "weights"], ["query", "weights"], ["levels"]])
def test_a_constant_answer_is_met_whatever_was_learnt(groups):
    table, noise = disturbed(learned(groups))(), start() / RANGE.sigma_max
    image = torch.linspace(-1, 1, 16, dtype=torch.float64).reshape(1, 1, 4, 4)
    end = table.state(RUNS, noise, [image.expand_as(noise)] * RUNS)
    # The slope towards a constant is one everywhere on its straight line, which begins at the noise alone.
    exact = image * (1 - END / SIGMAS[0]) + noise * END
    torch.testing.assert_close(end, exact, rtol=0, atol=1e-12)


def test_levels_move_between_the_ends_in_order():
    table = disturbed(learned(["levels"]), size=1.0)
    moved = table.levels_of_runs().detach()
    assert float(moved[0]) == pytest.approx(float(SIGMAS[0]))
    assert float(moved[-1]) == pytest.approx(END)
    assert (moved.diff() < 0).all()
    assert (moved[1:-1] - SIGMAS[1:-1]).abs().min() > 1e-3


def test_a_query_scale_moves_what_is_told_alone_and_stays_in_its_bound():
    before, table = learned(["query"]), learned(["query"])
    table.set(torch.full((RUNS,), 100.0, dtype=torch.float64))
    told = table().told
    torch.testing.assert_close(told, before().told * torch.tensor(1.5).exp().double(), rtol=1e-6, atol=0)
    torch.testing.assert_close(table().answers, before().answers, rtol=0, atol=0)


def test_the_first_state_has_its_factor():
    table = learned(["first"])
    table.set(torch.tensor([0.5], dtype=torch.float64).log())
    torch.testing.assert_close(table().noise[0], SIGMAS[0] / 2)


def test_it_samples_as_its_table_says():
    table, noise = disturbed(learned())(), start() / RANGE.sigma_max
    image = torch.linspace(-1, 1, 16, dtype=torch.float64).reshape(1, 1, 4, 4)
    sigmas = torch.cat([table.told, SIGMAS[-1:]])
    end = solve(Tabulated(table), ProbabilityFlow(Constant(image)), noise * sigmas[0], sigmas)
    expected = table.state(RUNS, noise, [image.expand_as(noise)] * RUNS)
    torch.testing.assert_close(end.x, expected, rtol=0, atol=1e-12)


def test_an_unknown_group_is_refused():
    with pytest.raises(ValueError, match="group"):
        learned(["slopes"])
