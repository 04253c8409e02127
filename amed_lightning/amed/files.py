"""A placer on disk: its numbers as safetensors, and beside them a JSON that says what it was made for.

A placer, be it a predictor or one of constants, serves one model, solver, schedule and number of intervals. Any other
use is refused, because it would run and give worse images than a classical solver without a word.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import safetensors.torch
import torch
from torch import Tensor

from amed_lightning.amed.constant import ConstantPlacer
from amed_lightning.amed.learned_table import LearnedTable
from amed_lightning.amed.predictor import AMEDPredictor
from amed_lightning.config import (
    InputError,
    Spec,
    build,
    canonical_json,
    content_of,
    digest,
    file_digest,
    not_finite_in,
    write_atomically,
)
from amed_lightning.runtime.foreign import read_safetensors
from amed_lightning.runtime.json_text import parse_json
from amed_lightning.tensors import not_finite

SavedPlacer: TypeAlias = AMEDPredictor | ConstantPlacer | LearnedTable
KINDS: dict[str, Callable[..., SavedPlacer]] = {
    "predictor": AMEDPredictor,
    "constants": ConstantPlacer,
    "coefficients": ConstantPlacer,
    "table": LearnedTable,
}
IMPLIED_KIND = "predictor"
"""What a file leaves out: the first ones held nothing else, and their digests name results."""
SIGNED = ("options", "purpose", "weights_sha256")


def save_predictor(path: Path, predictor: SavedPlacer, purpose: Spec, training: dict[str, Any]) -> None:
    """Write ``path`` (``.json``) and the weights beside it, the JSON last.

    Args:
        path: of the JSON.
        predictor: what is saved.
        purpose: what it is for: model digest, solver, schedule, num_intervals, afs.
        training: how it was made, for the reader.

    Raises:
        FloatingPointError: one of its numbers, or of those that say how it was made, is not finite.
    """
    if name := not_finite(predictor.state_dict()):
        raise FloatingPointError(f"{path}: not written, its '{name}' has a NaN or an infinity")
    if place := not_finite_in(training):
        raise FloatingPointError(f"{path}: not written, {place}")
    weights_path = path.with_suffix(".safetensors")
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in predictor.state_dict().items()}
    write_atomically(weights_path, safetensors.torch.save(weights))
    content = ({} if predictor.kind == IMPLIED_KIND else {"kind": predictor.kind}) | {
        "options": predictor.options,
        "purpose": purpose,
        "weights_sha256": file_digest(weights_path),
    }
    content |= {"digest": digest(content), "training": training}
    write_atomically(path, json.dumps(content, indent=2).encode() + b"\n")


def load_predictor(path: Path, purpose: Spec, kind: str = IMPLIED_KIND) -> SavedPlacer:
    """Read a placer, frozen.

    Args:
        path: of the JSON.
        purpose: what it is going to be used for.
        kind: what it is expected to be, a key of ``KINDS``.

    Raises:
        InputError: a missing or unreadable file, weights of another JSON or that are not finite, or a placer of another
            kind or use.
    """
    content = _read(path)
    held = content.get("kind", IMPLIED_KIND)
    if held != kind:
        raise InputError(
            f"{path}: this file holds a placer of kind {held!s:.80}, not {kind}; name it as {{{held}: {path}}}"
        )
    made_for = content["purpose"]
    for key in sorted(purpose.keys() | made_for.keys()):
        made, wanted = canonical_json(made_for.get(key)), canonical_json(purpose.get(key))
        if made != wanted:
            raise InputError(
                f"{path}: this predictor was made for {key} {made:.300}, not {wanted:.300}; "
                f"use it as it was made, or fit one for this use"
            )
    weights_path = path.with_suffix(".safetensors")
    if not weights_path.is_file() or file_digest(weights_path) != content["weights_sha256"]:
        raise InputError(f"{weights_path}: not the weights that {path.name} describes; fit the predictor again")
    weights = read_safetensors(weights_path)
    if name := not_finite(weights):
        raise InputError(f"{weights_path}: '{name}' has a NaN or an infinity; fit the predictor again")
    try:
        predictor = _filled(kind, content["options"], weights)
    except (ValueError, TypeError, RuntimeError, ArithmeticError) as error:
        raise InputError(f"{path}: {' '.join(str(error).split()):.300}; fit the predictor again") from error
    return predictor.eval().requires_grad_(False)


def _filled(kind: str, options: Spec, weights: Mapping[str, Tensor]) -> SavedPlacer:
    """Build a placer without numbers of its own, and give it these once they are known to fit.

    Raises:
        ValueError: no such option, or numbers that are not those of such a placer.
    """
    with torch.device("meta"):
        placer = build("placer", KINDS, {**options, "name": kind})
    expected = placer.state_dict()
    if {name: tensor.shape for name, tensor in expected.items()} != {name: w.shape for name, w in weights.items()}:
        raise ValueError("its numbers are not those that its options say")
    placer.load_state_dict(
        {name: weights[name].to(tensor.dtype, copy=True) for name, tensor in expected.items()}, assign=True
    )
    return placer


def predictor_digest(path: Path) -> str:
    """Return the digest of a predictor's options, purpose and weights.

    Raises:
        InputError: a missing or unreadable file, or one that was changed since it was written.
    """
    return str(_read(path)["digest"])


def _read(path: Path) -> dict[str, Any]:
    """Read a predictor's JSON and check that it is as it was written."""
    if not path.is_file():
        raise InputError(f"{path}: no such file; `amed-lightning fit` writes a predictor as .json and .safetensors")
    try:
        content: dict[str, Any] = parse_json(content_of(path))
        signed = {key: content[key] for key in (*SIGNED, *(["kind"] if "kind" in content else []))}
        found, written = digest(signed), content["digest"]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: not a predictor's description: {error}") from error
    if found != written:
        raise InputError(f"{path}: changed since it was written, its digest does not match; fit the predictor again")
    if not all(isinstance(content[key], dict) for key in ("options", "purpose")):
        raise InputError(f"{path}: not a predictor's description: options and purpose are mappings")
    return content
