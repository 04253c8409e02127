"""The teacher's trajectories: a fine run of a classical solver, kept at the levels where students stop.

The teacher has M inner levels inside every interval of a grid whose levels are kept. The grid is the student's, or one
of the teacher's own: then one store is dense enough for students of any schedule and any number of intervals. What the
flow answered at a kept level is kept with the state, because a one-step student starts there: its first evaluation is
already known.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from amed_lightning.config import InputError, Spec, build, complete, digest
from amed_lightning.denoisers.arithmetic import Arithmetic
from amed_lightning.flow.model import Condition, DiffusionModel
from amed_lightning.flow.probability_flow import Evaluation, ProbabilityFlow, analytic_first_step
from amed_lightning.noise.schedules import levels
from amed_lightning.sampling.finite import NotFiniteError, first_broken, places
from amed_lightning.sampling.parts import SamplerParts
from amed_lightning.seeds import Seeds, Stream
from amed_lightning.solvers.registry import SOLVERS
from amed_lightning.tensors import Level, is_finite, sent

SHARD_SIZE = 256
"""Trajectories per shard of a store, unless a teacher says otherwise."""


@dataclass(frozen=True)
class TeacherConfig:
    """How the teacher runs.

    Attributes:
        solver: name and options.
        inner_levels: levels inside each of the kept intervals (M in the paper).
        batch_size: trajectories per network run; part of the recipe, because it moves the last digit.
        afs: replace the first evaluation by the analytic one.
        schedule: name and options of a grid of the teacher's own; the student's if none.
        num_intervals: of a grid of the teacher's own, whose levels are kept; the student's if none.
        dtype: of the stored numbers, float64, float32 or float16; that of the states if none.
        shard_size: trajectories that are computed and stored together, and lost where that is interrupted; smaller for
            a network so slow that they take longer than a cluster's grace time.
    """

    solver: Spec
    inner_levels: int = 1
    batch_size: int = 64
    afs: bool = False
    schedule: Spec | None = None
    num_intervals: int | None = None
    dtype: str | None = None
    shard_size: int = SHARD_SIZE


@dataclass(frozen=True)
class TeacherRecipe:
    """Everything that determines the trajectory of a seed. Its digest names the store.

    Attributes:
        conditions: identifies the labels or prompts of the seeds, or None.
        sigmas: all levels at which the teacher stops; every ``stride``-th is stored.
        num_intervals: between stored levels.
        arithmetic: how the network computes, for the teacher and for the student.
        version: of what is stored; since 2 an answer is always that of the flow at the stored state, since 3 the
            arithmetic is told.
    """

    model: str
    shape: tuple[int, int, int]
    feature_size: int
    conditions: str | None
    solver: Spec
    sigmas: tuple[float, ...]
    num_intervals: int
    batch_size: int
    afs: bool = False
    dtype: str = "float32"
    arithmetic: Arithmetic = field(default_factory=Arithmetic)
    shard_size: int = SHARD_SIZE
    version: int = 3

    @property
    def stride(self) -> int:
        """Steps of the teacher from one stored level to the next."""
        return (len(self.sigmas) - 1) // self.num_intervals

    @property
    def stored_sigmas(self) -> tuple[float, ...]:
        """The levels that are stored."""
        return self.sigmas[:: self.stride]

    @property
    def digest(self) -> str:
        """The SHA-256 of the recipe."""
        return digest(asdict(self))


def recipe_for(parts: SamplerParts, teacher: TeacherConfig) -> TeacherRecipe:
    """Return the recipe of the teacher of a student.

    Args:
        parts: the student's model, and its schedule and number of intervals where the teacher has none of its own.
        teacher: how the teacher runs.

    Raises:
        InputError: an unknown solver, schedule or precision, a number out of range, or options that exclude each other.
    """
    _check(parts, teacher)
    build("solver", SOLVERS, teacher.solver)
    arithmetic = parts.config.arithmetic
    kept = _kept_grid(parts, teacher)
    starts = float(kept.sigmas[0]), float(parts.sigmas[0])
    if starts[0] != starts[1]:
        raise InputError(
            f"teacher.schedule starts at {starts[0]:g}, the student at {starts[1]:g}; a student starts from pure "
            "noise, which the teacher's state there is not: give both one start"
        )
    sigmas = levels(kept.schedule, kept.num_intervals * (teacher.inner_levels + 1), parts.model.noise_range)
    return TeacherRecipe(
        model=parts.model.digest,
        shape=parts.model.shape,
        feature_size=parts.model.feature_size,
        conditions=parts.model.conditions_digest(Stream.training),
        solver=complete("solver", SOLVERS, teacher.solver, hidden=["placer"]),
        sigmas=tuple(sigmas.tolist()),
        num_intervals=kept.num_intervals,
        batch_size=teacher.batch_size,
        afs=teacher.afs,
        dtype=teacher.dtype or arithmetic.state_dtype,
        arithmetic=arithmetic,
        shard_size=teacher.shard_size,
    )


def _check(parts: SamplerParts, teacher: TeacherConfig) -> None:
    for name, least in (("inner_levels", 0), ("batch_size", 1), ("shard_size", 1)):
        if getattr(teacher, name) < least:
            raise InputError(f"teacher.{name} is {getattr(teacher, name)}; it must be at least {least}")
    if teacher.schedule is not None and teacher.num_intervals is None:
        raise InputError("teacher.schedule is of a grid of the teacher's own: set teacher.num_intervals, too")
    if teacher.afs and teacher.num_intervals is not None:
        raise InputError(
            "teacher.afs is true, but a grid of the teacher's own serves students that evaluate their start"
        )
    if teacher.afs and not parts.config.afs:
        raise InputError("teacher.afs is true, but the student evaluates its own start; set both or neither")
    if teacher.dtype == "bfloat16":
        raise InputError("teacher.dtype is bfloat16, whose 8 bits do not do for derivatives; use float32 or float16")
    if teacher.dtype not in (None, "float64", "float32", "float16"):
        raise InputError(f"teacher.dtype is {teacher.dtype}; use float64, float32 or float16")


def _kept_grid(parts: SamplerParts, teacher: TeacherConfig) -> SamplerParts:
    if teacher.num_intervals is None:
        return parts
    schedule = teacher.schedule or parts.whole_schedule
    own = replace(parts.config, schedule=schedule, num_intervals=teacher.num_intervals, nfe=None)
    return SamplerParts(own, parts.model)


@dataclass(frozen=True, slots=True)
class Trajectories:
    """Trajectories at N + 1 levels.

    Attributes:
        states: x at every level.
        derivatives: dx/dsigma at every level but the last.
        features: the network's bottleneck there.
        condition: labels, or None.
        seeds: of the trajectories.
    """

    states: Float[Tensor, "batch levels channels height width"]
    derivatives: Float[Tensor, "batch intervals channels height width"]
    features: Float[Tensor, "batch intervals feature_size"]
    condition: Condition | None
    seeds: Int[Tensor, "batch"]

    def to(self, device: torch.device) -> "Trajectories":
        """Copy to a device."""
        condition = None if self.condition is None else sent(self.condition, device)
        states, derivatives, features = (sent(part, device) for part in (self.states, self.derivatives, self.features))
        return Trajectories(states, derivatives, features, condition, self.seeds)

    def evaluation(self, index: int, sigma: Level) -> Evaluation:
        """Return what the flow said at level number ``index``, which is ``sigma``."""
        derivative = self.derivatives[:, index]
        return Evaluation(sigma, self.states[:, index] - sigma * derivative, derivative, self.features[:, index], 0)


def roll_out(model: DiffusionModel, recipe: TeacherRecipe, seeds: Seeds, device: torch.device) -> Trajectories:
    """Run the teacher from the noise of each seed.

    Args:
        model: the one the recipe was made for.
        recipe: how to run.
        seeds: one trajectory each; all in one batch.
        device: where to compute.

    Returns:
        Trajectories on the CPU, in the precision of the states.

    Raises:
        NotFiniteError: one of them is not.
    """
    solver = build("solver", SOLVERS, recipe.solver)
    sigmas = sent(torch.tensor(recipe.sigmas, dtype=torch.float64), device)
    noise, condition = model.start_of(seeds)
    flow = ProbabilityFlow(model.denoiser, None if condition is None else sent(condition, device))
    answers: list[Evaluation] = []
    with torch.inference_mode():
        x = sent(noise, device).to(model.state_dtype)
        x = x * sigmas[0].to(x)
        state = solver.init(x, sigmas, analytic_first_step(x, sigmas[0], model.feature_size) if recipe.afs else None)
        states = [state.x]
        for index, sigma_next in enumerate(sigmas[1:]):
            here, nfe = state.evaluated(flow)
            if index % recipe.stride == 0:
                # UniPC hands on what the flow said at its predicted state; a student starts at the corrected one.
                elsewhere = index > 0 and state.known is not None
                answers.append(flow(state.x, state.sigma) if elsewhere else here)
            state = solver.step(flow, replace(state, known=here, nfe=nfe), sigma_next)
            if (index + 1) % recipe.stride == 0:
                states.append(state.x)
    rolled = Trajectories(
        torch.stack(states, 1).cpu(),
        torch.stack([answer.derivative for answer in answers], 1).cpu(),
        torch.stack([answer.features for answer in answers], 1).cpu(),
        condition,
        torch.arange(seeds.start, seeds.stop),
    )
    if not is_finite(rolled.states, rolled.derivatives, rolled.features):
        raise _not_finite(rolled, seeds, recipe.stored_sigmas)
    return rolled


def _not_finite(rolled: Trajectories, seeds: Seeds, sigmas: Sequence[float]) -> NotFiniteError:
    """Find the first interval, and in it the first seed; to an interval belong the answers at its start."""
    inside = [first_broken(rolled.states[:, 0])] + [
        first_broken(rolled.derivatives[:, index], rolled.features[:, index], rolled.states[:, index + 1])
        for index in range(len(sigmas) - 1)
    ]
    place, row = next((place, row) for place, row in zip(places(sigmas), inside, strict=True) if row is not None)
    return NotFiniteError("teacher's trajectory", seeds, row, place)
