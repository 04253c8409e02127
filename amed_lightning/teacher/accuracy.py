"""How far the teacher itself is from what more steps would make of the same noise.

A student copies its teacher's error, and a fit that is free to follows it there: whatever the loss says, samples get no
nearer than the teacher's are. So a teacher must be better than what nobody has to train, iPNDM of the student's cost.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from amed_lightning.config import InputError, build
from amed_lightning.denoisers.interruptible import interruptible
from amed_lightning.sampling.parts import SamplerParts
from amed_lightning.sampling.sampler import Sampler
from amed_lightning.seeds import Seeds
from amed_lightning.solvers.registry import SOLVERS
from amed_lightning.teacher.trajectories import TeacherRecipe
from amed_lightning.tensors import Images

_UNTRAINED = {"name": "ipndm", "order": 3}


@dataclass(frozen=True)
class Accuracy:
    """Root mean square distances from the samples of a teacher of twice as many steps, per pixel.

    Attributes:
        teacher: of its samples.
        untrained: of iPNDM's at the student's network runs, if the student's schedule has that many levels.
        count: of samples.
    """

    teacher: float
    untrained: float | None
    count: int

    def lines(self) -> list[str]:
        """Say it, and warn of a teacher that is no better than what nobody has to train."""
        said = [f"teacher: {self.teacher:.3g} (RMSE, {self.count} seeds) from the samples of twice as many steps"]
        if self.untrained is not None:
            said.append(f"iPNDM-3, untrained, at the student's network runs: {self.untrained:.3g}")
            if self.teacher >= self.untrained:
                said.append("warning: a student copies its teacher's error; raise teacher.inner_levels")
        return said


def accuracy(parts: SamplerParts, recipe: TeacherRecipe, nfe: int, seeds: Seeds, device: torch.device) -> Accuracy:
    """Sample the same noise with the teacher, with one of twice as many steps, and with iPNDM.

    Args:
        parts: of the student, its model on ``device``.
        recipe: of the teacher.
        nfe: network runs of the student.
        seeds: one sample each, all in one batch.
        device: where to compute.
    """
    model = interruptible(parts.model)
    sigmas = torch.tensor(recipe.sigmas, dtype=torch.float64)
    teacher = Sampler(model, build("solver", SOLVERS, recipe.solver), sigmas, recipe.afs)
    condition = model.condition_for(seeds)
    condition = None if condition is None else condition.to(device)
    noise = seeds.noise(model.shape).to(device, model.state_dtype)

    def samples(sampler: Sampler) -> Images:
        with torch.inference_mode():
            return sampler.sample(noise, condition).x.double()

    fine = samples(replace(teacher, sigmas=halved(sigmas)))

    def distance(sampler: Sampler) -> float:
        return float((samples(sampler) - fine).square().mean().sqrt())

    plain = replace(parts.config, solver=_UNTRAINED, num_intervals=None, nfe=nfe, afs=False)
    try:
        sampler = SamplerParts(plain, parts.model).sampler(None)
        untrained = distance(replace(sampler, model=model, denoise_to_zero=False))
    except InputError:  # levels that are told or were found for another use
        untrained = None
    return Accuracy(distance(teacher), untrained, len(seeds))


def halved(sigmas: Float[Tensor, "levels"]) -> Float[Tensor, "finer"]:
    """Return the levels with one between any two, in the middle of their logarithms.

    >>> halved(torch.tensor([4.0, 1.0])).tolist()
    [4.0, 2.0, 1.0]
    """
    between = (sigmas[:-1] * sigmas[1:]).sqrt()
    return torch.cat([torch.stack([sigmas[:-1], between], 1).flatten(), sigmas[-1:]])
