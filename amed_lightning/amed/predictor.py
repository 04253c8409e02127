r"""AMED's predictor (Zhou et al. 2024, section 3.3 and figure 5): about 9,000 weights.

The denoiser's bottleneck features pass through two layers, the interval's two levels through a positional embedding
and one shared layer; their concatenation gives, by one linear output and a sigmoid each, the ratio r in (0, 1), the
direction scale c in ``1 +- scale_dir`` and the time scale a in ``1 +- scale_time``.

The weights stay in their own precision and compute in that of the states, if that is higher. The embedding's table is
rounded to float32 in every precision, and it is fed sigma itself, as published.
"""

from abc import abstractmethod
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from amed_lightning.config import InputError, build
from amed_lightning.flow.probability_flow import Evaluation
from amed_lightning.noise.schedules import Grid
from amed_lightning.solvers.learned import Learned, Rule, Steps
from amed_lightning.solvers.placement import Placement
from amed_lightning.tensors import Level, per_sample, where_finite

_EMBEDDING_SIZE, _HIDDEN_SIZE, _CODE_SIZE = 8, 128, 4
_LONGEST_PERIOD = 10_000.0
WHOLE = (0.0, 1.0)
"""Ratios from an interval's start to its end."""


class LearnedPlacer(Learned):
    """A placer that is learned by gradients, and whose file holds its weights.

    A fit builds one of ``feature_size``, ``scale_dir``, ``scale_time`` and ``ratio_range`` (see
    :class:`AMEDPredictor`), and of options of its own; a file of its :attr:`options`, which are all of them.
    """

    @classmethod
    def read(
        cls, options: Mapping[str, Any], numbers: Mapping[str, Tensor], purpose: Mapping[str, Any]
    ) -> "LearnedPlacer":
        """Build the placer that a file describes, once its numbers are known to fit.

        Raises:
            ValueError: numbers that are not those of such a placer.
        """
        with torch.device("meta"):
            placer = build("predictor", {cls.kind: cls}, {**options, "name": cls.kind})
        expected = placer.state_dict()
        if {name: each.shape for name, each in expected.items()} != {
            name: each.shape for name, each in numbers.items()
        }:
            raise ValueError("its numbers are not those that its options say")
        own = {name: numbers[name].to(each.dtype, copy=True) for name, each in expected.items()}
        placer.load_state_dict(own, assign=True)
        return placer

    def steps(self, rule: Rule, sigmas: Grid, afs: bool) -> Steps:
        """Run the solver with its second evaluations where the placer says."""
        return Steps(rule(self), sigmas, afs, self)

    def scale_nothing(self) -> None:
        """Begin with scales of one: on top of a table, at the table.

        Raises:
            InputError: it cannot.
        """
        raise InputError(f"a predictor on top of a table begins with scales of one, which a {self.kind} cannot")

    @abstractmethod
    def forward(self, here: Evaluation, sigma: Level, sigma_next: Level) -> Placement:
        """Place the second evaluation of the interval from ``sigma`` to ``sigma_next``, per sample."""


