"""What every solver owes to its users, with and without a placer."""

import pickle
from copy import deepcopy
from dataclasses import asdict, replace
from functools import partial

import pytest
import torch

from amed_lightning.amed.predictor import AMEDPredictor
from amed_lightning.denoisers.gaussian import gaussian
from amed_lightning.flow.model import Denoised
from amed_lightning.flow.probability_flow import ProbabilityFlow, analytic_first_step
from amed_lightning.noise.schedules import NoiseRange, Polynomial, levels
from amed_lightning.solvers.multistep import Multistep, Refined
from amed_lightning.solvers.placement import FixedPlacement
from amed_lightning.solvers.registry import SOLVERS, intervals_for, network_runs
from amed_lightning.solvers.state import solve, trajectory
from amed_lightning.solvers.tabulated import Tabulated, table_of

from ..pretended.device import Traffic
from ..pretended.places import CPU, DEVICE
from .problems import RANGE, SpreadPlacement, Watched, mixture, start

SIGMAS = levels(Polynomial(), 5, RANGE)
FEATURES = 3
PLACERS = {"no placer": None, "fixed placer": FixedPlacement(0.4), "placer per sample": SpreadPlacement()}
every_placer = pytest.mark.parametrize("placer", PLACERS.values(), ids=PLACERS)
every_solver = pytest.mark.parametrize(
    "make",
    [*SOLVERS.values(), partial(SOLVERS["dpm_solver_pp"], prediction="noise")],
    ids=[*SOLVERS, "dpm_solver_pp, noise"],
)
with_and_without_afs = pytest.mark.parametrize("afs", [False, True], ids=["no afs", "afs"])
assert_identical = partial(torch.testing.assert_close, rtol=0, atol=0)


def flow():
    return ProbabilityFlow(mixture())


def known(x, afs):
    return analytic_first_step(x, SIGMAS[0], FEATURES) if afs else None


def states(solver, afs=False):
    return list(trajectory(solver, flow(), start(), SIGMAS, known=known(start(), afs)))


def max_order(solver):
    base = solver.base if isinstance(solver, Refined) else solver
    return getattr(base.rule if isinstance(base, Multistep) else base, "order", 1)


def tensors(part):
    """Yield every tensor inside nested mappings and tuples."""
    if isinstance(part, torch.Tensor):
        yield part
    elif isinstance(part, dict | tuple):
        for inner in part.values() if isinstance(part, dict) else part:
            yield from tensors(inner)


class Elsewhere:
    """A unit Gaussian's denoiser whose features live beside the images, on whatever device that is."""

    cost = 1

    def __call__(self, x, sigma, condition):
        return Denoised(x / (1 + sigma**2), x.flatten(1)[:, :FEATURES])


@every_solver
@every_placer
class TestSteps:
    @with_and_without_afs
    def test_a_step_taken_twice_gives_equal_states_and_changes_neither_state_nor_levels(self, make, placer, afs):
        solver, sigmas = make(placer), SIGMAS.clone()
        for state, sigma_next in zip(states(solver, afs), sigmas[1:], strict=False):
            before = deepcopy(asdict(state))
            first, second = (solver.step(flow(), state, sigma_next) for _ in range(2))
            assert_identical(asdict(first), asdict(second))
            assert_identical(asdict(state), before)
        assert sigmas.equal(SIGMAS)

    @with_and_without_afs
    def test_a_run_that_is_stored_and_resumed_anywhere_ends_bit_for_bit_the_same(self, make, placer, afs):
        whole = states(make(placer), afs)
        for index, state in enumerate(whole):
            stored = pickle.dumps(state)
            solver, resumed = make(placer), pickle.loads(stored)
            for sigma_next in SIGMAS[index + 1 :]:
                resumed = solver.step(flow(), resumed, sigma_next)
            assert_identical(asdict(resumed), asdict(whole[-1]))

    @with_and_without_afs
    def test_the_state_counts_the_network_runs_that_happen(self, make, placer, afs):
        solver, watched = make(placer), Watched(mixture())
        run = trajectory(solver, ProbabilityFlow(watched), start(), SIGMAS, known=known(start(), afs))
        for index, state in enumerate(run):
            assert state.nfe == len(watched.levels)
            ahead = (
                state.known.cost if state.known is not None else 0
            )  # a corrector has asked at the next start already
            assert state.nfe - ahead == (network_runs(solver, index, afs) if index else 0)
        assert state.known is None

    def test_a_denoiser_that_runs_its_network_twice_counts_twice(self, make, placer):
        solver = make(placer)
        once, twice = (solve(solver, ProbabilityFlow(Watched(mixture(), cost)), start(), SIGMAS) for cost in (1, 2))
        assert twice.nfe == 2 * once.nfe

    def test_a_known_answer_is_used_once_and_in_place_of_the_network(self, make, placer):
        answer = replace(flow()(start(), SIGMAS[0]), cost=0)
        plain, told = (solve(make(placer), flow(), start(), SIGMAS, known=given) for given in (None, answer))
        assert_identical(told.x, plain.x)
        assert told.nfe == plain.nfe - 1
        wrong = replace(answer, derivative=answer.derivative + 1, denoised=answer.denoised - SIGMAS[0])
        assert not solve(make(placer), flow(), start(), SIGMAS, known=wrong).x.allclose(plain.x)

    @with_and_without_afs
    def test_the_history_is_what_the_next_update_needs_and_no_longer(self, make, placer, afs):
        solver = make(placer)
        updates = 2 if isinstance(solver, Refined) else 1
        lengths = [len(state.history) for state in states(solver, afs)]
        assert lengths == [min(updates * index, max_order(solver) - 1) for index in range(len(SIGMAS))]

    def test_a_solver_is_multistep_exactly_if_it_keeps_a_history(self, make, placer):
        solver = make(placer)
        assert solver.is_multistep == any(state.history for state in states(solver))

    def test_the_states_stop_at_the_levels_of_the_grid_and_count_down(self, make, placer):
        solver = make(placer)
        visited = states(solver)
        per_interval = solver.evaluations_per_interval if isinstance(solver, Refined) else 1
        assert torch.stack([state.sigma for state in visited]).equal(SIGMAS)
        assert [state.updates_left for state in visited] == [per_interval * left for left in range(5, -1, -1)]

    def test_detaching_keeps_the_numbers_and_cuts_the_gradient_through_state_and_history(self, make, placer):
        for state in trajectory(make(placer), flow(), start().requires_grad_(), SIGMAS):
            free = state.detach()
            assert state.x.requires_grad
            assert_identical(free.x, state.x.detach())
            assert not any(tensor.requires_grad for tensor in tensors(asdict(free)))
            assert [answer.cost for answer in free.history] == [answer.cost for answer in state.history]
            assert (free.sigma, free.nfe, free.updates_left) == (state.sigma, state.nfe, state.updates_left)


