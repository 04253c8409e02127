"""What a scheduler's configuration tells of a model's training: the table of levels, and what the network predicts.

The table is the one that the scheduler's own class makes of the configuration: classes differ in the schedules of betas
that they know and in what they take where the file is silent. The pipeline's solver and levels, which the class chooses
too, are replaced by ours. Where a scheduler clips images, the derivative is that of the clipped image, as in diffusers'
Heun and DDPM; its DDIM goes on with the noise of the unclipped one unless told ``use_clipped_model_output``.
"""

import math
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import diffusers

from amed_lightning.config import InputError, shown
from amed_lightning.denoisers.diffusers_keys import SCHEDULER, arguments, require_understood
from amed_lightning.denoisers.preconditioning import Prediction
from amed_lightning.noise.betas import MAX_STEPS

VARIANCE_PRESERVING = (
    *("DDIMScheduler", "DDIMParallelScheduler", "DDPMScheduler", "DDPMParallelScheduler", "PNDMScheduler"),
    *("DEISMultistepScheduler", "DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler", "SASolverScheduler"),
    *("EulerDiscreteScheduler", "EulerAncestralDiscreteScheduler", "HeunDiscreteScheduler", "LMSDiscreteScheduler"),
    *("KDPM2DiscreteScheduler", "KDPM2AncestralDiscreteScheduler", "UniPCMultistepScheduler"),
)
"""The classes whose models were trained on a table of betas and answer at every level of it."""
BETAS = ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas")
"""What the table is made from."""


@dataclass(frozen=True)
class Training:
    """How a network was trained.

    Attributes:
        log_alphas: half the log of the cumulative alphas at times 1/M, ..., 1.
        prediction: what the network predicts.
        clip: the images that follow from it are clipped to [-clip, clip]; None where they are not.
    """

    log_alphas: tuple[float, ...]
    prediction: Prediction
    clip: float | None


def read_training(path: Path, config: Mapping[str, Any]) -> Training:
    """Read a scheduler's configuration.

    Args:
        path: of its file, for messages.
        config: what it says.

    Raises:
        InputError: a class without such a table, a key that is not understood, no betas between 0 and 1, or an unknown
            prediction.
    """
    kind = _class_of(path, config)
    defaults = arguments(kind)
    config = {**defaults, **config}
    require_understood(path, config, SCHEDULER)
    if config["prediction_type"] not in get_args(Prediction):
        known = ", ".join(get_args(Prediction))
        raise InputError(f"{path}: prediction_type is '{config['prediction_type']}'; what is known here is {known}")
    return Training(_log_alphas(path, kind, config), config["prediction_type"], _clip(path, config, defaults))


def _class_of(path: Path, config: Mapping[str, Any]) -> Any:
    name = config.get("_class_name")
    if name not in VARIANCE_PRESERVING:
        raise InputError(
            f"{path}: the scheduler's class (_class_name) is {name}, of which no plain table of betas is known; models "
            f"of flow matching, of EDM's form or distilled into few steps (LCM, TCD) are not sampled here, but those "
            f"of {', '.join(VARIANCE_PRESERVING)} are"
        )
    return getattr(diffusers, name)


def _log_alphas(path: Path, kind: Any, config: Mapping[str, Any]) -> tuple[float, ...]:
    """Return the table of the scheduler's own class."""
    steps = config["num_train_timesteps"]
    if not isinstance(steps, int) or not 1 <= steps <= MAX_STEPS:
        raise InputError(f"{path}: num_train_timesteps is {shown(steps)}; there are 1 to {MAX_STEPS}")
    try:
        betas = kind(**{key: config[key] for key in BETAS}).betas.double()
    except (NotImplementedError, ArithmeticError, RuntimeError, TypeError, ValueError) as error:
        schedule, why = config["beta_schedule"], textwrap.shorten(str(error), 120, placeholder=" ...")
        raise InputError(
            f"{path}: beta_schedule is {schedule!r}, of which a {kind.__name__} makes no betas: {why}"
        ) from error
    if len(betas) != config["num_train_timesteps"]:
        raise InputError(f"{path}: num_train_timesteps is {steps}, and trained_betas has {len(betas)} entries")
    if not bool(((betas > 0) & (betas < 1)).all()):
        raise InputError(f"{path}: the betas do not all lie between 0 and 1, as they must for every level to be finite")
    return tuple(((1 - betas).log().cumsum(0) / 2).tolist())


def _clip(path: Path, config: Mapping[str, Any], defaults: Mapping[str, Any]) -> float | None:
    """Return where images are clipped, if the class does that."""
    if not config.get("clip_sample"):
        return None
    if "clip_sample" not in defaults:
        name = config["_class_name"]
        raise InputError(f"{path}: clip_sample is true, and a {name} does not clip; write false, or a class that does")
    bound = config["clip_sample_range"]
    if not isinstance(bound, int | float) or not 0 < bound < math.inf:
        raise InputError(f"{path}: clip_sample_range is {bound!r}; it must be a positive number")
    return float(bound)
