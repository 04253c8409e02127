r"""A sampler whose numbers learn: levels, query scales, weights of the answers and the scale of the first state.

It starts exactly at a classical solver. With slopes ``d_j = (x_j - D_j) / q_j``, states go on from one another,

    ``x_(i+1) = x_i + (q_(i+1) - q_i) (sum_(j<=i) u_ij d_j + v_i n)``,

where v_i is what an analytic first step leaves of the noise in the history, 0 without one, and the network is told
``q_i e^(k_i)``. What learns, by groups:

| group | numbers | of N runs |
| --- | --- | --- |
| ``levels`` | logarithms of the gaps between the ln q, whose sum is fixed | N - 1 |
| ``query`` | k, bounded by 1.5 tanh | N |
| ``weights`` | u; a row's sum is the start's, so what a constant answer becomes does not change | N (N - 1) / 2 |
| ``first`` | the logarithm of the factor of x_1 | 1 |

Levels and query scales are LD3's form (Tong et al. 2024), weights that of S4S (Frankel et al. 2025).
"""

from collections.abc import Collection
from typing import Literal, TypeAlias, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from amed_lightning.noise.form import require_choice
from amed_lightning.solvers.tabulated import Table

Group: TypeAlias = Literal["levels", "query", "weights", "first"]
GROUPS: tuple[Group, ...] = get_args(Group)
QUERY_BOUND = 1.5


class LearnedTable(nn.Module):
    """The numbers, all in float64; zeros are the start.

    Args:
        runs: of the network, N.
        end: the level of the samples.
        groups: what learns.

    Raises:
        ValueError: no such group.
    """

    told: Tensor
    noise: Tensor
    answers: Tensor
    levels: nn.Parameter
    query: nn.Parameter
    weights: nn.Parameter
    first: nn.Parameter

    def __init__(self, runs: int, end: float, groups: Collection[str] = GROUPS) -> None:
        super().__init__()
        for group in groups:
            require_choice("group", group, GROUPS)
        self.end, self.groups = end, tuple(group for group in GROUPS if group in groups)
        for name, shape in (("told", (runs,)), ("noise", (runs + 1,)), ("answers", (runs + 1, runs))):
            self.register_buffer(name, torch.ones(shape, dtype=torch.float64))
        sizes = {"levels": runs - 1, "query": runs, "weights": runs * (runs - 1) // 2, "first": 1}
        for group, size in sizes.items():
            numbers = torch.zeros(size, dtype=torch.float64)
            self.register_parameter(group, nn.Parameter(numbers, requires_grad=group in groups))

    @classmethod
    def beginning_at(cls, start: Table, end: float, groups: Collection[str] = GROUPS) -> "LearnedTable":
        """Begin at the table of a classical solver, whose samples are at the level ``end``.

        >>> from amed_lightning.noise.schedules import NoiseRange, TimeUniform, levels
        >>> from amed_lightning.solvers.registry import SOLVERS
        >>> from amed_lightning.solvers.tabulated import table_of
        >>> sigmas = levels(TimeUniform(), 5, NoiseRange(0.002, 80.0))
        >>> len(LearnedTable.beginning_at(table_of(SOLVERS["ipndm"](), sigmas), 0.002).numbers)
        20
        """
        learned = cls(len(start.told), end, groups)
        for name in ("told", "noise", "answers"):
            getattr(learned, name).copy_(getattr(start, name))
        return learned

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
        start = torch.cat([self.told, self.told.new_tensor([self.end])]).log()
        gaps = (start[:-1] - start[1:]).log() + torch.cat([self.levels, self.levels.new_zeros(1)])
        left = (start[0] - start[-1]) * gaps.softmax(0).cumsum(0)
        return torch.cat([start[:1], start[0] - left]).exp()

    def forward(self) -> Table:
        """Return the table that the numbers come to."""
        runs, q = len(self.told), self.levels_of_runs()
        own, leftover = self._start_weights()
        rows, columns = torch.tril_indices(runs, runs, -1)
        moved = torch.zeros_like(own).index_put((rows, columns), self.weights)
        weights = own + moved - torch.diag(moved.sum(1))
        units = torch.eye(runs + 1, dtype=torch.float64, device=q.device)
        x = [self.first.exp() * self.noise[0] * units[0]]
        slopes: list[Tensor] = []
        for run in range(runs):
            slopes.append((x[-1] - units[run + 1]) / q[run])
            slope = weights[run, : run + 1] @ torch.stack(slopes) + leftover[run] * units[0]
            x.append(x[-1] + (q[run + 1] - q[run]) * slope)
        told = q[:-1] * (QUERY_BOUND * (self.query / QUERY_BOUND).tanh()).exp()
        states = torch.stack(x)
        return Table(told, states[:, 0], states[:, 1:])

    def _start_weights(self) -> tuple[Float[Tensor, "runs runs"], Float[Tensor, "runs"]]:
        """Return u and v of the start: its table in slopes, ``D_j = x_j - q_j d_j``, differences over the gaps."""
        runs, q = len(self.told), torch.cat([self.told, self.told.new_tensor([self.end])])
        # Columns: the noise, then the slopes.
        x = torch.zeros(runs + 1, runs + 1, dtype=torch.float64, device=q.device)
        for row in range(runs + 1):
            x[row, 0] = self.noise[row]
            for run in range(row):
                x[row] += self.answers[row, run] * x[run]
                x[row, run + 1] -= self.answers[row, run] * q[run]
        steps = x.diff(dim=0) / q.diff()[:, None]
        return steps[:, 1:], steps[:, 0]
