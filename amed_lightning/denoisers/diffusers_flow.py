"""What a scheduler's configuration tells of a training by flow matching.

The published pipelines begin at the time 1, whose level is infinite. Models here go from the last of the M steps of
training that has a finite level, the time ``(M - 1) / M``, to the first, ``1 / M``, both shifted as the scheduler says:
levels from ``a (M - 1)`` to ``a / (M - 1)``, a the shift. At M = 1000 and a = 3 sampling begins at the time 0.99967.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from amed_lightning.config import InputError, digest
from amed_lightning.denoisers.diffusers_keys import Only, Table, require_understood
from amed_lightning.denoisers.preconditioning import FLOW_STEPS
from amed_lightning.noise.schedules import NoiseRange
from amed_lightning.noise.shift import dynamic_shift

if TYPE_CHECKING:
    from amed_lightning.denoisers.diffusers_folder import Folder

EULER = "FlowMatchEulerDiscreteScheduler"
_DPM_SOLVER = "DPMSolverMultistepScheduler"
DEFAULTS = {
    "shift": 1.0,
    "use_dynamic_shifting": False,
    "base_shift": 0.5,
    "max_shift": 1.15,
    "base_image_seq_len": 256,
    "max_image_seq_len": 4096,
    "time_shift_type": "exponential",
}
_STEPS = Only((None, FLOW_STEPS), f"the network is told its time out of {FLOW_STEPS}; other numbers are not read")
_LINE = {
    "base_shift": "base_shift",
    "max_shift": "max_shift",
    "base_image_seq_len": "base_tokens",
    "max_image_seq_len": "max_tokens",
    "time_shift_type": "kind",
}
"""What a dynamic shift is made of, under our names."""
KEYS: Table = {
    **dict.fromkeys(DEFAULTS),
    "num_train_timesteps": _STEPS,
    "time_shift_type": Only(("exponential", "linear"), "there is no such shift of times; write exponential or linear"),
    # The pipeline's own levels and solver, which ours replace.
    **dict.fromkeys(("use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas", "stochastic_sampling")),
    "invert_sigmas": Only((None, False), "time runs the other way, which is not done here; use a model without that"),
    "shift_terminal": Only((None,), "the last level is moved, which is not done here; write null"),
}
"""Of a ``FlowMatchEulerDiscreteScheduler``."""
_SOLVER_OPTIONS = (
    *("algorithm_type", "beta_end", "beta_schedule", "beta_start", "clip_sample", "dynamic_thresholding_ratio"),
    *("euler_at_final", "final_sigmas_type", "lambda_min_clipped", "lower_order_final"),
    *("rescale_betas_zero_snr", "sample_max_value", "solver_order", "solver_type", "steps_offset", "thresholding"),
    *("timestep_spacing", "trained_betas", "use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas"),
    *("use_lu_lambdas", "variance_type", "flow_shift", "base_shift", "max_shift", "time_shift_type"),
)
_FLOW_SOLVER_KEYS: Table = {
    **dict.fromkeys(_SOLVER_OPTIONS),
    "num_train_timesteps": _STEPS,
    "prediction_type": Only(("flow_prediction",), "a flow predicts flow_prediction; write that"),
    "use_flow_sigmas": Only((True,), "the scheduler is not said to be one of flow matching; write true"),
    "use_dynamic_shifting": Only((None, False), "this scheduler's dynamic shift is not read; write false"),
    "thresholding": Only((None, False), "it is made for pixels, not latents; write false"),
}
"""Of a ``DPMSolverMultistepScheduler`` of a flow, as SANA has it; its betas have no meaning then."""


def read_flow(source: "Folder", tokens: int) -> NoiseRange:
    """Return the levels of a model that was trained by flow matching.

    Args:
        source: with the scheduler's configuration; the digest of what is read is noted there.
        tokens: of an image, which a dynamic shift follows.

    Raises:
        InputError: another scheduler, a key or a number of steps that is not understood, or a shift that no flow has.
    """
    path, config = source.path / "scheduler" / "scheduler_config.json", source.config("scheduler/scheduler_config.json")
    kind = config.get("_class_name")
    if kind not in READERS:
        raise InputError(f"{path}: _class_name is {kind}, of which no flow is known; expected {' or '.join(READERS)}")
    table, shift_of = READERS[kind]
    require_understood(path, config, table)
    shift = _shift(path, shift_of, config, tokens)
    source.read["scheduler"] = digest(["flow", FLOW_STEPS, shift])
    return NoiseRange(shift / (FLOW_STEPS - 1), shift * (FLOW_STEPS - 1), shift=shift)


def _shift(path: Path, shift_of: Any, config: Mapping[str, Any], tokens: int) -> float:
    try:
        shift = float(shift_of(config, tokens))
        return NoiseRange(0.1, 1.0, shift=shift).shift
    except (TypeError, ValueError) as error:
        raise InputError(f"{path}: the shift of its times: {error}") from error


def _euler_shift(config: Mapping[str, Any], tokens: int) -> float:
    said = {**DEFAULTS, **{key: value for key, value in config.items() if key in DEFAULTS}}
    if not said["use_dynamic_shifting"]:
        return float(said["shift"])
    line = {_LINE[key]: said[key] for key in _LINE}
    return dynamic_shift(tokens, **line)


def _solver_shift(config: Mapping[str, Any], tokens: int) -> float:
    return float(config.get("flow_shift", 1.0))


READERS: dict[str, Any] = {EULER: (KEYS, _euler_shift), _DPM_SOLVER: (_FLOW_SOLVER_KEYS, _solver_shift)}
"""By the scheduler's class: what its keys mean, and how its shift is found."""
