r"""One interval of a student as inner products: its loss at any placement, without the network.

A step is linear in what it starts from and in what the flow answers: the state x, the first derivative, a multistep
solver's past answers, and the slopes ``v = (x^ - D(x^; a s)) / s`` at the states x^ where the network is asked. Given
the start, v depends on the placement (r, a, and c where a solver asks again after its second update) alone and smoothly.
Its values at a grid of nodes, interpolated, are therefore all that the loss needs of the network, and of all vectors it
needs the inner products only:

    ``|x_teacher - x'|^2 = w^T G w``,   G the Gram matrix of ``(x_teacher - x, x, the answers known at the start, v at the nodes)``

The weights w come out of the solver's own ``step``, run on the vectors' coordinates instead of the vectors; their
gradient with respect to the placement is autograd's. Interpolating v rather than the inner products keeps the error small
beside the loss: ``|x_teacher - x|^2`` is up to a million times the loss, and the sums are float64 for the same reason.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from amed_lightning.denoisers.remembering import Question, Remembering
from amed_lightning.flow.model import Condition, Denoised, Features
from amed_lightning.flow.probability_flow import Evaluation, ProbabilityFlow
from amed_lightning.solvers.placed_step import PlacedStep
from amed_lightning.solvers.placement import Placement
from amed_lightning.solvers.state import SolverState
from amed_lightning.teacher.nodes import AXES, AxisName, Nodes
from amed_lightning.tensors import Images, Level, per_sample

Grams = Float[Tensor, "rows directions directions"]
Weights = Float[Tensor, "rows directions"]
PROBES = 32
"""Ratios at which two sets of nodes are compared."""


@dataclass(frozen=True)
class Interpolant:
    """A denoiser that answers in coordinates, one given slope after the other.

    Attributes:
        slopes: coordinates of the slopes that the step will ask for.
        time_scale: of the placement; a slope divides by the level that this one scales.
    """

    slopes: Iterator[Images]
    time_scale: Level | float
    cost: int = 0

    def __call__(self, x: Images, sigma: Level, condition: Condition | None) -> Denoised:
        """Answer with the next."""
        return Denoised(x - sigma / self.time_scale * next(self.slopes), x.new_zeros(len(x), 0))


@dataclass(frozen=True)
class StepTable:
    """One interval of many samples.

    Attributes:
        sigma: level at its start, of shape () and float64, as is ``sigma_next``.
        sigma_next: level at its end.
        updates_left: of the solver, at the start.
        nodes: where the flow was asked.
        gram: inner products of the directions, in float64.
        features: the bottleneck at the start.
        past: levels of the solver's past answers, newest last.
    """

    sigma: Level
    sigma_next: Level
    updates_left: int
    nodes: Nodes
    gram: Grams
    features: Features
    past: Float[Tensor, "rows past"]

    def __len__(self) -> int:
        return len(self.gram)

    @property
    def start(self) -> Evaluation:
        """What a placer sees of the interval's start: its features, with no pixels."""
        nothing = self.features.new_zeros(len(self), 0, 0, 0)
        return Evaluation(self.sigma, nothing, nothing, self.features, 0)

    def losses(self, step: PlacedStep, place: Placement) -> Float[Tensor, "rows"]:
        """Return each sample's squared distance to the teacher, differentiable in the placement."""
        weights = self.residual(step, place)
        return ((weights[:, None] @ self.gram)[:, 0] * weights).sum(1)

    def residual(self, step: PlacedStep, place: Placement) -> Weights:
        """Return the coordinates of what the step leaves to the teacher's state.

        Args:
            step: of the student.
            place: numbers, or tensors of shape (rows, 1, 1, 1).
        """
        place = _per_sample(place, self.gram)
        units = torch.eye(self.gram.shape[1] - 1, dtype=torch.float64, device=self.gram.device)
        state = self._coordinates(units)
        flow = ProbabilityFlow(Interpolant(self._slopes(place), place.time_scale))
        end = step(flow, state, self.sigma_next, place).x
        return torch.cat([end.new_ones(len(self), 1), (state.x - end).flatten(1)], 1)

    def coarser(self, axis: AxisName) -> "StepTable":
        """Return the table of every second node of one axis."""
        nodes, kept = self.nodes.coarser(axis)
        fixed = self._fixed + 1
        blocks = range(fixed, self.gram.shape[1], len(self.nodes))
        places = [*range(fixed), *(block + place for block in blocks for place in kept)]
        return replace(self, nodes=nodes, gram=self.gram[:, places][:, :, places])

    def at(self, nodes: Nodes) -> "StepTable":
        """Return the same table as if the flow had been asked at other nodes, among which are all of its own."""
        values = torch.cat([self.nodes.weights(place, self.gram[:1]) for place in nodes.placements()])
        fixed = torch.eye(self._fixed + 1, dtype=torch.float64, device=self.gram.device)
        lift = torch.block_diag(fixed, *[values] * self._questions)
        return replace(self, nodes=nodes, gram=lift @ self.gram @ lift.T)

    def disagreement(self, step: PlacedStep, axis: AxisName) -> float:
        """Return by how much of itself the mean loss changes where every second node is left out, at its worst.

        Args:
            step: of the student.
            axis: whose nodes are left out.
        """
        coarser = self.coarser(axis)
        worst = 0.0
        for place in _probes(self.nodes):
            fine, coarse = (float(table.losses(step, place).mean()) for table in (self, coarser))
            worst = max(worst, abs(fine - coarse) / fine)
        return worst

    def select(self, rows: Tensor) -> "StepTable":
        """Return some samples' part."""
        return replace(self, gram=self.gram[rows], features=self.features[rows], past=self.past[rows])

    def to(self, device: torch.device) -> "StepTable":
        """Copy to a device."""
        tensors: dict[str, Any] = {name: value.to(device) for name, value in vars(self).items() if isinstance(value, Tensor)}
        return replace(self, **tensors)

    @property
    def _fixed(self) -> int:
        """Directions that are no answers at nodes: x, and two for the answer at the start and each past one."""
        return 3 + 2 * self.past.shape[1]

    @property
    def _questions(self) -> int:
        """How often a step asks."""
        return (self.gram.shape[1] - 1 - self._fixed) // len(self.nodes)

    def _coordinates(self, units: Float[Tensor, "directions directions"]) -> SolverState:
        x, *pairs = (unit.reshape(1, -1, 1, 1).expand(len(self), -1, 1, 1) for unit in units[: self._fixed])
        levels = [*(level.reshape(-1, 1, 1, 1) for level in self.past.unbind(1)), self.sigma]
        *history, known = (
            Evaluation(level, denoised, derivative, self.features, 0)
            for level, derivative, denoised in zip(levels, pairs[::2], pairs[1::2], strict=True)
        )
        return SolverState(x, self.sigma, known, tuple(history), self.updates_left, 0)

    def _slopes(self, place: Placement) -> Iterator[Images]:
        values = self.nodes.weights(place, self.gram)
        for question in range(self._questions):
            left = self._fixed + question * len(self.nodes)
            right = self.gram.shape[1] - 1 - left - len(self.nodes)
            yield F.pad(values, (left, right))[..., None, None]


