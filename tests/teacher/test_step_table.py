"""A table says what the step's loss is, for every solver, without asking the denoiser again."""

from dataclasses import dataclass, replace

import pytest
import torch

from amed_lightning.denoisers.cached import CachedDenoiser
from amed_lightning.flow.probability_flow import ProbabilityFlow
from amed_lightning.solvers.placed import PlacedSolver
from amed_lightning.solvers.placement import FixedPlacement, Placement
from amed_lightning.solvers.registry import SOLVERS
from amed_lightning.solvers.state import SolverState
from amed_lightning.teacher.nodes import Nodes, chebyshev
from amed_lightning.teacher.step_table import joined
from amed_lightning.teacher.tabulate import Agreement, disagreement, tabulate, tabulate_until_agreed

from ..solvers.problems import SpreadPlacement, mixture, start

pytestmark = pytest.mark.usefixtures("unchecked")

SIGMAS = torch.tensor([2.0, 1.4, 0.9, 0.5], dtype=torch.float64)
ASK_LIKE_AMED = ("amed", "dpm_solver_2", "heun", "euler")
FINE = Nodes(chebyshev(7, 0.25, 0.75), chebyshev(5, 0.9, 1.1))
ASKING_AGAIN = replace(FINE, direction_scale=chebyshev(3, 0.95, 1.05))


@dataclass
class Problem:
    """An interval: where it starts, where it should end, and the denoiser that is asked."""

    solver: PlacedSolver
    start: SolverState
    sigmas: torch.Tensor
    target: torch.Tensor
    memory: CachedDenoiser
    nodes: Nodes

    def table(self, nodes=None):
        nodes = nodes or self.nodes
        return tabulate(self.solver, self.memory, None, self.start, self.sigmas, self.target, nodes)

    def losses(self, place):
        end = self.solver.step_at(ProbabilityFlow(mixture()), self.start, self.sigmas[1], place)
        return (end.x - self.target).square().sum((1, 2, 3))


def problems(name, **options):
    """The three intervals of a solver, history and all; the targets are somewhere near."""
    solver = SOLVERS[name](FixedPlacement(0.5), **options)
    flow, spread = ProbabilityFlow(mixture()), SpreadPlacement()
    nodes = ASKING_AGAIN if name == "unipc" else FINE
    state = solver.init(start(), SIGMAS)
    found = []
    for index, sigma_next in enumerate(SIGMAS[1:]):
        state = replace(state, known=state.evaluated(flow)[0])
        end = solver.step_at(flow, state, sigma_next, spread(state.known, state.sigma, sigma_next))
        target = end.x + 0.05 * start(seed=index + 1)
        found.append(Problem(solver, state, SIGMAS[index:], target, CachedDenoiser(mixture()), nodes))
        state = end
    return found


def somewhere(count=8):
    """Placements between the nodes, one per sample, that a gradient can be asked of."""
    spread = torch.linspace(-1, 1, count, dtype=torch.float64).reshape(-1, 1, 1, 1)
    entries = (0.5 + 0.23 * spread, 1 + 0.04 * spread, 1 - 0.09 * spread)
    return [entry.requires_grad_() for entry in entries]


@pytest.mark.parametrize("name", SOLVERS)
class TestLosses:
    def test_they_and_their_gradients_are_the_step_s(self, name):
        for problem in problems(name):
            entries = somewhere()
            place = Placement(*entries)
            found, expected = problem.table().losses(problem.solver, place), problem.losses(place)
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=0)
            gradients = [torch.autograd.grad(losses.sum(), entries) for losses in (found, expected)]
            for one, other in zip(*gradients, strict=True):
                torch.testing.assert_close(one, other, rtol=0, atol=1e-3 * float(other.abs().max()))

    def test_they_ask_nothing(self, name):
        problem = problems(name)[0]
        table = problem.table()
        asked = len(problem.memory.known)
        table.losses(problem.solver, Placement(*somewhere()))
        assert len(problem.memory.known) == asked

    def test_they_are_those_of_all_samples_where_some_are_selected(self, name):
        problem = problems(name)[1]
        table, place = problem.table(), Placement(0.4, 0.99, 1.07)
        rows = torch.tensor([5, 0, 3])
        torch.testing.assert_close(
            table.select(rows).losses(problem.solver, place), table.losses(problem.solver, place)[rows]
        )


