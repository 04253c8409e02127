r"""One interval of a student as inner products: its loss at any placement, without the network.

A step is linear in what it starts from and in what the flow answers: the state x, the answer that is known there, a
multistep solver's past answers, and the slopes ``v = (x^ - D(x^; a s)) / s`` at the states x^ where the network is
asked. Given the start, v depends on the placement alone (r, a, and c where a solver asks again after its second
update), and smoothly. Its values at a grid of nodes, interpolated, are all that the loss needs of the network, and of
all vectors it needs the inner products only:

    ``|x_teacher - x'|^2 = w^T G w``,   G the Gram matrix of ``(x_teacher - x, x, known answers, v at the nodes)``

The weights w come out of the solver's own ``step_at``, run on the vectors' coordinates instead of the vectors; their
gradient with respect to the placement is autograd's. Interpolating v rather than the inner products keeps the error
small beside the loss: ``|x_teacher - x|^2`` is up to a million times the loss, and the sums are float64 for the same
reason.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from amed_lightning.flow.model import Condition, Denoised, Features
from amed_lightning.flow.probability_flow import Evaluation, ProbabilityFlow
from amed_lightning.noise.schedules import Grid
from amed_lightning.solvers.placed import PlacedSolver
from amed_lightning.solvers.placement import Placement
from amed_lightning.solvers.state import SolverState
from amed_lightning.teacher.nodes import AxisName, Nodes
from amed_lightning.tensors import Images, Level

Grams = Float[Tensor, "rows directions directions"]
Weights = Float[Tensor, "rows directions"]


@dataclass(frozen=True)
class _Interpolant:
    """A denoiser that answers in coordinates, one given slope after the other.

    Attributes:
        slopes: coordinates of the slopes that the step will ask for.
        time_scale: of the placement; a slope divides by the level that this one scales.
    """

    slopes: Iterator[Images]
    time_scale: Level
    cost: int = 0

    def __call__(self, x: Images, sigma: Level, condition: Condition | None) -> Denoised:
        """Answer with the next."""
        return Denoised(x - sigma / self.time_scale * next(self.slopes), x.new_zeros(len(x), 0))


@dataclass(frozen=True)
class StepTable:
    """One interval of many samples.

    Attributes:
        sigmas: the student's levels from the interval's start on.
        nodes: where the flow was asked.
        gram: inner products of the directions, in float64.
        features: the bottleneck at the start.
        past: levels of the solver's past answers, newest last, in float64.
        disagreement: by how much of itself the mean loss changes, at its worst, where every second node is left out.
    """

    sigmas: Grid
    nodes: Nodes
    gram: Grams
    features: Features
    past: Float[Tensor, "rows past"]
    disagreement: float = 0.0

    def __len__(self) -> int:
        return len(self.gram)

    @property
    def start(self) -> Evaluation:
        """What a placer sees of the interval's start: the features, and images without pixels."""
        nothing = self.features.new_zeros(len(self), 0, 0, 0)
        return Evaluation(self.sigmas[0], nothing, nothing, self.features, 0)

    def losses(self, solver: PlacedSolver, place: Placement) -> Float[Tensor, "rows"]:
        """Return each sample's squared distance to the teacher, differentiable in the placement."""
        return self.products(*[self.residual(solver, place)] * 2)

    def averaged(self, count: int) -> "StepTable":
        """Return ``count`` rows that each stand for all samples, whose mean their losses are.

        This is so where all are placed alike and none has a past of its own, as a placement per row then says.

        Raises:
            ValueError: the samples have a past.
        """
        if self.past.shape[1]:
            raise ValueError("samples with past answers at levels of their own have no mean")
        means = (part.mean(0).expand(count, *part.shape[1:]) for part in (self.gram, self.features, self.past))
        gram, features, past = means
        return replace(self, gram=gram, features=features, past=past)

    def products(self, a: Weights, b: Weights) -> Float[Tensor, "rows"]:
        """Return the inner products of two vectors given by their coordinates."""
        return ((a[:, None] @ self.gram)[:, 0] * b).sum(1)

    def residual(self, solver: PlacedSolver, place: Placement) -> Weights:
        """Return the coordinates of what the step leaves to the teacher's state.

        Args:
            solver: of the student.
            place: numbers, or tensors of shape (rows, 1, 1, 1).
        """
        place = place.per_sample(self.gram)
        units = torch.eye(self.gram.shape[1] - 1, dtype=torch.float64, device=self.gram.device)
        state = self._coordinates(solver, units)
        flow = ProbabilityFlow(_Interpolant(self._slopes(place), torch.as_tensor(place.time_scale)))
        end = solver.step_at(flow, state, self.sigmas[1], place).x
        return torch.cat([end.new_ones(len(self), 1), (state.x - end).flatten(1)], 1)

    @property
    def start_slope(self) -> Weights:
        """Coordinates of the whole interval's length times the derivative at its start."""
        along = self.gram.new_zeros(1, self.gram.shape[1])
        along[:, self._fixed - 2] = self.sigmas[1] - self.sigmas[0]
        return along

    def coarser(self, axis: AxisName) -> "StepTable":
        """Return the table of every second node of one axis."""
        nodes, kept = self.nodes.coarser(axis)
        blocks = range(self._fixed, self.gram.shape[1], len(self.nodes))
        places = [*range(self._fixed), *(block + place for block in blocks for place in kept)]
        return replace(self, nodes=nodes, gram=self.gram[:, places][:, :, places])

    def at(self, nodes: Nodes) -> "StepTable":
        """Return the same table as if the flow had been asked at other nodes, among which are all of its own."""
        if nodes == self.nodes:
            return self
        values = torch.cat([self.nodes.weights(place, self.gram[:1]) for place in nodes.placements()])
        size = self._fixed + len(nodes) * self._queries
        lift = self.gram.new_zeros(size, self.gram.shape[1])
        lift[: self._fixed, : self._fixed].fill_diagonal_(1.0)
        for query in range(self._queries):
            new, old = (self._fixed + query * len(grid) for grid in (nodes, self.nodes))
            lift[new : new + len(nodes), old : old + len(self.nodes)] = values
        return replace(self, nodes=nodes, gram=lift @ self.gram @ lift.T)

    def select(self, rows: Tensor) -> "StepTable":
        """Return some samples' part."""
        return replace(self, gram=self.gram[rows], features=self.features[rows], past=self.past[rows])

    def to(self, device: torch.device) -> "StepTable":
        """Copy to a device."""
        tensors: dict[str, Any] = {
            name: value.to(device) for name, value in vars(self).items() if isinstance(value, Tensor)
        }
        return replace(self, **tensors)

    @property
    def _fixed(self) -> int:
        """Directions before the nodes': the teacher's and x, two for the answer at the start and each past one."""
        return 4 + 2 * self.past.shape[1]

    @property
    def _queries(self) -> int:
        """How often a step asks."""
        return (self.gram.shape[1] - self._fixed) // len(self.nodes)

    def _coordinates(self, solver: PlacedSolver, units: Float[Tensor, "directions directions"]) -> SolverState:
        """Return the interval's start, its vectors replaced by their coordinates."""
        x, *pairs = (unit.reshape(1, -1, 1, 1).expand(len(self), -1, 1, 1) for unit in units[: self._fixed - 1])
        levels = [*(level.reshape(-1, 1, 1, 1) for level in self.past.unbind(1)), self.sigmas[0]]
        *history, known = (
            Evaluation(level, denoised, derivative, self.features, 0)
            for level, derivative, denoised in zip(levels, pairs[::2], pairs[1::2], strict=True)
        )
        return replace(solver.init(x, self.sigmas, known), history=tuple(history))

    def _slopes(self, place: Placement) -> Iterator[Images]:
        """Yield the coordinates of the slope that each query finds."""
        values = self.nodes.weights(place, self.gram)
        for query in range(self._queries):
            left = self._fixed - 1 + query * len(self.nodes)
            right = self.gram.shape[1] - 1 - left - len(self.nodes)
            yield F.pad(values, (left, right))[..., None, None]


def joined(tables: list[StepTable]) -> StepTable:
    """Return the table of all samples of several, at nodes that contain those of each."""
    nodes = tables[0].nodes
    for table in tables[1:]:
        nodes = nodes.united(table.nodes)
    lifted = [table.at(nodes) for table in tables]
    return replace(
        lifted[0],
        gram=torch.cat([table.gram for table in lifted]),
        features=torch.cat([table.features for table in lifted]),
        past=torch.cat([table.past for table in lifted]),
        disagreement=max(table.disagreement for table in lifted),
    )
