"""From seeds to samples: a model, a solver, its levels, and where the placer comes from.

The same sampler generates images, scores them and, with a predictor that still learns, is what training runs.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache

import torch

from amed_lightning.config import InputError
from amed_lightning.denoisers.computing import compiled, tensor_float_32
from amed_lightning.denoisers.guidance import Counted, is_guided_in_part
from amed_lightning.flow.model import Condition, DiffusionModel
from amed_lightning.flow.probability_flow import Evaluation, ProbabilityFlow, analytic_first_step
from amed_lightning.noise.schedules import Grid
from amed_lightning.runtime.beside import ahead
from amed_lightning.seeds import Seeds
from amed_lightning.solvers.placement import Placer
from amed_lightning.solvers.registry import network_runs
from amed_lightning.solvers.state import Solver, SolverState, trajectory
from amed_lightning.tensors import Images, sent, staged


@dataclass(frozen=True)
class Sampler:
    """Makes samples.

    Attributes:
        model: the denoiser and its facts.
        solver: the update rule, placer included.
        sigmas: its N + 1 levels.
        afs: whether the first evaluation is analytic.
        denoise_to_zero: whether the denoiser's answer at sigma_min is the sample.
        placer: the one inside the solver, if it was given one.
    """

    model: DiffusionModel
    solver: Solver
    sigmas: Grid
    afs: bool = False
    denoise_to_zero: bool = False
    placer: Placer | None = field(default=None, repr=False)

    @property
    def networks(self) -> set[torch.nn.Module]:
        """What has weights: the model's parts, and what was learned."""
        model = self.model
        parts = (model.denoiser, model.last_denoiser, model.decoder, self.solver, self.placer)
        return {part for part in parts if isinstance(part, torch.nn.Module)}

    def to(self, device: torch.device) -> "Sampler":
        """Move all weights, in place, and return this sampler."""
        for network in self.networks:
            network.to(device)
        return self

    def known_at_start(self, x: Images) -> Evaluation | None:
        """Return the analytic first evaluation at ``x``, if the sampler takes it."""
        return analytic_first_step(x, sent(self.sigmas[0], x.device), self.model.feature_size) if self.afs else None

    def states(self, noise: Images, condition: Condition | None = None) -> Iterator[SolverState]:
        """Carry standard normal ``noise`` down to sigma_min.

        Returns:
            The state at each of the levels, and where denoise-to-zero ends, if the sampler takes it.
        """
        here = replace(self, sigmas=sent(self.sigmas, noise.device))
        x = noise * here.sigmas[0].to(noise)
        flow = ProbabilityFlow(self.model.denoiser, condition)
        states = trajectory(self.solver, flow, x, here.sigmas, known=here.known_at_start(x))
        return self._to_zero(states, condition) if self.denoise_to_zero else states

    def _to_zero(self, states: Iterator[SolverState], condition: Condition | None) -> Iterator[SolverState]:
        """Let the denoiser's answer at the last of some states follow them."""
        for state in states:
            yield state
        last = ProbabilityFlow(self.model.last_denoiser or self.model.denoiser, condition)(state.x, state.sigma)
        yield replace(state, x=last.denoised, nfe=state.nfe + last.cost)

    def sample(self, noise: Images, condition: Condition | None = None) -> SolverState:
        """Return the last of the :meth:`states`."""
        return deque(self.states(noise, condition), maxlen=1).pop()

    @property
    def nfe(self) -> int:
        """Network runs per sample."""
        evaluations = network_runs(self.solver, len(self.sigmas) - 1, self.afs) + self.denoise_to_zero
        return evaluations * self.model.denoiser.cost


@dataclass(frozen=True)
class CompiledSampler(Sampler):
    """A sampler whose samples are one graph of a compiler each: solver and network runs, without Python between them.

    Its :meth:`states`, level by level, are not compiled.

    Attributes:
        tf32: allow TensorFloat-32; the flags are no part of a graph.
    """

    tf32: bool = False

    def sample(self, noise: Images, condition: Condition | None = None) -> SolverState:
        """Return the last of the states; the first call with a shape takes the compiler's minutes."""
        with tensor_float_32(self.tf32):
            return _compiled()(self, noise, condition)


@cache
def _compiled() -> Callable[[Sampler, Images, Condition | None], SolverState]:
    """Compile for any sampler; solver, shape, number of intervals and network have a graph, whatever the numbers."""
    return compiled(Sampler.sample)


