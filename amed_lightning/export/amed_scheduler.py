r"""A few-step sampler as a scheduler of diffusers, complete in this file; it drives pipelines as they are.

    from amed_scheduler import AmedScheduler

    pipe.scheduler = AmedScheduler.from_pretrained(FOLDER)
    pipe(..., num_inference_steps=pipe.scheduler.runs)

It makes N network runs. Run i asks about the state ``x_i = a_i n + sum_(j<i) b_ij D_j``; n is the noise, and D_j are
the images that the answers so far have estimated. The row after the last run is the sample. The network F sees ``x_i``
over its scale and is told its time, and its answer is the image ``D_i = skip_i x_i + out_i F``.

Between two steps a pipeline holds what the network sees. One that multiplies its first noise by ``init_noise_sigma``
(Stable Diffusion) begins at ``x_0 = a_0 n``, one that does not (DDPM, Stable Diffusion 3, Flux) at n itself as the
network sees it, as with these pipelines' own schedulers.

Where a predictor places the steps of each sample (``scheduler_config.json`` says ``AmedPlacedScheduler``), it reads the
network's bottleneck, which it has to be shown:

    pipe.scheduler = AmedPlacedScheduler.from_pretrained(FOLDER).watch(pipe.unet, pipe.unet.mid_block)
"""

import math
from abc import abstractmethod
from itertools import pairwise
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, SchedulerMixin
from diffusers.configuration_utils import register_to_config
from diffusers.schedulers.scheduling_utils import SchedulerOutput
from torch import Tensor, nn

EQUIDISTANT = (
    (1.0,),
    (3 / 2, -1 / 2),
    (23 / 12, -16 / 12, 5 / 12),
    (55 / 24, -59 / 24, 37 / 24, -9 / 24),
)
"""Weights of the slopes of iPNDM's orders 1 to 4, newest first."""


class Stepping(SchedulerMixin, ConfigMixin):
    """What pipelines ask of a scheduler, of one that makes a number of runs of its own.

    Attributes:
        runs: network runs of a sample, without guidance.
        init_noise_sigma: what the first noise is multiplied by, for the network to see the first state.
    """

    order = 1
    runs: int
    init_noise_sigma: float

    @abstractmethod
    def begin(self) -> list[float]:
        """Forget the last sample, and return the times that the network is told."""

    @abstractmethod
    def following(self, seen: Tensor, output: Tensor) -> Tensor:
        """Return what the network sees after it has answered ``output`` to ``seen``; at the end, the sample."""

    def set_timesteps(
        self, num_inference_steps: int | None = None, device: Any = None, mu: float | None = None
    ) -> None:
        """Begin anew.

        Args:
            num_inference_steps: the sampler's number of runs, or None.
            device: of the times.
            mu: a shift of levels that pipelines offer; these levels are the sampler's own.

        Raises:
            ValueError: another number of runs.
        """
        times = self.begin()
        self.runs = self.num_inference_steps = len(times)
        if num_inference_steps not in (None, self.runs):
            raise ValueError(
                f"this sampler makes {self.runs} network runs, and cannot make {num_inference_steps}: "
                f"call the pipeline with num_inference_steps={self.runs}"
            )
        self.timesteps = torch.tensor(times, dtype=torch.float32, device=device)
        self.run = 0

    def set_begin_index(self, begin_index: int = 0) -> None:
        """Refuse to begin in the middle.

        Raises:
            ValueError: it would.
        """
        if begin_index:
            raise ValueError("this sampler begins at pure noise; it has no strength and no denoising_start")

    def scale_model_input(self, sample: Tensor, timestep: Any = None) -> Tensor:
        """Return the sample: it is what the network sees."""
        return sample

    def step(
        self,
        model_output: Tensor,
        timestep: Any,
        sample: Tensor,
        generator: Any = None,
        return_dict: bool = True,
    ) -> SchedulerOutput | tuple[Tensor]:
        """Take an answer of the network and return what it sees next, or the sample.

        Args:
            model_output: the answer, guided if it is to be; channels beyond the sample's are variances, unused.
            timestep: is not looked at: steps come in their order.
            sample: what the network saw.
            generator: is not needed.
            return_dict: return an object, not a tuple.

        Raises:
            ValueError: there were as many answers as runs already.
        """
        if self.run == self.runs:
            raise ValueError(f"all {self.runs} steps are taken; set_timesteps begins anew")
        wide = torch.promote_types(sample.dtype, torch.float32)
        output = model_output[:, : sample.shape[1]]
        x = self.following(sample.to(wide), output.to(wide)).to(sample.dtype)
        self.run += 1
        return SchedulerOutput(prev_sample=x) if return_dict else (x,)