class TestSharing:
    @pytest.mark.parametrize("name", ASK_LIKE_AMED)
    def test_the_table_of_amed_serves_every_solver_that_asks_the_same(self, name):
        table, place = problems("amed")[0].table(), Placement(0.63, 0.98, 0.9)
        problem = problems(name)[0]
        problem.target = problems("amed")[0].target
        torch.testing.assert_close(table.losses(problem.solver, place), problem.losses(place), rtol=1e-4, atol=0)


class TestNodes:
    @pytest.mark.parametrize("axis", ["ratio", "time_scale", "direction_scale"])
    def test_a_coarser_table_is_the_one_that_coarser_nodes_make(self, axis):
        problem = problems("unipc")[1]
        coarser = problem.table().coarser(axis)
        made = problem.table(ASKING_AGAIN.coarser(axis)[0])
        assert coarser.nodes == made.nodes
        torch.testing.assert_close(coarser.gram, made.gram)

    @pytest.mark.parametrize("name", ["amed", "ipndm", "unipc"])
    def test_a_table_at_more_nodes_says_what_it_said(self, name):
        problem = problems(name)[1]
        table, place = problem.table(), Placement(*somewhere())
        finer = table.at(problem.nodes.finer("ratio"))
        assert len(finer.nodes) > len(table.nodes)
        torch.testing.assert_close(finer.losses(problem.solver, place), table.losses(problem.solver, place))

    def test_tables_of_parts_are_the_table_of_the_whole(self):
        problem = problems("ipndm")[1]
        table, place = problem.table(), Placement(*somewhere())
        halves = [table.select(torch.arange(0, 3)), table.select(torch.arange(3, 8)).at(FINE.finer("time_scale"))]
        whole = joined([replace(halves[0], disagreement=0.2), halves[1]])
        assert whole.disagreement == 0.2
        torch.testing.assert_close(whole.losses(problem.solver, place), table.losses(problem.solver, place))

    def test_the_answer_at_the_start_is_not_asked_for_again(self):
        problem = problems("amed")[0]
        problem.memory.remember(problem.start.x, problem.start.known)
        problem.table(Nodes(chebyshev(5, 0.0, 1.0)))
        assert len(problem.memory.known) == 5


class TestAgreement:
    NODES = Nodes(chebyshev(3, 0.2, 0.8), chebyshev(3, 0.8, 1.2))

    def made(self, problem, **options):
        return tabulate_until_agreed(
            problem.solver,
            problem.memory,
            None,
            problem.start,
            problem.sigmas,
            problem.target,
            self.NODES,
            Agreement(**options),
        )

    def test_nodes_are_added_until_leaving_out_every_second_hardly_matters(self):
        problem = problems("amed")[0]
        sizes = []
        for bound in (1e-1, 1e-2, 1e-3):
            table = self.made(problem, bound=bound)
            found = [disagreement(table, problem.solver, axis) for axis in ("ratio", "time_scale")]
            assert table.disagreement == max(found) <= bound
            sizes.append(len(table.nodes))
        assert sizes[0] < sizes[1] < sizes[2]

    @pytest.mark.parametrize("name", ["amed", "ipndm"])
    def test_a_disagreement_is_the_largest_relative_move_of_the_mean_loss_at_thirty_two_ratios(self, name):
        problem = problems(name)[1]
        table = problem.table(Nodes(chebyshev(3, 0.2, 0.8), (1.0,)))
        moves = []
        for part in range(32):
            place = Placement(0.2 + 0.6 * (part + 0.5) / 32)
            fine, coarse = (each.losses(problem.solver, place).mean() for each in (table, table.coarser("ratio")))
            moves.append(float(abs(fine - coarse) / fine))
        assert disagreement(table, problem.solver, "ratio") == pytest.approx(max(moves), rel=1e-9)

    def test_no_question_is_asked_twice(self):
        problem = problems("amed")[0]
        table = self.made(problem, bound=1e-3)
        assert len(table.nodes) > len(self.NODES)
        assert len(problem.memory.known) == len(table.nodes)

    def test_the_loss_then_errs_by_less_than_the_bound(self):
        problem = problems("amed")[0]
        table = self.made(problem, bound=1e-2)
        for ratio, time_scale in ((0.27, 0.85), (0.51, 1.0), (0.74, 1.17)):
            place = Placement(ratio, 1.0, time_scale)
            found, exact = (losses.mean() for losses in (table.losses(problem.solver, place), problem.losses(place)))
            assert float(abs(found / exact - 1)) < 1e-2

    def test_a_table_that_gives_up_says_by_how_much_it_misses(self):
        problem = problems("amed")[0]
        table = self.made(problem, bound=1e-9, most=3)
        assert table.nodes == self.NODES
        assert table.disagreement > 1e-9