@dataclass(frozen=True)
class Draw:
    """What a batch of samples begins with.

    Attributes:
        seeds: of the samples; what comes behind them fills the batch up.
        noise: standard normal, drawn in float32 whatever the precision of the states.
        condition: labels or numbers of prompts, or None.
    """

    seeds: Seeds
    noise: Images
    condition: Condition | None


def draws(
    sampler: Sampler, seeds: Seeds, batch_size: int, device: torch.device, classes: Sequence[int] = ()
) -> Iterator[Draw]:
    """Draw the noise and the condition of each seed, in batches of one shape, one batch ahead.

    The last batch is filled up with its last sample, so a sample does not depend on how many there are.

    Args:
        sampler: will make the samples.
        seeds: one sample each.
        batch_size: samples per batch; it is part of the protocol.
        device: where to compute.
        classes: labels that the seeds take in turn, instead of each its own.
    """
    model = sampler.model
    for draw in ahead(_drawn(model, batch, batch_size, device, classes) for batch in seeds.blocks(batch_size)):
        condition = None if draw.condition is None else sent(draw.condition, device)
        yield Draw(draw.seeds, sent(draw.noise, device).to(model.state_dtype), condition)


def _drawn(model: DiffusionModel, batch: Seeds, batch_size: int, device: torch.device, classes: Sequence[int]) -> Draw:
    """Draw a batch, on the CPU, from where the device will fetch it."""
    noise, condition = (batch.noise(model.shape), None) if classes else model.start_of(batch)
    if classes:
        condition = torch.tensor([classes[seed % len(classes)] for seed in range(batch.start, batch.stop)])
    filled = torch.arange(batch_size).clamp(max=len(batch) - 1)
    condition = None if condition is None else staged(condition[filled], device)
    return Draw(batch, staged(noise[filled], device), condition)


def sample_seeds(
    sampler: Sampler, seeds: Seeds, batch_size: int, device: torch.device, classes: Sequence[int] = ()
) -> Iterator[SolverState]:
    """Yield the last state of each batch of :func:`draws`, without gradient and without what fills it up.

    Nobody has looked at them: what becomes bytes comes from :func:`~amed_lightning.sampling.images.generate`.
    """
    for draw in draws(sampler, seeds, batch_size, device, classes):
        with torch.inference_mode():
            state = sampler.sample(draw.noise, draw.condition)
        yield SolverState(state.x[: len(draw.seeds)], state.sigma, None, (), 0, state.nfe)


def repeated_prompts(model: DiffusionModel, seeds: Seeds) -> list[str]:
    """Say that seeds share their prompts, if the model has fewer prompts than there are seeds."""
    distinct = len(seeds) if model.prompts is None else len(set(model.prompts.numbers(seeds, model.shape).tolist()))
    if distinct == len(seeds):
        return []
    return [f"{len(seeds)} images of {distinct} prompts, which repeat: their scores are not those of as many prompts"]


def runs_made(sampler: Sampler) -> int:
    """Return the network runs of a sample, which are fewer than planned where its model is guided in some levels alone.

    What was learned may ask at other levels for every sample, and is not looked at: those that are planned.
    """
    model = sampler.model
    if isinstance(sampler.placer, torch.nn.Module) or not is_guided_in_part(model.denoiser):
        return sampler.nfe
    counted, last = (
        Counted(each, model.feature_size) for each in (model.denoiser, model.last_denoiser or model.denoiser)
    )
    alike = replace(sampler, model=replace(model, denoiser=counted, last_denoiser=last))
    return Sampler.sample(alike, torch.zeros(1, *model.shape, dtype=model.state_dtype)).nfe


def require_planned_runs(sampler: Sampler) -> None:
    """Refuse a sampler that makes fewer network runs than it says, because its model is guided in some levels alone.

    Raises:
        InputError: naming both numbers, and the cure.
    """
    if (made := runs_made(sampler)) != sampler.nfe:
        raise InputError(
            f"{made} network runs are made where a row would say {sampler.nfe}; guidance in an interval makes fewer: "
            "let its `interval` hold every level"
        )


def require_classes(classes: Sequence[int], num_classes: int) -> None:
    """Refuse labels that a model does not have.

    Raises:
        InputError: naming those that it has.
    """
    if classes and not num_classes:
        raise InputError("classes: this model takes no labels; leave them out, or use a class-conditional model")
    if any(not 0 <= label < num_classes for label in classes):
        raise InputError(f"classes {list(classes)}: this model's labels are 0 to {num_classes - 1}")