class AmedScheduler(Stepping):
    """A sampler whose steps are the same for all samples.

    Args:
        times: that the network is told, one a run.
        scales: of the states, in which the network sees them.
        skips: factors of the state in the image.
        outs: factors of the network's answer in the image.
        noise: factors of the noise in each state (a), the sample last.
        answers: factors of the images in each state (b), the sample last.
        clip: images are clipped to [-clip, clip]; None where they are not.
        use_flow_sigmas: Flux' pipeline asks for no levels of its own.
        num_train_timesteps: steps that the network was trained with.
    """

    @register_to_config
    def __init__(
        self,
        times: list[float],
        scales: list[float],
        skips: list[float],
        outs: list[float],
        noise: list[float],
        answers: list[list[float]],
        clip: float | None = None,
        use_flow_sigmas: bool = True,
        num_train_timesteps: int = 1000,
    ) -> None:
        self.init_noise_sigma = noise[0] / scales[0]
        self.set_timesteps()

    def begin(self) -> list[float]:
        """Forget the last sample, and return the times that the network is told."""
        self.noise: Tensor | None = None
        self.images: list[Tensor] = []
        return list(self.config.times)

    def following(self, seen: Tensor, output: Tensor) -> Tensor:
        """Return what the network sees after it has answered ``output`` to ``seen``; at the end, the sample."""
        config, row = self.config, self.run + 1
        x = seen * config.scales[self.run]
        if self.noise is None:
            self.noise = x / config.noise[0]
        self.images.append(clipped(config.skips[self.run] * x + config.outs[self.run] * output, config.clip))
        x = config.noise[row] * self.noise
        for factor, image in zip(config.answers[row], self.images, strict=False):
            x = x + factor * image
        return x if row == self.runs else x / config.scales[row]


class Place(NamedTuple):
    """Where the second run of an interval is asked; tensors of shape (batch, 1, 1, 1).

    Attributes:
        level: between the interval's ends.
        ratio: where that is, 0 the start and 1 the end.
        direction: factor of what the second run adds.
        told: the level that the network is told.
    """

    level: Tensor
    ratio: Tensor
    direction: Tensor
    told: Tensor


