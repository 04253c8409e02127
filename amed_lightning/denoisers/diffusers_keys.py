"""What the keys of a folder's configurations mean here: one table per file.

A model that would be sampled wrongly must not load. Every value of a key is understood (it is honoured, or belongs to
what our solvers and schedules replace, or the library builds the part from it), or only some are, and the others are
refused with the reason and the cure. A key that stands in no table and that the library's class does not take either
is refused too, unless it says nothing: null, false, zero or empty.
"""

import difflib
import inspect
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from amed_lightning.config import InputError


@dataclass(frozen=True)
class Only:
    """The values with which a key is understood.

    Attributes:
        values: these.
        otherwise: what another value means, and the cure.
    """

    values: tuple[object, ...]
    otherwise: str


Table: TypeAlias = Mapping[str, Only | None]
"""None where every value is understood."""


def _any(keys: str) -> dict[str, None]:
    return dict.fromkeys(keys.split())


_FLOW = Only((None, False), "flow matching is not sampled here; use a model that was trained on a table of betas")
SCHEDULER: Table = {
    # Honoured: the levels of training, what the network says, and where its image is clipped.
    **_any("beta_start beta_end beta_schedule trained_betas num_train_timesteps prediction_type"),
    **_any("clip_sample clip_sample_range"),
    # The pipeline's own solver, which ours replace.
    **_any("algorithm_type corrector_order disable_corrector euler_at_final lower_order_final predict_x0"),
    **_any("predictor_order skip_prk_steps solver_order solver_p solver_type tau_func"),
    # The pipeline's own levels, which our schedules replace.
    **_any("final_sigmas_type interpolation_type lambda_min_clipped set_alpha_to_one sigma_max sigma_min steps_offset"),
    **_any("timestep_values use_beta_sigmas use_exponential_sigmas use_karras_sigmas use_lu_lambdas"),
    # Of thresholding and of flows, which are refused below.
    **_any("dynamic_thresholding_ratio sample_max_value flow_shift shift_terminal time_shift_type"),
    "tensor_format": None,  # of arrays, in the first versions
    "use_flow_sigmas": _FLOW,
    "use_dynamic_shifting": _FLOW,
    "predict_epsilon": Only(
        (None, True), "an old way to say that the network does not predict the noise; say what, by prediction_type"
    ),
    "rescale_betas_zero_snr": Only(
        (None, False),
        "the last level of training had no signal (zero terminal SNR), so it is no finite sigma; "
        "use a model without that",
    ),
    "thresholding": Only(
        (None, False),
        "it is made for pixels, not latents; write false, and where you want it name the model inside `thresholded`",
    ),
    "timestep_spacing": Only(
        (None, "leading", "linspace"),
        "the mark of a model that was distilled into few steps (Turbo, LCM) or ends without signal (zero terminal "
        "SNR), and neither is sampled here; where this one is neither, write leading: our schedules choose the levels",
    ),
    "timestep_type": Only((None, "discrete"), "the network is not told the number of a step; use a model that is"),
    "variance_type": Only(
        (None, "fixed_small", "fixed_small_log", "fixed_large", "fixed_large_log"),
        "half of what the network answers is a variance; use a model that predicts images alone",
    ),
}
"""Of ``scheduler_config.json``, whatever the class: the files of one have been saved with the keys of another."""
UNET: Table = {
    "addition_embed_type": Only((None, "text_time"), "only what SDXL adds to the time (text_time) is known here"),
    "attention_type": Only((None, "default"), "boxes in the image (GLIGEN) are asked for, which nothing here gives"),
    "class_embed_type": Only((None,), "a label or a noise level is asked for, which nothing here gives"),
    "num_class_embeds": Only((None,), "a label or a noise level is asked for, which nothing here gives"),
    "encoder_hid_dim": Only((None,), "another text or image encoder than CLIP's is asked for"),
    "encoder_hid_dim_type": Only((None,), "another text or image encoder than CLIP's is asked for"),
    "mid_block_type": Only(
        ("UNetMidBlock2D", "UNetMidBlock2DCrossAttn", "UNetMidBlock2DSimpleCrossAttn"),
        "the predictor reads the middle block, and there is none",
    ),
    "time_cond_proj_dim": Only((None,), "the scale of guidance is asked for (LCM): the model was distilled already"),
    "time_embedding_type": Only(("positional",), "the time must be a number between the steps of training too"),
}
"""Of ``unet/config.json``: what the network is told besides latents, time and text. The rest is inside it."""
TEXT_ENCODER: Table = {
    **_any("model_type torch_dtype"),
    "use_attention_mask": Only((None, False), "the padding of prompts is masked, which is not done here"),
}
"""Of ``text_encoder/config.json``."""
T5: Table = {
    **_any("model_type torch_dtype dtype dense_act_fn is_gated_act output_past n_positions task_specific_params"),
    **_any("scale_decoder_outputs tie_word_embeddings use_cache"),
}
"""Of T5's ``config.json``: ``feed_forward_proj`` says the activation's parts too, the rest is of its decoder."""
GEMMA: Table = dict.fromkeys(("model_type", "torch_dtype", "dtype", "cache_implementation", "hidden_act"))
"""Of Gemma's: how it would write texts, and the activation that ``hidden_activation`` says."""
TOKENIZERS: Mapping[str, Table] = {
    kind: {"tokenizer_class": Only((None, kind, f"{kind}Fast"), f"only {owner} tokenizer is read here")}
    for kind, owner in (("CLIPTokenizer", "CLIP's"), ("T5Tokenizer", "T5's"), ("GemmaTokenizer", "Gemma's"))
}
"""Of ``tokenizer_config.json`` by class, whose other keys the tokenizer itself is made from."""
PIPELINE: Table = {
    **_any("unet vae vqvae scheduler tokenizer tokenizer_2 text_encoder text_encoder_2"),
    "force_zeros_for_empty_prompt": Only((True, False), "whether the empty prompt is zeros is true or false"),
    # What looks at images when they are done, and image prompts that nobody gives here.
    **_any("safety_checker feature_extractor image_encoder requires_safety_checker add_watermarker"),
    "requires_aesthetics_score": Only(
        (None, False), "SDXL's refiner changes images and makes none; use the base model"
    ),
}
"""Of ``model_index.json``."""
TRANSFORMER_PIPELINE: Table = {**PIPELINE, **_any("transformer tokenizer_3 text_encoder_3 id2label")}
"""The same of a transformer's, which may name its classes."""