@every_solver
class TestDevice:
    def run(self, solver, place):
        """Yield the states along the grid, in single precision."""
        x, sigmas = start().to(place, torch.float32), SIGMAS.to(place)
        known = analytic_first_step(x, sigmas[0], FEATURES)
        return trajectory(solver, ProbabilityFlow(Elsewhere()), x, sigmas, known=known)

    def compare(self, pretended, solver, there):
        *_, expected = self.run(solver, CPU)
        list(self.run(there, DEVICE))  # a rule of quadrature is copied to the device once
        states = self.run(there, DEVICE)
        next(states)
        with pretended.counted() as seen:
            *_, last = states
        assert seen == Traffic()
        assert last.x.is_cuda
        assert_identical(last.x.cpu(), expected.x)

    @every_placer
    def test_no_step_waits_for_the_device_or_copies_between_devices(self, make, placer, pretended):
        self.compare(pretended, make(placer), make(placer))

    def test_neither_does_a_step_with_a_learned_placer(self, make, pretended):
        placer = AMEDPredictor(FEATURES, scale_dir=0.01, scale_time=0.2)
        self.compare(pretended, make(placer), make(deepcopy(placer).to(DEVICE)))

    def test_neither_does_a_step_of_its_table(self, make, pretended):
        solver = Tabulated(table_of(make(None), SIGMAS))
        self.compare(pretended, solver, deepcopy(solver).to(DEVICE))


@every_solver
@pytest.mark.parametrize("placer", [None, FixedPlacement(0.4)], ids=["no placer", "fixed placer"])
def test_a_sample_does_not_see_its_neighbours(make, placer):
    x, solver = start(), make(placer)
    alone = solve(solver, flow(), x[3:4], SIGMAS).x
    torch.testing.assert_close(solve(solver, flow(), x, SIGMAS).x[3:4], alone, rtol=1e-12, atol=1e-12)


@every_solver
@every_placer
def test_single_and_double_precision_differ_by_rounding_alone(make, placer):
    """At most ten evaluations from 80 down to 0.002, on unit variance; one rounding at 80 is 8e-6."""
    sigmas = levels(Polynomial(), 10 // make(placer).evaluations_per_interval, NoiseRange(0.002, 80.0))
    data = ProbabilityFlow(gaussian(torch.ones(1, 4, 4, dtype=torch.float64)))
    x = 40 * start().to(torch.float32)
    single, double = (solve(make(placer), data, x.to(dtype), sigmas).x for dtype in (torch.float32, torch.float64))
    assert single.dtype == torch.float32
    assert double.std() > 0.1
    torch.testing.assert_close(single.double(), double, rtol=0, atol=5e-5)


@every_solver
@every_placer
@with_and_without_afs
class TestNetworkRuns:
    def test_the_intervals_for_a_solvers_network_runs_are_its_intervals(self, make, placer, afs):
        solver = make(placer)
        for intervals in range(1, 21):
            assert intervals_for(solver, network_runs(solver, intervals, afs), afs) == intervals

    def test_impossible_numbers_are_refused_with_the_nearest_possible_one(self, make, placer, afs):
        solver = make(placer)
        possible = [network_runs(solver, intervals, afs) for intervals in range(1, 51)]
        for nfe in set(range(-2, 41)) - set(possible):
            with pytest.raises(ValueError, match=f"^{nfe} evaluations are not possible") as refusal:
                intervals_for(solver, nfe, afs)
            named = [int(word) for word in str(refusal.value).replace(",", " ").split() if word.isdigit()][-2:]
            distance = min(abs(nfe - other) for other in possible)
            assert {other for other in possible if abs(nfe - other) == distance} <= set(named)
            assert set(named) <= set(possible)