class AmedPlacedScheduler(Stepping):
    """A sampler of two runs per interval, the second where a predictor says, for each sample.

    The interval from level q to q' goes over ``s = q (q'/q)^r``. With slopes ``d = (x - D) / level``, the state goes to
    s along the newest one, or iPNDM's mean of the last ones. iPNDM goes on from there; the others cross the interval
    from its start, along the second slope (``mean_direction``) or both (``second_order``). The second way is taken c
    times, and the second run is told the level a s. The predictor says r, c and a.

    Args:
        sigmas: levels, from the noise's to the sample's.
        afs: the first slope is ``x / sqrt(1 + q^2)``, without a run.
        slope: ``mean_direction``, ``second_order`` or ``ipndm``.
        order: of iPNDM.
        log_alphas: half the log of the cumulative alphas that the network was trained with, first step first.
        prediction_type: what it answers with: ``epsilon``, ``v_prediction`` or ``sample``.
        predictor: weights by name, ``scale_dir``, ``scale_time`` and ``ratio_range``.
        clip: images are clipped to [-clip, clip]; None where they are not.
        num_train_timesteps: steps that the network was trained with.
    """

    @register_to_config
    def __init__(
        self,
        sigmas: list[float],
        afs: bool,
        slope: str,
        order: int,
        log_alphas: list[float],
        prediction_type: str,
        predictor: dict[str, Any],
        clip: float | None = None,
        num_train_timesteps: int = 1000,
    ) -> None:
        self.table = torch.tensor(log_alphas, dtype=torch.float64)
        self.weights = {name: torch.tensor(value) for name, value in predictor["weights"].items()}
        self.set_timesteps()

    def watch(self, network: nn.Module, bottleneck: nn.Module) -> "AmedPlacedScheduler":
        """Look at a network's bottleneck, and tell the network each sample's own time.

        Args:
            network: is called as ``network(sample, timestep, ...)``, guided samples behind the others.
            bottleneck: the one of its modules whose output the predictor was fitted on.
        """
        network.register_forward_pre_hook(self._tell, with_kwargs=True)
        bottleneck.register_forward_hook(self._look)
        return self

    def begin(self) -> list[float]:
        """Forget the last sample, and return the times that the network is told; some only stand for each sample's."""
        self.slopes: list[Tensor] = []
        self.features: Any = None
        self.place: Any = None
        self.own_times: Tensor | None = None
        q = torch.tensor(self.config.sigmas, dtype=torch.float64)
        told = [level for q_0, q_1 in pairwise(q) for level in (q_0, (q_0 * q_1).sqrt())]
        if self.config.afs:
            self.place = self._placed(torch.zeros(1, self.weights["enc_layer0.weight"].shape[1]))
            told = [self.place.told.double().flatten()[0], *told[2:]]
            first = q[0] + (self.place.level.double().flatten()[0] - q[0]) * q[0] / (1 + q[0] ** 2).sqrt()
        else:
            first = q[0]
        self.first = float(first)
        self.init_noise_sigma = self.first / float(scale_of(told[0]))
        return [float(self._time(level)) for level in told]

    def following(self, seen: Tensor, output: Tensor) -> Tensor:
        """Return what the network sees after it has answered ``output`` to ``seen``; at the end, the sample.

        Raises:
            ValueError: it sees no bottleneck.
        """
        if self.features is None:
            raise ValueError("a predictor reads the bottleneck: call watch(network, bottleneck) first")
        interval, is_second = divmod(self.run + self.config.afs, 2)
        take = self._second if is_second else self._first
        return take(seen, output, interval)

    def _first(self, seen: Tensor, output: Tensor, interval: int) -> Tensor:
        """Take the answer at an interval's start, and go to where the predictor places the next query."""
        q = seen.new_full((1, 1, 1, 1), self.config.sigmas[interval])
        self.start = seen * scale_of(q)
        self.slopes.append((self.start - self._image(self.start, output, q)) / q)
        self.place = self._placed(self.features[-len(seen) :].to(seen), interval)
        self.own_times = self._time(self.place.told).flatten()
        x = self.start + (self.place.level - q) * self._mean()
        return x / scale_of(self.place.told)

    def _second(self, seen: Tensor, output: Tensor, interval: int) -> Tensor:
        """Take the answer at the placed level, and go to the interval's end."""
        q, end = self.config.sigmas[interval : interval + 2]
        level, ratio, direction, told = (part.to(seen) for part in self.place)
        x = seen * scale_of(told)
        if self.run == 0:  # here the first slope has led, which took no run
            self.start = x * (q / self.first)
            self.slopes = [self.start / math.sqrt(1 + q**2)]
        self.slopes.append((x - self._image(x, output, told)) / level)
        if self.config.slope == "ipndm":
            x = x + direction * (end - level) * self._mean()
        else:
            weight = 1 / (2 * ratio) if self.config.slope == "second_order" else 1.0
            slope = weight * self.slopes[-1] + (1 - weight) * self.slopes[-2]
            x = self.start + direction * (end - q) * slope
        self.slopes, self.own_times = self.slopes[-self.config.order :], None
        return x if self.run + 1 == self.runs else x / math.sqrt(1 + end**2)

    def _mean(self) -> Tensor:
        """Return the slope that leads on: iPNDM's of the last ones, or the newest."""
        order = self.config.order if self.config.slope == "ipndm" else 1
        newest = self.slopes[: -order - 1 : -1]
        weights = EQUIDISTANT[len(newest) - 1]
        return sum((w * slope for w, slope in zip(weights, newest, strict=True)), torch.zeros_like(newest[0]))

    def _image(self, x: Tensor, output: Tensor, told: Tensor) -> Tensor:
        """Return the image that an answer stands for."""
        kind, scale = self.config.prediction_type, scale_of(told)
        if kind == "epsilon":
            image = x - told * output
        elif kind == "v_prediction":
            image = x / scale**2 - told / scale * output
        else:
            image = output
        return clipped(image, self.config.clip)

    def _time(self, told: Tensor) -> Tensor:
        """Return the step of training that levels have, fractions included; ln alpha is linear between the steps."""
        table = self.table.to(told.device).flip(0)
        steps = torch.arange(len(table), 0, -1, dtype=torch.float64, device=told.device)
        at = -told.double().square().log1p() / 2
        right = torch.searchsorted(table, at.contiguous()).clamp(1, len(table) - 1)
        left = right - 1
        along = (at - table[left]) / (table[right] - table[left])
        return steps[left] + along * (steps[right] - steps[left]) - 1

    def _placed(self, features: Tensor, interval: int = 0) -> Place:
        """Ask the predictor for an interval's second run."""
        told, q = self.config.predictor, self.config.sigmas[interval : interval + 2]
        weights = {name: value.to(features) for name, value in self.weights.items()}

        def linear(layer: str, x: Tensor) -> Tensor:
            return F.linear(x, weights[f"{layer}.weight"], weights[f"{layer}.bias"])

        def head(layer: str) -> Tensor:
            return linear(layer, merged).sigmoid().reshape(-1, 1, 1, 1)

        def scale(layer: str, bound: float) -> Tensor:
            return 1 + bound * (2 * head(layer) - 1) if bound else features.new_ones(len(features), 1, 1, 1)

        half = weights["map_layer0.weight"].shape[1] // 2
        periods = 10_000.0 ** -(torch.arange(half, device=features.device) / (half - 1))
        codes = [linear("enc_layer1", F.silu(linear("enc_layer0", features)))]
        for level in q:
            angles = features.new_full((len(features), 1), level) * periods.to(features)
            codes.append(F.silu(linear("map_layer0", torch.cat([angles.sin(), angles.cos()], 1))))
        merged = torch.cat(codes, 1)
        low, high = told["ratio_range"]
        ratio = low + (high - low) * head("fc_r")
        level = q[0] * (q[1] / q[0]) ** ratio
        direction, time = scale("fc_scale_dir", told["scale_dir"]), scale("fc_scale_time", told["scale_time"])
        return Place(level, ratio, direction, level * time)

    def _tell(self, network: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Put each sample's own time in the place of the pipeline's."""
        if self.own_times is None:
            return None
        sample, _, *others = args
        times = self.own_times.repeat(len(sample) // len(self.own_times)).to(sample)
        return (sample, times, *others), kwargs

    def _look(self, block: nn.Module, args: Any, output: Tensor) -> None:
        """Keep the bottleneck of the guided samples, averaged over channels, in the predictor's resolution."""
        side = math.isqrt(self.weights["enc_layer0.weight"].shape[1])
        self.features = F.adaptive_avg_pool2d(output.mean(1, keepdim=True), side).flatten(1)


def scale_of(level: Tensor) -> Tensor:
    """Return the standard deviation of states of unit variance at a level, by which a network divides them."""
    return (1 + level**2).sqrt()


def clipped(image: Tensor, bound: float | None) -> Tensor:
    """Clip an image to [-bound, bound]; what is not finite becomes no number."""
    return image if bound is None else image.clamp(-bound, bound).where(image.isfinite(), torch.nan)
