"""From seeds to samples: a model, a solver, its levels, and where the placer comes from.

The same sampler generates images, scores them and, with a predictor that still learns, is what training runs.
"""

import json
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import torch

from amed_lightning.amed.files import LEARNED, intervals_of, learned_digest, load_learned, sampler_of
from amed_lightning.config import InputError, Spec, build, canonical_json, checked, complete, registered
from amed_lightning.denoisers.arithmetic import Arithmetic
from amed_lightning.denoisers.computing import compiled, computing, tensor_float_32
from amed_lightning.denoisers.guidance import Counted, is_guided_in_part
from amed_lightning.denoisers.registry import DENOISERS, load
from amed_lightning.denoisers.zoo.card import named
from amed_lightning.flow.model import Condition, DiffusionModel
from amed_lightning.flow.probability_flow import Evaluation, ProbabilityFlow, analytic_first_step
from amed_lightning.noise.schedules import SCHEDULES, Grid, levels
from amed_lightning.runtime.ahead import ahead
from amed_lightning.sampling.config import SamplerConfig
from amed_lightning.seeds import Seeds
from amed_lightning.solvers.learned import Learned, Steps
from amed_lightning.solvers.placement import FixedPlacement, Placer
from amed_lightning.solvers.registry import SOLVERS, evaluations_for, intervals_for, network_runs
from amed_lightning.solvers.state import Solver, SolverState, trajectory
from amed_lightning.solvers.tabulated import PlacedTable, Tabulated
from amed_lightning.tensors import Images, sent, staged

SUPPLIED = ("placer", "learned")
"""What a solver's mapping says beside the solver's own options."""
REGISTRIES: dict[str, Mapping[str, Any]] = {"model": DENOISERS, "solver": SOLVERS, "schedule": SCHEDULES}
"""Of what a sampler's configuration names."""


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


def rule_of(solver: Spec) -> Spec:
    """Return a solver's name and own options, every one spelled out.

    Raises:
        InputError: an unknown name or option.
    """
    return complete("solver", SOLVERS, own_options(solver), hidden=["placer"])


def own_options(solver: Spec) -> Spec:
    """Return a solver's name and own options, as they are told."""
    return {key: value for key, value in solver.items() if key not in SUPPLIED}


def learned_path(solver: Spec) -> Path | None:
    """Return the file that a solver says was learned for it, if it names one.

    The first configurations named it ``placer: {predictor: <path>}``, and by other kinds.

    Raises:
        InputError: it is no path, or there is a placer as well.
    """
    placer, path = solver.get("placer"), solver.get("learned")
    if isinstance(placer, dict) and len(placer) == 1:
        ((kind, value),) = placer.items()
        placer, path = (None, value) if kind in LEARNED else (placer, path)
    if path is not None and placer not in (None, "none"):
        raise InputError("solver: it has both 'learned' and a 'placer'; what was learned needs no placer, leave it out")
    if path is not None and not isinstance(path, str):
        raise InputError(f"solver.learned: {path!r} is no path; name the .json that a fit has written")
    return None if path is None else Path(path)


def identity(config: SamplerConfig, sampler: Sampler) -> Spec:
    """Return everything that the image of a seed depends on, but for its label or prompt, arithmetic and code.

    Args:
        config: what describes the sampler.
        sampler: as it was built from that.
    """
    path = learned_path(config.solver)
    return {
        "model": sampler.model.digest,
        "solver": rule_of(config.solver) | {"placer": sampler.placer if path is None else learned_digest(path)},
        "sigmas": sampler.sigmas.tolist(),
        "afs": config.afs,
        "denoise_to_zero": config.denoise_to_zero,
    }


