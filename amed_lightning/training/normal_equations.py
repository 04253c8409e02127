r"""Least squares of a sampler's end against its teacher's, without a backward run (Levenberg 1944, Marquardt 1963).

The cost of a sample is the pseudo-Huber loss ``r^2 (sqrt(1 + e^2 / r^2) - 1)`` of the root mean square ``e`` of its
distance over its pixels. One of a table's numbers is felt from the first state on that it moves: the runs before are
not made again, and the last row's numbers are felt by no run at all. So the derivative along each of the learning
numbers is a difference of two replays that share their beginning; sums are float64 and added in the order of blocks.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.func import functional_call, jacrev

from amed_lightning.amed.learned_table import LearnedTable
from amed_lightning.flow.model import Condition, Denoiser
from amed_lightning.flow.probability_flow import ProbabilityFlow
from amed_lightning.solvers.tabulated import Table
from amed_lightning.tensors import Images

DIFFERENCE = 1e-3
"""Step of a number; the largest error is of its order, relative to the derivative."""
_LEAST_CURVATURE = 1e-9
"""Of the mean, along a number that changes nothing."""


@dataclass(frozen=True)
class NormalEquations:
    """Sums over samples, in float64.

    Attributes:
        sums: the Gauss-Newton matrix of the cost, its gradient, the cost, samples, network runs.
    """

    sums: Float[Tensor, "sums"]

    @classmethod
    def added(cls, rows: Float[Tensor, "blocks sums"]) -> "NormalEquations":
        """Add the sums of blocks."""
        return cls(rows.sum(0))

    @property
    def cost(self) -> float:
        """The mean cost of a sample."""
        cost, samples, _ = self.sums[-3:].tolist()
        return cost / samples

    @property
    def runs(self) -> int:
        """Network runs that it took to know this."""
        return int(self.sums[-1])

    def step(self, damping: float) -> Float[Tensor, "numbers"]:
        """Return the change of the numbers; the matrix's diagonal is raised by ``damping`` of itself."""
        numbers = (math.isqrt(4 * len(self.sums) - 11) - 1) // 2
        matrix = self.sums[: numbers**2].reshape(numbers, numbers)
        gradient = self.sums[numbers**2 :][:numbers]
        diagonal = matrix.diagonal()
        raised = matrix + damping * torch.diag(diagonal + _LEAST_CURVATURE * diagonal.mean())
        return -torch.linalg.solve(raised, gradient)


@dataclass
class Replay:
    """Runs a table from any row on.

    Attributes:
        denoiser: answers.
        noise: standard normal.
        condition: labels, or None.
        runs: network runs per sample so far.
    """

    denoiser: Denoiser
    noise: Images
    condition: Condition | None
    runs: int = 0

    def end(self, table: Table, known: list[Images]) -> tuple[Images, list[Images]]:
        """Return the sample, and all answers; the first ones are known already."""
        answers, flow = list(known), ProbabilityFlow(self.denoiser, self.condition)
        for run in range(len(known), len(table.told)):
            x = table.state(run, self.noise, answers)
            here = flow(x, table.told[run].to(x))
            answers.append(here.denoised)
            self.runs += here.cost
        return table.state(len(table.told), self.noise, answers), answers


@dataclass(frozen=True)
class Linear:
    """A table, and its derivative along each of the numbers that learn.

    Attributes:
        table: where the numbers stand.
        along: the derivatives, as tables.
    """

    table: Table
    along: list[Table]

    @classmethod
    def at(cls, learned: LearnedTable) -> "Linear":
        """Take the derivative where the numbers stand."""
        numbers = {name: value.detach() for name, value in learned.named_parameters() if value.requires_grad}

        def entries(given: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
            table = functional_call(learned, given)
            return table.told, table.noise, table.answers

        told, noise, answers = jacrev(entries)(numbers)
        along = [
            Table(told[name][..., index], noise[name][..., index], answers[name][..., index])
            for name, value in numbers.items()
            for index in range(value.numel())
        ]
        return cls(Table(*(entry.detach() for entry in entries(numbers))), along)

    def moved(self, along: Table) -> Table:
        """Return the table after a small step along one of the derivatives."""
        return Table(
            self.table.told + DIFFERENCE * along.told,
            self.table.noise + DIFFERENCE * along.noise,
            self.table.answers + DIFFERENCE * along.answers,
        )


def normal_equations(
    linear: Linear, denoiser: Denoiser, noise: Images, condition: Condition | None, target: Images, radius: float
) -> NormalEquations:
    """Sum over a block of samples.

    Args:
        linear: the table and its derivative.
        denoiser: the network.
        noise: standard normal.
        condition: labels, or None.
        target: the teacher's samples of the same noise.
        radius: of the loss, in root mean square.
    """
    replay = Replay(denoiser, noise, condition)
    with torch.inference_mode():
        end, answers = replay.end(linear.table, [])
        columns = []
        for along in linear.along:
            other, _ = replay.end(linear.moved(along), answers[: _first_run(along)])
            columns.append(((other - end).double() / DIFFERENCE).flatten(1))
        residual = _residual(end, target)
        costs = _pseudo_huber(residual.square().mean(1), radius)
        jacobian = torch.stack(columns, 1)
        weight = 1 / ((1 + costs / radius**2) * residual.shape[1])
        sums = (
            torch.einsum("b,bip,bjp->ij", weight, jacobian, jacobian).flatten(),
            torch.einsum("b,bip,bp->i", weight, jacobian, residual),
            costs.sum()[None],
            costs.new_tensor([len(noise), replay.runs * len(noise)]),
        )
        return NormalEquations(torch.cat(sums))


def costs_of(
    tables: list[Table], denoiser: Denoiser, noise: Images, condition: Condition | None, target: Images, radius: float
) -> Float[Tensor, "sums"]:
    """Sum the cost of each table over a block of samples; then the samples, and the network runs that it took.

    Args:
        tables: to compare.
        denoiser: the network.
        noise: standard normal.
        condition: labels, or None.
        target: the teacher's samples of the same noise.
        radius: of the loss, in root mean square.
    """
    replay = Replay(denoiser, noise, condition)
    with torch.inference_mode():
        squares = [_residual(replay.end(table, [])[0], target).square().mean(1) for table in tables]
        sums = [_pseudo_huber(square, radius).sum() for square in squares]
        return torch.stack([*sums, *squares[0].new_tensor([len(noise), replay.runs * len(noise)])])


def _pseudo_huber(square: Float[Tensor, "batch"], radius: float) -> Float[Tensor, "batch"]:
    """Return the losses of samples whose distance has this mean square; half of it, where that is near."""
    return radius**2 * ((1 + square / radius**2).sqrt() - 1)


def _residual(end: Images, target: Images) -> Float[Tensor, "batch pixels"]:
    return (end.double() - target.double()).flatten(1)


def _first_run(along: Table) -> int:
    """Return the first run that feels a change; the number of runs if only the sample does."""
    felt = (along.noise[:-1] != 0) | (along.answers[:-1] != 0).any(1) | (along.told != 0)
    return int(felt.nonzero()[0]) if felt.any() else len(along.told)
