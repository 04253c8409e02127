import pytest
import torch

from amed_lightning.amed.learned_table import GROUPS, LearnedTable, in_slopes, levels_of
from amed_lightning.flow.model import Denoised
from amed_lightning.flow.probability_flow import ProbabilityFlow
from amed_lightning.noise.schedules import Polynomial, levels
from amed_lightning.solvers.registry import SOLVERS
from amed_lightning.solvers.state import solve
from amed_lightning.solvers.tabulated import Table, Tabulated, table_of

from ..solvers.problems import RANGE, mixture, start

RUNS = 5
SIGMAS = levels(Polynomial(), RUNS, RANGE)
END = float(SIGMAS[-1])


def classical(solver="ipndm", afs=False, **options):
    """A table of five runs, or of a two-stage solver's six."""
    solver = SOLVERS[solver](**options)
    intervals = -(-(RUNS + afs) // solver.evaluations_per_interval)
    return table_of(solver, levels(Polynomial(), intervals, RANGE), afs)


def learned(groups=GROUPS, solver="ipndm", afs=False, at_once=None, **options):
    return LearnedTable.beginning_at(classical(solver, afs, **options), END, groups, at_once)


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
@pytest.mark.parametrize("solver", SOLVERS)
def test_zeros_are_the_classical_solver(solver, afs):
    expected, table = classical(solver, afs), learned(solver=solver, afs=afs)()
    for name in ("told", "noise", "answers"):
        torch.testing.assert_close(getattr(table, name), getattr(expected, name), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("solver", SOLVERS)
def test_its_derivative_is_finite_where_levels_meet_too(solver):
    table = learned(solver=solver)
    told, noise, answers = table().told, table().noise, table().answers
    (told.sum() + noise.sum() + answers.sum()).backward()
    assert all(numbers.grad.isfinite().all() for numbers in table.learning)


def test_levels_that_meet_but_for_rounding_are_one():
    for other in (0.5 * (1 + 1e-15), 0.5 * (1 - 1e-15)):
        told = torch.tensor([1.0, 0.5, other], dtype=torch.float64)
        found = levels_of(Table(told, torch.ones(4, dtype=torch.float64), torch.zeros(4, 3, dtype=torch.float64)), 0.1)
        assert found.tolist() == [1.0, 0.5, 0.5, 0.1]


def test_levels_that_do_not_fall_are_refused():
    start = classical()
    with pytest.raises(ValueError, match="levels must fall"):
        LearnedTable.beginning_at(Table(start.told.flip(0), start.noise, start.answers), END)


@pytest.mark.parametrize(
    ("solver", "afs", "bases"),
    [
        ("ipndm", False, [0, 1, 2, 3, 4]),
        ("ipndm", True, [0, 1, 2, 3, 4]),
        ("dpm_solver_2", False, [0, 0, 2, 2, 4, 4]),
        ("heun", False, [0, 0, 2, 2, 4, 4]),
        ("dpm_solver_2", True, [0, 1, 1, 3, 3]),
    ],
)
def test_a_state_goes_on_from_where_its_solver_did(solver, afs, bases):
    assert in_slopes(classical(solver, afs), END)[0] == bases


@pytest.mark.parametrize(
    ("groups", "count"), [(["levels"], 4), (["query"], 5), (["weights"], 10), (["sums"], 5), (["first"], 1)]
)
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


def test_the_first_state_and_its_level_have_one_factor():
    table = learned(["first"])
    table.set(torch.tensor([0.5], dtype=torch.float64).log())
    torch.testing.assert_close(table().noise[0], SIGMAS[0] / 2)
    torch.testing.assert_close(table().told[0], SIGMAS[0] / 2)
    # The gaps between logarithms keep their proportions.
    moved, before = table.levels_of_runs().detach().log().diff(), SIGMAS.log().diff()
    torch.testing.assert_close(moved / moved.sum(), before / before.sum())


def test_a_sum_changes_by_its_number_and_the_newest_slope_by_as_much():
    table, before = learned(["sums"], solver="euler"), learned(["sums"], solver="euler")()
    table.set(torch.tensor([0.0, 0.25, 0.0, 0.0, 0.0], dtype=torch.float64))
    with torch.no_grad():
        # x_2 = x_1 + 1.25 (q_2 - q_1) (x_1 - D_1) / q_1
        step = table().answers[2] - before.answers[1], table().noise[2] - before.noise[1]
        own = before.answers[2] - before.answers[1], before.noise[2] - before.noise[1]
    torch.testing.assert_close(step, (1.25 * own[0], 1.25 * own[1]), rtol=1e-12, atol=1e-12)


AT_ONCE = [1, 3, 1, 2, 1]


@pytest.mark.parametrize(("solver", "afs"), [("ipndm", False), ("ipndm", True), ("dpm_solver_2", True), ("heun", True)])
def test_more_runs_at_once_begin_at_the_same_sampler(solver, afs):
    plain, wide = learned(solver=solver, afs=afs)(), learned(solver=solver, afs=afs, at_once=AT_ONCE)()
    noise = start() / RANGE.sigma_max
    ends = [
        solve(
            Tabulated(table), ProbabilityFlow(mixture()), noise * table.told[0], torch.cat([table.told, SIGMAS[-1:]])
        ).x
        for table in (plain, wide)
    ]
    torch.testing.assert_close(ends[0], ends[1], rtol=0, atol=1e-12)


def test_runs_at_once_do_not_see_one_another_whatever_was_learnt():
    answers = disturbed(learned(at_once=AT_ONCE))().answers
    turn = torch.tensor([turn for turn, count in enumerate(AT_ONCE) for _ in range(count)])
    sees = turn[:, None] > turn[None, :]
    assert (answers[:-1][sees] != 0).all()
    assert (answers[:-1][~sees] == 0).all()
    assert (answers[-1] != 0).all()


def test_the_others_are_asked_between_the_level_and_the_next_on_the_line():
    wide, plain = learned(solver="euler", at_once=AT_ONCE)(), classical("euler")
    for other in (1, 2):
        share = other / 3
        told = plain.told[1] ** (1 - share) * plain.told[2] ** share
        torch.testing.assert_close(wide.told[1 + other], told)
        # x_0 + (q - q_0) d_0
        torch.testing.assert_close(wide.noise[1 + other], told, rtol=1e-12, atol=0)


@pytest.mark.parametrize("at_once", [[1, 2], [1, 0, 1, 1, 1]], ids=str)
def test_numbers_of_runs_at_once_that_do_not_fit_are_refused(at_once):
    with pytest.raises(ValueError, match="runs at once"):
        learned(at_once=at_once)


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


def test_the_network_is_told_no_level_above_the_top():
    sigmas = levels(Polynomial(), 3, RANGE)
    table = LearnedTable.beginning_at(table_of(SOLVERS["euler"](), sigmas), END, top=1.5 * float(sigmas[0]))
    with torch.no_grad():
        table.query.fill_(0.5)
    told = table().told
    assert told[0] == 1.5 * sigmas[0]
    assert 1.5 * sigmas[0] > told[1] > sigmas[1]
