"""The gradient of a student's losses in its placements, by every route and by forward mode."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch.autograd import forward_ad
from torch.nn.attention import SDPBackend, sdpa_kernel

from amed_lightning.denoisers.arithmetic import Arithmetic
from amed_lightning.denoisers.cached import CachedDenoiser
from amed_lightning.denoisers.files import ModelCard, StoredModel
from amed_lightning.denoisers.registry import digits
from amed_lightning.flow.model import DiffusionModel
from amed_lightning.flow.probability_flow import ProbabilityFlow
from amed_lightning.noise.schedules import Grid
from amed_lightning.sampling.config import SamplerConfig
from amed_lightning.sampling.parts import SamplerParts
from amed_lightning.seeds import Seeds, Stream
from amed_lightning.solvers.placement import Placement
from amed_lightning.solvers.state import SolverState
from amed_lightning.teacher.nodes import Nodes, chebyshev
from amed_lightning.teacher.step_table import StepTable
from amed_lightning.teacher.tabulate import tabulate
from amed_lightning.teacher.trajectories import TeacherConfig, Trajectories, recipe_for, roll_out
from amed_lightning.tensors import Images, Level
from amed_lightning.training.gradients import through_network
from amed_lightning.training.student import Gradient, Student

BATCH = 3
ENTRIES = ("ratio", "direction_scale", "time_scale")


def attending() -> DiffusionModel:
    """A U-Net of random weights that attends at both of its resolutions."""
    network = {"img_resolution": 8, "img_channels": 1, "model_channels": 8, "channel_mult": [1, 2], "num_blocks": 1}
    network |= {"attn_resolutions": [8, 4], "bottleneck_resolution": 4}
    card = ModelCard(network, sigma_data=0.5)
    denoiser, generator = card.denoiser(), torch.Generator().manual_seed(5)
    for weights in denoiser.parameters():
        torch.nn.init.normal_(weights, std=0.1, generator=generator)
    return StoredModel(Path("random"), card, denoiser.state_dict()).model()


NETWORKS = {"digits": digits, "attending U-Net": attending}


@dataclass(frozen=True)
class Spread:
    """A placer whose samples differ, with leaves that a gradient can be asked of."""

    ratio: Images
    direction_scale: Images
    time_scale: Images

    @staticmethod
    def leaves() -> "Spread":
        spread = torch.linspace(-1, 1, BATCH, dtype=torch.float64).reshape(-1, 1, 1, 1)
        values = (0.5 + 0.01 * spread, 1 - 0.01 * spread, 1 + 0.004 * spread)
        return Spread(*(value.requires_grad_() for value in values))

    def __call__(self, here: object, sigma: Level, sigma_next: Level) -> Placement:
        return Placement(self.ratio, self.direction_scale, self.time_scale)


@dataclass(frozen=True)
class Step:
    """One interval of a student, as it comes to it."""

    student: Student
    start: SolverState
    sigmas: Grid
    target: Images

    @property
    def sigma_next(self) -> Level:
        return self.sigmas[1]

    @property
    def flow(self) -> ProbabilityFlow:
        return ProbabilityFlow(self.student.parts.model.denoiser)

    def by(self, gradient: Gradient) -> tuple[torch.Tensor, ...]:
        """Losses and their gradients by a route that runs the network."""
        leaves = Spread.leaves()
        place = Placement(leaves.ratio, leaves.direction_scale, leaves.time_scale)
        _, losses = gradient(self.student.solver, self.flow, self.start, self.sigma_next, place, self.target)
        return losses.detach(), *torch.autograd.grad(losses.sum(), [getattr(leaves, name) for name in ENTRIES])

    def table(self, nodes: Nodes) -> StepTable:
        memory = CachedDenoiser(self.flow.denoiser)
        with torch.no_grad():
            return tabulate(self.student.solver, memory, None, self.start, self.sigmas, self.target, nodes)

    def by_table(self, nodes: Nodes) -> tuple[torch.Tensor, ...]:
        table, leaves = self.table(nodes), Spread.leaves()
        place = Placement(leaves.ratio, leaves.direction_scale, leaves.time_scale)
        losses = table.losses(self.student.solver, place)
        return losses.detach(), *torch.autograd.grad(losses.sum(), [getattr(leaves, name) for name in ENTRIES])

    def by_forward_mode(self) -> tuple[torch.Tensor, ...]:
        """The derivative of the output in each entry, pushed forward through the network."""
        place = Placement(**{name: getattr(Spread.leaves(), name).detach() for name in ENTRIES})
        gradients = []
        with sdpa_kernel(SDPBackend.MATH), forward_ad.dual_level(), torch.no_grad():
            for name in ENTRIES:
                value = getattr(place, name)
                moving = replace(place, **{name: forward_ad.make_dual(value, torch.ones_like(value))})
                end = self.student.solver.step_at(self.flow, self.start, self.sigma_next, moving).x
                primal, tangent = forward_ad.unpack_dual(end)
                residual = primal - self.target
                gradients.append((2 * residual * tangent).sum((1, 2, 3), keepdim=True))
        return residual.square().sum((1, 2, 3)), *gradients


def nodes_around(student: Student) -> Nodes:
    """Nodes that hold what :class:`Spread` places, so close that the polynomials are exact to eight digits."""
    asks_again = type(getattr(student.solver, "base", None)).__name__ == "UniPC"
    direction = chebyshev(3, 0.98, 1.02) if asks_again else (1.0,)
    return Nodes(chebyshev(6, 0.488, 0.512), chebyshev(4, 0.995, 1.005), direction)


def in_double(teacher: Trajectories) -> Trajectories:
    parts = ("states", "derivatives", "features")
    return replace(teacher, **{name: getattr(teacher, name).double() for name in parts})


def whole(network: str, solver: str, num_intervals: int = 3) -> tuple[Student, Trajectories]:
    """A student with an analytic first step and its teacher, all in double precision."""
    config = SamplerConfig({"name": "given"}, {"name": solver}, {"name": "time_uniform"}, num_intervals, afs=True)
    single = SamplerParts(config, NETWORKS[network]())
    double = SamplerParts(replace(config, arithmetic=Arithmetic("float64")), NETWORKS[network]())
    recipe = recipe_for(single, TeacherConfig({"name": "heun"}, 1, BATCH))
    teacher = in_double(roll_out(single.model, recipe, Seeds(Stream.tuning, 0, BATCH), torch.device("cpu")))
    return Student(double, Spread.leaves()), teacher


def steps(network: str, solver: str, num_intervals: int = 3) -> Iterator[Step]:
    """The intervals of a student with an analytic first step, all in double precision."""
    student, teacher = whole(network, solver, num_intervals)
    parts = student.parts
    found: list[Step] = []

    def gradient(solver, flow, start, sigma_next, place, target):
        found.append(Step(student, start.detach(), parts.sigmas[len(found) :], target))
        return through_network(solver, flow, start, sigma_next, place, target)

    for _ in student.intervals(teacher, gradient):
        yield found[-1]
