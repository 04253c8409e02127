r"""A sampler as a table of numbers: where it asks, and what it makes of the answers.

With N network runs, run i is asked about ``x_i = a_i n + sum_(j<i) b_ij D_j`` and told the level ``s_i``; n is the
standard normal noise and D_j are the answers so far. The row after the last run gives the sample. Levels that no sample
changes and placements that are the same for all of them make every solver such a table, its analytic first step
included, because each combines answers linearly: what a table holds is read off by one run on unit vectors.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from amed_lightning.flow.model import Condition, Denoised
from amed_lightning.flow.probability_flow import Evaluation, ProbabilityFlow, analytic_first_step
from amed_lightning.noise.schedules import Grid
from amed_lightning.solvers.learned import Learned, Rule, Steps
from amed_lightning.solvers.placed import PlacedSolver
from amed_lightning.solvers.placement import Placement, Placer
from amed_lightning.solvers.registry import network_runs
from amed_lightning.solvers.state import Solver, SolverState, solve
from amed_lightning.tensors import Images, Level


@dataclass(frozen=True)
class Table:
    """What a sampler of N network runs does.

    Attributes:
        told: the level that the network is told at each run.
        noise: factor of the noise in each state, the sample last (a).
        answers: factors of the answers in each state (b); zero from the diagonal on.
    """

    told: Float[Tensor, "runs"]
    noise: Float[Tensor, "rows"]
    answers: Float[Tensor, "rows runs"]

    def state(self, row: int, noise: Images, answers: Sequence[Images]) -> Images:
        """Return the state of a row, from 0.

        Args:
            row: of the state; the last is the sample's.
            noise: standard normal.
            answers: of the runs before it.
        """
        x = self.noise[row].to(noise) * noise
        for factor, answer in zip(self.answers[row].to(noise), answers, strict=False):
            x = x + factor * answer
        return x


class Tabulated(Learned):
    """The solver that a table describes, with one evaluation per interval; it is at home on the table's own levels.

    Args:
        table: of N runs.
        form: what it is, in a word or two for tables of results.
    """

    kind = "table"
    evaluations_per_interval = 1
    is_multistep = True
    warm_up_intervals = 0
    told: Tensor
    noise: Tensor
    answers: Tensor

    def __init__(self, table: Table, form: str = "table") -> None:
        super().__init__()
        self.form = form
        for name, numbers in vars(table).items():
            self.register_buffer(name, numbers.detach())

    @property
    def table(self) -> Table:
        """Its numbers."""
        return Table(self.told, self.noise, self.answers)

    @property
    def options(self) -> dict[str, Any]:
        """What its numbers do not say."""
        return {"form": self.form}

    @classmethod
    def read(cls, options: Mapping[str, Any], numbers: Mapping[str, Tensor], purpose: Mapping[str, Any]) -> "Tabulated":
        """Build the solver that a file describes.

        Raises:
            ValueError: numbers that are no table.
        """
        told, noise, answers = (numbers[name].to(torch.float64, copy=True) for name in ("told", "noise", "answers"))
        runs = told.numel()
        if not runs or told.dim() != 1 or noise.shape != (runs + 1,) or answers.shape != (runs + 1, runs):
            raise ValueError("its numbers are not those of a table of so many runs")
        if not (told > 0).all() or not noise[0] or answers.triu().any():
            raise ValueError("a level is not above zero, the first state has no noise, or an answer is used too early")
        if not isinstance(options["form"], str):
            raise ValueError("its form is no word")
        return cls(Table(told, noise, answers), options["form"])

    def steps(self, rule: Rule, sigmas: Grid, afs: bool) -> Steps:
        """Run along the levels that the table tells, down to the last of the solver that it began at."""
        return Steps(self, torch.cat([self.told.cpu(), sigmas[-1:]]))

    def init(self, x: Images, sigmas: Grid, known: Evaluation | None = None) -> SolverState:
        """Return the first state; ``x`` is noise times ``sigmas[0]``."""
        return SolverState(self.noise[0].to(x) * (x / sigmas[0].to(x)), sigmas[0], known, (), len(sigmas) - 1, 0)

    def step(self, flow: ProbabilityFlow, state: SolverState, sigma_next: Level) -> SolverState:
        """Ask once, and go on to the next row."""
        here, nfe = state.evaluated(flow)
        history = (*state.history, here)
        first = history[0]
        noise = (first.denoised + first.sigma * first.derivative) / self.noise[0].to(here.denoised)
        x = self.table.state(len(history), noise, [answer.denoised for answer in history])
        return SolverState(x, sigma_next, None, history, state.updates_left - 1, nfe)


@dataclass(frozen=True)
class PlacedTable(PlacedSolver):
    """A table whose steps a placer scales for each sample: how far a run goes, and what level the next one is told.

    ``x' = x + c (row - x)`` with the table's next row, whose run is told ``a`` times its level; no ratio counts.

    Args:
        base: the table's solver.
        placer: sees every answer.
    """

    base: Tabulated
    placer: Placer
    evaluations_per_interval = 1
    is_multistep = True
    warm_up_intervals = 0

    def init(self, x: Images, sigmas: Grid, known: Evaluation | None = None) -> SolverState:
        """Return the first state; ``x`` is noise times ``sigmas[0]``."""
        return self.base.init(x, sigmas, known)

    def step_at(self, flow: ProbabilityFlow, state: SolverState, sigma_next: Level, place: Placement) -> SolverState:
        """Advance by one run, placed as the caller says."""
        end = self.base.step(flow, state, sigma_next)
        x = state.x + place.direction_scale * (end.x - state.x)
        told = sigma_next * place.time_scale if end.updates_left else sigma_next
        return replace(end, x=x, sigma=told)


def table_of(solver: Solver, sigmas: Grid, afs: bool = False) -> Table:
    """Read the table off a solver.

    Args:
        solver: places all samples alike, if it places any.
        sigmas: the N + 1 levels that it runs along, in float64.
        afs: replace the first evaluation by the analytic one.
    """
    noted = _UnitAnswers(network_runs(solver, len(sigmas) - 1, afs))
    noise = noted.unit(0)
    x = sigmas[0] * noise
    known = analytic_first_step(x, sigmas[0], 0) if afs else None
    end = solve(solver, ProbabilityFlow(noted), x, sigmas, known=known)
    rows = torch.stack([*noted.asked, end.x]).flatten(1)
    return Table(torch.stack(noted.told), rows[:, 0], rows[:, 1:])


@dataclass
class _UnitAnswers:
    """A denoiser whose k-th answer is the k-th unit vector; it notes what it was asked."""

    runs: int
    cost: int = 1
    asked: list[Images] = field(default_factory=list)
    told: list[Level] = field(default_factory=list)

    def unit(self, number: int) -> Images:
        """Return a unit vector; number 0 is the noise."""
        return torch.eye(self.runs + 1, dtype=torch.float64)[number].reshape(1, 1, 1, -1)

    def __call__(self, x: Images, sigma: Level, condition: Condition | None) -> Denoised:
        """Take note and answer."""
        self.asked.append(x)
        self.told.append(sigma)
        return Denoised(self.unit(len(self.asked)), x.new_zeros(1, 0))