def intervals_of_config(config: SamplerConfig, cost: int, placed: bool = False) -> int:
    """Return the number of intervals that is told, or that takes the network runs that are.

    Args:
        config: tells one of them.
        cost: the model's network runs per evaluation.
        placed: whether a placer is still to be learned, which may double the evaluations of an interval.

    Raises:
        InputError: both are told or neither, or no number of intervals takes so many.
    """
    if (config.num_intervals is None) == (config.nfe is None):
        raise InputError("a sampler has either num_intervals or nfe; give one of them")
    if config.nfe is None:
        return config.num_intervals or 0
    if (path := learned_path(config.solver)) is not None:
        return intervals_of(path)
    placer = FixedPlacement(0.5) if placed else _placer(config.solver.get("placer"))
    solver = build("solver", SOLVERS, own_options(config.solver), placer=placer)
    try:
        return intervals_for(solver, evaluations_for(config.nfe, cost) - config.denoise_to_zero, config.afs)
    except ValueError as error:
        raise InputError(f"solver '{config.solver['name']}' at {config.nfe} NFE: {error}") from error


class SamplerParts:
    """The parts that a :class:`SamplerConfig` names, checked when it is made.

    Args:
        config: what to build.
        model: the configured model, where it is loaded already.
        placed: whether a placer is still to be learned, which counts for ``nfe``.
        schedule: of the sampler that these are some levels of, if they are; the configured one else.

    Raises:
        InputError: an unknown part or option, or parts that do not fit together.
        ValueError: the given model was told to compute otherwise.
    """

    def __init__(
        self,
        config: SamplerConfig,
        model: DiffusionModel | None = None,
        placed: bool = False,
        schedule: Spec | None = None,
    ) -> None:
        self.config, self.whole_schedule = config, schedule or config.schedule
        self.model = computing(load(config.model) if model is None else model, config.arithmetic)
        self.schedule = build("schedule", SCHEDULES, config.schedule)
        intervals = intervals_of_config(config, self.model.denoiser.cost, placed)
        try:
            self.sigmas = levels(self.schedule, intervals, self.model.noise_range)
        except (ValueError, ArithmeticError) as error:
            raise InputError(f"schedule {config.schedule}: {error}") from error
        self._check_use()
        self.solver(None)

    @cached_property
    def purpose(self) -> Spec:
        """What a predictor for this sampler is made for."""
        return {
            "model": self.model.digest,
            "solver": rule_of(self.config.solver),
            "num_intervals": self.num_intervals,
            "schedule": self.config.schedule["name"],
            "sigmas": self.sigmas.tolist(),
            "afs": self.config.afs,
        }

    @property
    def description(self) -> Spec:
        """The configuration in plain values, but for the placer and what was learned."""
        content = asdict(self.config) | {"solver": own_options(self.config.solver)}
        return json.loads(canonical_json(content))

    @property
    def num_intervals(self) -> int:
        """Intervals of the time grid."""
        return len(self.sigmas) - 1

    def _check_use(self) -> None:
        """Refuse levels above those that the model knows, and levels that were found for another use.

        Raises:
            InputError: naming what does not fit, and the cure.
        """
        start, largest = float(self.sigmas[0]), self.model.noise_range.sigma_max
        if start > largest:
            raise InputError(
                f"schedule {self.config.schedule}: it starts at {start:g}, above the model's largest level "
                f"{largest:g}; take form: textbook, or rho: 1"
            )
        for key, made in getattr(self.schedule, "made_for", {}).items():
            if (here := canonical_json(self.purpose[key])) != canonical_json(made):
                raise InputError(
                    f"schedule {self.config.schedule}: found for {key} {canonical_json(made)}, not {here}; search one "
                    "for this use (`amed-lightning schedule`), or name its levels as {name: explicit, levels: [...]}"
                )

    def solver(self, placer: Placer | None) -> Solver:
        """Build the solver around a placer."""
        return build("solver", SOLVERS, own_options(self.config.solver), placer=placer)

    def sampler(self, placer: Placer | None) -> Sampler:
        """Build the sampler around a placer, or that of the table that was learned for it."""
        path = learned_path(self.config.solver)
        if path is None or placer is None:
            return self._with(Steps(self.solver(placer), self.sigmas, self.config.afs, placer))
        steps = self._steps(load_learned(path, self.purpose))
        if not isinstance(steps.solver, Tabulated):
            raise InputError(f"{path}: a placer goes with a table, and this is none")
        return self._with(steps._replace(solver=PlacedTable(steps.solver, placer), placer=placer))

    def configured(self) -> Sampler:
        """Build the sampler with what was learned for it, or around the placer that the configuration names.

        Raises:
            InputError: the placer is none of the forms, or what was learned is for something else.
        """
        path = learned_path(self.config.solver)
        if path is None:
            return self.sampler(_placer(self.config.solver.get("placer")))
        return self.with_learned(load_learned(path, self.purpose))

    def with_learned(self, learned: Learned) -> Sampler:
        """Build the sampler with what was learned for it."""
        return self._with(self._steps(learned))

    def _steps(self, learned: Learned) -> Steps:
        return learned.steps(self.solver, self.sigmas, self.config.afs)

    def _with(self, steps: Steps) -> Sampler:
        """Build the sampler of some steps.

        Raises:
            InputError: it does not take as many network runs as are told.
        """
        sampler = Sampler(self.model, denoise_to_zero=self.config.denoise_to_zero, **steps._asdict())
        if self.config.arithmetic.compile == "sampler":
            sampler = CompiledSampler(**vars(sampler), tf32=self.config.arithmetic.tf32)
        if self.config.nfe not in (None, sampler.nfe):
            named = learned_path(self.config.solver) or f"solver '{self.config.solver['name']}'"
            raise InputError(f"{named}: it takes {sampler.nfe} network runs, not nfe {self.config.nfe}")
        return sampler


