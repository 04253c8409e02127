r"""A sampler whose numbers learn: levels, query scales, weights of the answers and the scale of the first state.

It starts exactly at a classical solver. With slopes ``d_j = (x_j - D_j) / q_j``, a state goes on from an earlier one,

    ``x_i = x_b + (q_i - q_b) (sum_(j<i) u_ij d_j + v_i n)``,

where b is the last of those from which the start needs the fewest slopes (the state before of a multistep solver, the
interval's first of a two-stage one), at another level if one is; a step between levels that meet is 1. What an analytic
first step leaves of the noise in the history is v_i, 0 without one. The network is told ``q_i e^(k_i)``. What learns:

| group | numbers | of N runs |
| --- | --- | --- |
| ``levels`` | logarithms of the gaps between the ln q, whose sum is that from the first to the last | N - 1 |
| ``query`` | k, bounded by 1.5 tanh | N |
| ``weights`` | u, of all slopes so far; the newest makes up for the others: a row's sum stays | N (N - 1) / 2 |
| ``sums`` | what a row's sum changes by, added to the newest | N |
| ``first`` | the logarithm of a factor of q_1 and x_1: the first run is asked about ``s n`` at level ``s`` | 1 |

Without ``sums`` and ``first``, what a constant answer becomes does not change. Levels that meet at the start stay so.

Runs may be asked at once: they do not see one another's answers. ``at_once`` puts K runs in the place of each of the
start's. The others lie between its level and the next, on its line, and weigh nothing at the start.

Levels and query scales are LD3's form (Tong et al. 2024), weights that of S4S (Frankel et al. 2025), weights, sums and
query scales DyWeight's, runs at once EPD's (Zhu et al. 2025).
"""

import math
from collections.abc import Collection, Sequence
from itertools import accumulate, pairwise
from typing import Literal, TypeAlias, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from amed_lightning.noise.form import require_choice
from amed_lightning.solvers.tabulated import Table

Group: TypeAlias = Literal["levels", "query", "weights", "sums", "first"]
GROUPS: tuple[Group, ...] = get_args(Group)
_QUERY_BOUND = 1.5
NOTHING = 1e-9
"""Slopes that weigh less are not needed."""