def tabulate(
    step: PlacedStep,
    denoiser: Remembering,
    condition: Condition | None,
    start: SolverState,
    sigma_next: Level,
    target: Images,
    nodes: Nodes,
) -> StepTable:
    """Ask at every node and keep the inner products.

    Args:
        step: of the student.
        denoiser: the network; what it was asked before is not asked again.
        condition: labels, or None.
        start: of the interval, with the flow's answer there.
        sigma_next: the interval's end.
        target: the teacher's states there.
        nodes: placements to ask at.
    """
    if start.known is None:
        raise ValueError("the flow's answer at the interval's start is not known")
    flow = ProbabilityFlow(denoiser, condition)
    asked: list[list[Images]] = []
    for place in nodes.placements():
        denoiser.trail.clear()
        step(flow, start, sigma_next, _per_sample(place, start.x) if start.history else place)
        asked.append([(q.x - q.answer.image) / (q.sigma / place.time_scale) for q in denoiser.trail])
    answers = [vector for answer in (*start.history, start.known) for vector in (answer.derivative, answer.denoised)]
    slopes = [slope for question in zip(*asked, strict=True) for slope in question]
    vectors = (target.double() - start.x.double(), start.x, *answers, *slopes)
    directions = torch.stack([vector.double().flatten(1) for vector in vectors], 1)
    levels = [per_sample(answer.sigma.double(), len(target)) for answer in start.history]
    return StepTable(
        sigma=start.sigma,
        sigma_next=sigma_next,
        updates_left=start.updates_left,
        nodes=nodes,
        gram=directions @ directions.mT,
        features=start.known.features,
        past=torch.stack(levels, 1) if levels else target.new_zeros(len(target), 0).double(),
    )


def _per_sample(place: Placement, like: Float[Tensor, "rows *_"]) -> Placement:
    """Give each sample its own placement in the precision of ``like``, as a predictor does."""
    entries = (place.ratio, place.direction_scale, place.time_scale, place.start_scale)
    shape = (len(like), 1, 1, 1)
    return Placement(*(torch.as_tensor(value).to(like).expand(shape) for value in entries))


def _probes(nodes: Nodes) -> Iterator[Placement]:
    """Yield placements that lie between nodes of any grid."""
    low, high = nodes.ratio[0], nodes.ratio[-1]
    for index in range(PROBES):
        ratio = low + (high - low) * (index + 0.5) / PROBES
        for time_scale in {nodes.time_scale[0] * 0.7 + nodes.time_scale[-1] * 0.3, nodes.time_scale[-1]}:
            yield Placement(ratio, 1.0, time_scale)