class AMEDPredictor(LearnedPlacer):
    """The published placer.

    Args:
        feature_size: length of the denoiser's bottleneck features.
        scale_dir: bound of the direction scale's distance from 1; 0 leaves it at 1.
        scale_time: bound of the time scale's distance from 1; 0 leaves it at 1.
        ratio_range: of the ratios; (0, 1) in the paper.

    Raises:
        InputError: no features.

    >>> sum(weights.numel() for weights in AMEDPredictor(64, scale_dir=0.01).parameters())
    8950
    """

    kind = "predictor"

    def __init__(
        self,
        feature_size: int,
        scale_dir: float = 0.01,
        scale_time: float = 0.0,
        ratio_range: tuple[float, float] = WHOLE,
    ) -> None:
        super().__init__()
        if feature_size < 1:
            raise InputError("a predictor reads the model's bottleneck, and this model gives none")
        self.scale_dir, self.scale_time, self.ratio_range = scale_dir, scale_time, ratio_range
        self.map_layer0 = nn.Linear(_EMBEDDING_SIZE, _EMBEDDING_SIZE)
        self.enc_layer0 = nn.Linear(feature_size, _HIDDEN_SIZE)
        self.enc_layer1 = nn.Linear(_HIDDEN_SIZE, _CODE_SIZE)
        self.fc_r = nn.Linear(_CODE_SIZE + 2 * _EMBEDDING_SIZE, 1)
        self.fc_scale_dir = nn.Linear(_CODE_SIZE + 2 * _EMBEDDING_SIZE, 1) if scale_dir else None
        self.fc_scale_time = nn.Linear(_CODE_SIZE + 2 * _EMBEDDING_SIZE, 1) if scale_time else None
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, std=layer.in_features**-0.5)
                nn.init.zeros_(layer.bias)
        nn.init.xavier_uniform_(self.map_layer0.weight)

    @property
    def options(self) -> dict[str, Any]:
        """What builds it; the paper's range of ratios goes without saying, as in the first files."""
        feature_size, ratios = self.enc_layer0.in_features, self.ratio_range
        options = {"feature_size": feature_size, "scale_dir": self.scale_dir, "scale_time": self.scale_time}
        return options if ratios == WHOLE else options | {"ratio_range": ratios}

    def scale_nothing(self) -> None:
        """Begin with scales of one: on top of a table, at the table."""
        for head in (self.fc_scale_dir, self.fc_scale_time):
            if head is not None:
                nn.init.zeros_(head.weight)
                nn.init.zeros_(head.bias)

    def forward(self, here: Evaluation, sigma: Level, sigma_next: Level) -> Placement:
        """Place the second evaluation of the interval from ``sigma`` to ``sigma_next``, per sample.

        A level has no room for the three digits of autocast's half precision.
        """
        batch, device = here.features.shape[0], here.features.device.type
        features = here.features.to(torch.promote_types(here.features.dtype, self.fc_r.weight.dtype))
        with torch.autocast(device, enabled=False) if torch.amp.is_autocast_available(device) else nullcontext():
            code = _linear(self.enc_layer1, F.silu(_linear(self.enc_layer0, features)))
            ends = [self._embed(per_sample(level, batch).to(features)) for level in (sigma, sigma_next)]
            merged = torch.cat([code, *ends], 1)
            low, high = self.ratio_range
            return Placement(
                ratio=low + (high - low) * _sigmoid(self.fc_r, merged),
                direction_scale=_scale(self.fc_scale_dir, merged, self.scale_dir),
                time_scale=_scale(self.fc_scale_time, merged, self.scale_time),
            )

    def _embed(self, sigma: Float[Tensor, "batch"]) -> Float[Tensor, "batch embedding"]:
        exponents = torch.arange(_EMBEDDING_SIZE // 2, device=sigma.device) / (_EMBEDDING_SIZE // 2 - 1)
        angles = sigma[:, None] * (_LONGEST_PERIOD**-exponents).to(torch.float32).to(sigma)
        return F.silu(_linear(self.map_layer0, torch.cat([angles.sin(), angles.cos()], 1)))


def _linear(layer: nn.Linear, x: Float[Tensor, "batch inputs"]) -> Float[Tensor, "batch outputs"]:
    return F.linear(x, layer.weight.to(x), layer.bias.to(x))


def _sigmoid(head: nn.Linear, merged: Float[Tensor, "batch merged"]) -> Level:
    logits = _linear(head, merged)
    return where_finite(logits, logits.sigmoid()).reshape(-1, 1, 1, 1)


def _scale(head: nn.Linear | None, merged: Float[Tensor, "batch merged"], bound: float) -> Level | float:
    return 1.0 if head is None else 1 + bound * (2 * _sigmoid(head, merged) - 1)