class LearnedTable(nn.Module):
    """The numbers, all in float64; zeros are the start.

    Args:
        at_once: number of network runs that are asked at once, one after the other.
        end: the level of the samples.
        groups: what learns.
        top: the network is told no level above this.

    Raises:
        ValueError: no such group, or no runs at once.
    """

    told: Tensor
    noise: Tensor
    answers: Tensor
    levels: nn.Parameter
    query: nn.Parameter
    weights: nn.Parameter
    sums: nn.Parameter
    first: nn.Parameter

    def __init__(
        self, at_once: Sequence[int], end: float, groups: Collection[str] = GROUPS, top: float = math.inf
    ) -> None:
        super().__init__()
        if min(at_once) < 1:
            raise ValueError(f"{min(at_once)} runs at once; there must be one at least")
        self.at_once, self.end, self.top = list(at_once), end, top
        runs = sum(at_once)
        for name, shape in (("told", (runs,)), ("noise", (runs + 1,)), ("answers", (runs + 1, runs))):
            self.register_buffer(name, torch.ones(shape, dtype=torch.float64))
        counts = seen(self.at_once)
        self.others = [(row, run) for row, count in enumerate(counts) for run in range(count - 1)]
        self.newest = [(row, count - 1) for row, count in enumerate(counts) if count]
        sizes = {"levels": runs - 1, "query": runs, "weights": len(self.others), "sums": len(self.newest), "first": 1}
        for group, size in sizes.items():
            self.register_parameter(group, nn.Parameter(torch.zeros(size, dtype=torch.float64)))
        self.learn(groups)

    @classmethod
    def beginning_at(
        cls,
        start: Table,
        end: float,
        groups: Collection[str] = GROUPS,
        at_once: Sequence[int] | None = None,
        top: float = math.inf,
    ) -> "LearnedTable":
        """Begin at the table of a classical solver, whose samples are at the level ``end``.

        Args:
            start: the solver's.
            end: the level of the samples.
            groups: what learns.
            at_once: runs in the place of each of the start's; one if none.
            top: the network is told no level above this.

        Raises:
            ValueError: no such group, or not a number of runs for each of the start's.

        >>> from amed_lightning.noise.schedules import NoiseRange, TimeUniform, levels
        >>> from amed_lightning.solvers.registry import SOLVERS
        >>> from amed_lightning.solvers.tabulated import table_of
        >>> sigmas = levels(TimeUniform(), 5, NoiseRange(0.002, 80.0))
        >>> len(LearnedTable.beginning_at(table_of(SOLVERS["ipndm"](), sigmas), 0.002).numbers)
        25
        """
        runs = len(start.told)
        at_once = [1] * runs if at_once is None else at_once
        if len(at_once) != runs:
            raise ValueError(f"{len(at_once)} numbers of runs at once; the solver makes {runs} runs")
        learned = cls(at_once, end, groups, top)
        for name, value in vars(_widened(start, end, at_once)).items():
            getattr(learned, name).copy_(value)
        return learned

    def learn(self, groups: Collection[str]) -> None:
        """Let these groups learn, and no other.

        Raises:
            ValueError: no such group.
        """
        for group in groups:
            require_choice("group", group, GROUPS)
        for group, numbers in self.named_parameters():
            numbers.requires_grad_(group in groups)

    @property
    def learning(self) -> list[nn.Parameter]:
        """What learns, in the order of the groups."""
        return [numbers for numbers in self.parameters() if numbers.requires_grad]

    @property
    def numbers(self) -> Float[Tensor, "numbers"]:
        """What learns, as one vector without gradient."""
        return torch.cat([numbers.detach().flatten() for numbers in self.learning])

    def set(self, numbers: Float[Tensor, "numbers"]) -> None:
        """Put other numbers in the place of those that learn."""
        torch.nn.utils.vector_to_parameters(numbers, self.learning)

    def levels_of_runs(self) -> Float[Tensor, "rows"]:
        """Return the levels of the states, the sample's last."""
        start = levels_of(self.start, self.end).log()
        gaps = (start[:-1] - start[1:]).log() + torch.cat([self.levels, self.levels.new_zeros(1)])
        top = start[:1] + self.first
        left = (top - start[-1]) * gaps.softmax(0).cumsum(0)
        return torch.cat([top, top - left]).exp()

    def forward(self) -> Table:
        """Return the table that the numbers come to."""
        runs, q = len(self.told), self.levels_of_runs()
        bases, own, leftover = in_slopes(self.start, self.end)
        moved = self._at(self.others, self.weights)
        held = moved.sum(1)[[row for row, _ in self.newest]]
        weights = own + moved + self._at(self.newest, self.sums - held)
        units = torch.eye(runs + 1, dtype=torch.float64, device=q.device)
        x = [self.first.exp() * self.noise[0] * units[0]]
        slopes: list[Tensor] = []
        for row, base in enumerate(bases):
            slopes.append((x[row] - units[row + 1]) / q[row])
            slope = weights[row, : row + 1] @ torch.stack(slopes) + leftover[row] * units[0]
            x.append(x[base] + steps(q[row + 1], q[base]) * slope)
        told = (q[:-1] * (_QUERY_BOUND * (self.query / _QUERY_BOUND).tanh()).exp()).clamp(max=self.top)
        states = torch.stack(x)
        return Table(told, states[:, 0], states[:, 1:])

    @property
    def start(self) -> Table:
        """Where it begins."""
        return Table(self.told, self.noise, self.answers)

    def _at(self, places: list[tuple[int, int]], numbers: Float[Tensor, "places"]) -> Float[Tensor, "runs runs"]:
        """Return a table of zeros but for these places."""
        zeros, where = self.answers.new_zeros(self.answers.shape[1], self.answers.shape[1]), torch.tensor(places)
        return zeros.index_put((where[:, 0], where[:, 1]), numbers) if places else zeros