def require_understood(path: Path, config: Mapping[str, Any], table: Table, known: Collection[str] = ()) -> None:
    """Refuse a configuration that asks for something that is not done here.

    Args:
        path: of its file, for the message.
        config: what it says; names that begin with an underscore are the library's notes.
        table: what its keys mean.
        known: keys with which the library builds the part.

    Raises:
        InputError: such a key, named with its value, the reason and the cure.
    """
    for key, value in config.items():
        only = table.get(key)
        if only is not None and value not in only.values:
            raise InputError(f"{path}: {key} is {json.dumps(value)}: {only.otherwise}")
        if key not in table and key not in known and not key.startswith("_") and not _says_nothing(value):
            near = difflib.get_close_matches(key, [*table, *known], 1)
            meant = f" (is {near[0]} meant?)" if near else ""
            raise InputError(
                f"{path}: {key} is {json.dumps(value):.80}, and nothing here knows that key{meant}; "
                f"where it changes nothing of what the model computes, remove it"
            )


def arguments(kind: type) -> dict[str, Any]:
    """Return what a class takes, with what it takes where nothing is said."""
    return {name: parameter.default for name, parameter in inspect.signature(kind).parameters.items()}


def _says_nothing(value: object) -> bool:
    return not any(value) if isinstance(value, list) else not value