def _placer(form: Any) -> Placer | None:
    """Build the placer that a solver's mapping names."""
    match form:
        case None | "none":
            return None
        case {"fixed": float() | int() as ratio, **rest} if not rest:
            try:
                return FixedPlacement(float(ratio))
            except ValueError as error:
                raise InputError(f"solver.placer.fixed: {error}") from error
    raise InputError(
        f"solver.placer: {form!r} is not one of none, {{fixed: <ratio>}}; what a fit has learned is named as "
        f"learned: <path of its .json>"
    )


def build_sampler(config: SamplerConfig, model: DiffusionModel | None = None) -> Sampler:
    """Build what a configuration describes.

    Args:
        config: what to build.
        model: the configured model, where it is loaded already.

    Raises:
        InputError: an unknown part or option, parts that do not fit together, or a predictor made for another use.
    """
    return SamplerParts(config, model).configured()


def config_of(content: Mapping[str, Any]) -> SamplerConfig:
    """Check a sampler's configuration in plain values.

    Raises:
        InputError: an unknown or missing key, or a value of another type.
    """
    told = checked(SamplerConfig, content)
    return SamplerConfig(**told | {"arithmetic": Arithmetic(**checked(Arithmetic, told["arithmetic"]))})


def learned_sampler(path: Path, model: DiffusionModel | None = None) -> Sampler:
    """Build the sampler that a fit has learned, as its file says; the file may be anybody's, and imports nothing.

    Args:
        path: of the ``.json``.
        model: the one that it was fitted on, if the file's own word for it is not to be followed.

    Raises:
        InputError: no such file, one that names no model or one that is none of the package's, or another model.
    """
    return build_sampler(learned_config(path, model), model)


def learned_config(path: Path, model: DiffusionModel | None = None) -> SamplerConfig:
    """Return the configuration of :func:`learned_sampler`.

    Raises:
        InputError: no such file, or one that names no model or one that is none of the package's.
    """
    told = sampler_of(path) | ({} if model is None else {"model": {}})
    if "model" not in told:
        raise InputError(f"{path}: it does not say its model, as no file of version 0.1 does; give the model too")
    try:
        for kind, registry in REGISTRIES.items():
            for name in named(told[kind]):
                registered(kind, registry, name)
    except InputError as error:
        raise InputError(f"{path}: {error}; name one of your own in a configuration") from error
    return config_of(told | {"solver": told["solver"] | {"learned": str(path)}})
