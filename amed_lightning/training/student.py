"""The student that is being distilled: a sampler whose placements come from a placer that learns.

It runs exactly as it samples; training is sampling with a loss between the steps. A one-step student starts every
interval from the teacher's state, where the stored trajectory knows the flow's first answer already; a multistep
student goes on from its own state and history. What the flow answers at an interval's start is asked for once and
carries no gradient.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from amed_lightning.config import InputError, Spec
from amed_lightning.denoisers.recomputed import Recomputed
from amed_lightning.flow.probability_flow import ProbabilityFlow
from amed_lightning.sampling.parts import SamplerParts, rule_of
from amed_lightning.sampling.sampler import Sampler
from amed_lightning.solvers.placed import PlacedSolver
from amed_lightning.solvers.placement import Placement, Placer
from amed_lightning.solvers.state import Solver, SolverState
from amed_lightning.teacher.trajectories import Trajectories
from amed_lightning.tensors import Images, Level, sent, squared_distance

Losses = Float[Tensor, "batch"]


@dataclass(frozen=True)
class Interval:
    """What a student did in one interval.

    Attributes:
        number: of the interval, from 1.
        place: where it placed its second evaluation.
        losses: squared distance of each sample to the teacher at the end, with a gradient in the placement.
    """

    number: int
    place: Placement
    losses: Losses


@runtime_checkable
class Gradient(Protocol):
    """Takes a student's step and compares the state with the teacher's."""

    def __call__(
        self,
        solver: PlacedSolver,
        flow: ProbabilityFlow,
        start: SolverState,
        sigma_next: Level,
        place: Placement,
        target: Images,
    ) -> tuple[SolverState, Losses]:
        """Return the state at ``sigma_next`` and each sample's squared distance to ``target``."""
        ...


def placed(solver: Solver, spec: Spec) -> PlacedSolver:
    """Return a solver as one that can be distilled.

    Raises:
        InputError: it places no second evaluation.
    """
    if not isinstance(solver, PlacedSolver):
        raise InputError(f"solver '{spec['name']}': it places no evaluation, so nothing of it can be learned")
    return solver


def _at_levels(parts: SamplerParts, sampler: Sampler) -> SamplerParts:
    """Return the parts at whose levels a sampler stops, from where the teacher starts; a table has its own."""
    if sampler.sigmas.equal(parts.sigmas):
        return parts
    levels = [*parts.sigmas[:1].tolist(), *sampler.sigmas[1:].tolist()]
    solver, schedule = rule_of(parts.config.solver), {"name": "explicit", "levels": levels}
    told = replace(parts.config, solver=solver, schedule=schedule, num_intervals=len(levels) - 1, nfe=None, afs=False)
    return SamplerParts(told, parts.model, schedule=parts.whole_schedule)


class Student:
    """A sampler's parts around a placer.

    Args:
        parts: model, solver and schedule.
        placer: learns.
        scale_dir: bound of its direction scales' distance from 1.
        scale_time: bound of its time scales' distance from 1.

    Attributes:
        taught: the parts at whose levels it is compared with the teacher.

    Raises:
        InputError: the solver has nothing to place.
    """

    def __init__(self, parts: SamplerParts, placer: Placer, scale_dir: float = 0.0, scale_time: float = 0.0) -> None:
        self.parts, self.placer = parts, placer
        self.scale_dir, self.scale_time = scale_dir, scale_time
        self.sampler = parts.sampler(placer)
        self.solver = placed(self.sampler.solver, parts.config.solver)
        self.taught = _at_levels(parts, self.sampler)

    @property
    def is_multistep(self) -> bool:
        """Whether it goes on from its own states."""
        return self.solver.is_multistep

    def start(self, teacher: Trajectories, index: int = 0) -> SolverState:
        """Return the state of the teacher at level number ``index``, as the student starts from it."""
        x, sigmas = teacher.states[:, index], sent(self.sampler.sigmas[index:], teacher.states.device)
        known = self.sampler.known_at_start(x) if index == 0 else None
        return self.solver.init(x, sigmas, known or teacher.evaluation(index, sigmas[0]))

    def intervals(self, teacher: Trajectories, gradient: Gradient) -> Iterator[Interval]:
        """Run along the teacher's trajectories.

        Args:
            teacher: stored trajectories.
            gradient: takes the steps.

        Yields:
            Each interval. The next one starts after the caller has come back.
        """
        flow = ProbabilityFlow(self.parts.model.denoiser, teacher.condition)
        sigmas = sent(self.sampler.sigmas[1:], teacher.states.device)
        state = self.start(teacher)
        for number, sigma_next in enumerate(sigmas, start=1):
            here, nfe = state.evaluated(flow)
            state = replace(state, known=here, nfe=nfe)
            place = self.placer(here, state.sigma, sigma_next)
            end, losses = gradient(self.solver, flow, state, sigma_next, place, teacher.states[:, number])
            yield Interval(number, place, losses)
            if number < len(sigmas):
                state = end.detach() if self.is_multistep else self.start(teacher, number)

    def whole(self, teacher: Trajectories) -> Iterator[Interval]:
        """Run from noise to samples as when sampling; every interval's losses have a gradient in all placements so far.

        Args:
            teacher: trajectories from the same noise.
        """
        flow = ProbabilityFlow(Recomputed(self.parts.model.denoiser), teacher.condition)
        sigmas = sent(self.sampler.sigmas, teacher.states.device)
        x = teacher.states[:, 0] * (sigmas[0] / self.parts.sigmas[0]).to(teacher.states)
        state = self.solver.init(x, sigmas, self.sampler.known_at_start(x))
        for number, sigma_next in enumerate(sigmas[1:], start=1):
            here, nfe = state.evaluated(flow)
            place = self.placer(here, state.sigma, sigma_next)
            state = self.solver.step_at(flow, replace(state, known=here, nfe=nfe), sigma_next, place)
            yield Interval(number, place, squared_distance(state.x, teacher.states[:, number]))
