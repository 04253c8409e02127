"""A predictor on disk: weights as safetensors, and beside them a JSON that says what it was made for.

A predictor serves one model, solver, schedule and number of intervals. Any other use is refused, because it would run
and give worse images than a classical solver without a word.
"""

import json
from pathlib import Path
from typing import Any

import safetensors.torch

from amed_lightning.amed.predictor import AMEDPredictor
from amed_lightning.config import InputError, Spec, canonical_json, file_digest, write_atomically


def save_predictor(path: Path, predictor: AMEDPredictor, purpose: Spec, training: dict[str, Any]) -> None:
    """Write ``path`` (``.json``) and the weights beside it, the JSON last.

    Args:
        path: of the JSON.
        predictor: the weights.
        purpose: what it is for: model digest, solver, schedule, num_intervals, afs.
        training: how it was made, for the reader.
    """
    weights_path = path.with_suffix(".safetensors")
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in predictor.state_dict().items()}
    write_atomically(weights_path, safetensors.torch.save(weights))
    content = {
        "scale_dir": predictor.scale_dir,
        "scale_time": predictor.scale_time,
        "feature_size": predictor.enc_layer0.in_features,
        "purpose": purpose,
        "training": training,
        "weights_sha256": file_digest(weights_path),
    }
    write_atomically(path, json.dumps(content, indent=2).encode() + b"\n")


def load_predictor(path: Path, purpose: Spec) -> AMEDPredictor:
    """Read a predictor, frozen.

    Args:
        path: of the JSON.
        purpose: what it is going to be used for.

    Raises:
        InputError: a missing or unreadable file, weights of another JSON, or a predictor made for something else.
    """
    weights_path = path.with_suffix(".safetensors")
    for needed in (path, weights_path):
        if not needed.is_file():
            raise InputError(
                f"{needed}: no such file; `amed-lightning fit` writes a predictor as .json and .safetensors"
            )
    try:
        content = json.loads(path.read_text())
        options = {key: content[key] for key in ("feature_size", "scale_dir", "scale_time")}
        made_for, expected = content["purpose"], content["weights_sha256"]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise InputError(f"{path}: not a predictor's description: {error}") from error
    for key in sorted(purpose.keys() | made_for.keys()):
        if made_for.get(key) != purpose.get(key):
            raise InputError(
                f"{path}: this predictor was made for {key} {canonical_json(made_for.get(key))}, "
                f"not {canonical_json(purpose.get(key))}; use it as it was made, or fit one for this use"
            )
    if file_digest(weights_path) != expected:
        raise InputError(f"{weights_path}: its SHA-256 is not the one in {path.name}; fit the predictor again")
    predictor = AMEDPredictor(**options)
    predictor.load_state_dict(safetensors.torch.load_file(weights_path))
    return predictor.eval().requires_grad_(False)


def predictor_digest(path: Path) -> str:
    """Return the SHA-256 of a predictor's weights, from its JSON."""
    return str(json.loads(path.read_text())["weights_sha256"])