def seen(at_once: Sequence[int]) -> list[int]:
    """Return how many answers each state behind the first may be made of; the sample may of all.

    >>> seen([1, 2])
    [1, 1, 3]
    """
    before = [sum(at_once[:turn]) for turn, count in enumerate(at_once) for _ in range(count)]
    return [*before[1:], sum(at_once)]


def levels_of(table: Table, end: float) -> Float[Tensor, "rows"]:
    """Return the levels of the states, the sample's last; those that meet but for rounding are the same.

    Raises:
        ValueError: they do not fall.
    """
    levels = [*table.told.tolist(), end]
    for row, (before, level) in enumerate(pairwise(levels), 1):
        if level > before * (1 + NOTHING):
            raise ValueError(f"the network is told {before:g} and then {level:g}; levels must fall")
        levels[row] = levels[row - 1] if level > before * (1 - NOTHING) else level
    return table.told.new_tensor(levels)


def steps(to: Float[Tensor, ""], start: Float[Tensor, "*rows"]) -> Float[Tensor, "*rows"]:
    """Return the steps between levels; 1 where they meet."""
    return torch.where(to == start, 1.0, to - start)


def in_slopes(table: Table, end: float) -> tuple[list[int], Float[Tensor, "runs runs"], Float[Tensor, "runs"]]:
    """Return b, u and v: ``D_j = x_j - q_j d_j`` in the table, differences over the gaps.

    Args:
        table: of a solver whose levels fall.
        end: the level of the samples.
    """
    q, runs = levels_of(table, end), len(table.told)
    # Columns: the noise, then the slopes.
    x = torch.zeros(runs + 1, runs + 1, dtype=torch.float64, device=q.device)
    bases, made_of = [], []
    for row in range(runs + 1):
        x[row, 0] = table.noise[row]
        for run in range(row):
            x[row] += table.answers[row, run] * x[run]
            x[row, run + 1] -= table.answers[row, run] * q[run]
        if row:
            from_each = (x[row] - x[:row]) / steps(q[row], q[:row])[:, None]
            needed = (from_each.abs() > NOTHING).sum(1) + len(q) * (q[row] == q[:row])
            bases.append(row - 1 - int(needed.flip(0).argmin()))
            made_of.append(from_each[bases[-1]])
    together = torch.stack(made_of)
    return bases, together[:, 1:], together[:, 0]


def _widened(table: Table, end: float, at_once: Sequence[int]) -> Table:
    """Return the same sampler with more runs, whose answers it does not use.

    Args:
        table: of a solver whose levels fall.
        end: the level of the samples.
        at_once: runs in the place of each of the table's; the others lie on its line from the state that it goes on
            from, the first one's on that of pure noise.
    """
    place = [0, *accumulate(at_once)]
    q, bases = levels_of(table, end), in_slopes(table, end)[0]
    told, noise = table.told.new_ones(place[-1]), table.told.new_zeros(place[-1] + 1)
    answers = table.told.new_zeros(place[-1] + 1, place[-1])
    for run, count in enumerate(at_once):
        base = bases[run - 1]
        level, of_noise, of_answers = (
            (q[base], table.noise[base], table.answers[base]) if run else (q.new_zeros(()),) * 3
        )
        for other in range(count):
            row, share = place[run] + other, other / count
            told[row] = q[run] ** (1 - share) * q[run + 1] ** share
            along = steps(told[row], level) / steps(q[run], level)
            noise[row] = of_noise + along * (table.noise[run] - of_noise)
            answers[row, place[:-1]] = of_answers + along * (table.answers[run] - of_answers)
    noise[-1] = table.noise[-1]
    answers[-1, place[:-1]] = table.answers[-1]
    return Table(told, noise, answers)
