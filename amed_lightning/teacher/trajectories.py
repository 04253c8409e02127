"""The teacher's trajectories: a finer run of a classical solver, read at the student's levels.

The teacher has M inner levels inside every interval of the student. What it computed on the way at the student's levels
is kept with the states, because a one-step student starts there: its first evaluation is already known.
"""

from dataclasses import asdict, dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from amed_lightning.config import InputError, Spec, build, complete, digest
from amed_lightning.flow.model import Condition, DiffusionModel
from amed_lightning.flow.probability_flow import Evaluation, ProbabilityFlow, analytic_first_step
from amed_lightning.noise.schedules import levels
from amed_lightning.sampling.sampler import SamplerParts
from amed_lightning.seeds import Seeds
from amed_lightning.solvers.registry import SOLVERS
from amed_lightning.tensors import Level


@dataclass(frozen=True)
class TeacherConfig:
    """How the teacher runs.

    Attributes:
        solver: name and options.
        inner_levels: levels inside each of the student's intervals (M in the paper).
        batch_size: trajectories per network run; part of the recipe, because it moves the last digit.
        afs: replace the first evaluation by the analytic one.
    """

    solver: Spec
    inner_levels: int = 1
    batch_size: int = 64
    afs: bool = False


@dataclass(frozen=True)
class TeacherRecipe:
    """Everything that determines the trajectory of a seed. Its digest names the store.

    Attributes:
        sigmas: all levels at which the teacher stops; every (len(sigmas) - 1) / num_intervals-th is stored.
        num_intervals: between stored levels.
    """

    model: str
    shape: tuple[int, int, int]
    feature_size: int
    num_classes: int
    solver: Spec
    sigmas: tuple[float, ...]
    num_intervals: int
    batch_size: int
    afs: bool = False
    dtype: str = "float32"

    @property
    def digest(self) -> str:
        """The SHA-256 of the recipe."""
        return digest(asdict(self))


def recipe_for(parts: SamplerParts, teacher: TeacherConfig) -> TeacherRecipe:
    """Return the recipe of the teacher of a student.

    Args:
        parts: the student's model, schedule and number of intervals.
        teacher: how the teacher runs.

    Raises:
        InputError: an unknown solver, or a number out of range.
    """
    for name, least in (("inner_levels", 0), ("batch_size", 1)):
        if getattr(teacher, name) < least:
            raise InputError(f"teacher.{name} is {getattr(teacher, name)}; it must be at least {least}")
    if teacher.afs and not parts.config.afs:
        raise InputError("teacher.afs is true, but the student evaluates its own start; set both or neither")
    build("solver", SOLVERS, teacher.solver)
    num_levels = parts.config.num_intervals * (teacher.inner_levels + 1)
    sigmas = levels(parts.schedule, num_levels, parts.model.noise_range)
    return TeacherRecipe(
        model=parts.model.digest,
        shape=parts.model.shape,
        feature_size=parts.model.feature_size,
        num_classes=parts.model.num_classes,
        solver=complete("solver", SOLVERS, teacher.solver, hidden=["placer"]),
        sigmas=tuple(sigmas.tolist()),
        num_intervals=parts.config.num_intervals,
        batch_size=teacher.batch_size,
        afs=teacher.afs,
    )


@dataclass(frozen=True, slots=True)
class Trajectories:
    """Trajectories at the student's N + 1 levels.

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
        condition = None if self.condition is None else self.condition.to(device)
        states, derivatives, features = (part.to(device) for part in (self.states, self.derivatives, self.features))
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
        Trajectories on the CPU.
    """
    solver = build("solver", SOLVERS, recipe.solver)
    sigmas = torch.tensor(recipe.sigmas, dtype=torch.float64, device=device)
    stride = (len(sigmas) - 1) // recipe.num_intervals
    condition = model.condition_for(seeds)
    flow = ProbabilityFlow(model.denoiser, None if condition is None else condition.to(device))
    answers: list[Evaluation] = []
    with torch.inference_mode():
        x = seeds.noise(model.shape).to(device) * sigmas[0].float()
        state = solver.init(x, sigmas, analytic_first_step(x, sigmas[0], model.feature_size) if recipe.afs else None)
        states = [state.x]
        for index, sigma_next in enumerate(sigmas[1:]):
            here, nfe = state.evaluated(flow)
            if index % stride == 0:
                answers.append(here)
            state = solver.step(flow, replace(state, known=here, nfe=nfe), sigma_next)
            if (index + 1) % stride == 0:
                states.append(state.x)
    return Trajectories(
        torch.stack(states, 1).cpu(),
        torch.stack([answer.derivative for answer in answers], 1).cpu(),
        torch.stack([answer.features for answer in answers], 1).cpu(),
        condition,
        torch.arange(seeds.start, seeds.stop),
    )
