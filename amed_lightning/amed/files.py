"""What was learned, on disk: its numbers as safetensors, and beside them a JSON that says what it was made for.

A predictor or a table serves one model, solver, schedule and number of intervals. Any other use is refused, because it
would run and give worse images than a classical solver without a word.
"""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import safetensors.torch
from torch import Tensor

from amed_lightning.amed.constants import READERS
from amed_lightning.amed.placed_table import PredictedTable
from amed_lightning.amed.predictor import AMEDPredictor
from amed_lightning.config import (
    InputError,
    Spec,
    canonical_json,
    content_of,
    digest,
    file_digest,
    not_finite_in,
    registered,
    write_atomically,
)
from amed_lightning.runtime.foreign import read_safetensors
from amed_lightning.runtime.json_text import parse_json
from amed_lightning.solvers.learned import Learned
from amed_lightning.solvers.tabulated import Tabulated
from amed_lightning.tensors import not_finite

Reader: TypeAlias = Callable[[Mapping[str, Any], Mapping[str, Tensor], Mapping[str, Any]], Learned]
"""Builds what a file holds out of its options, its numbers and what it was made for."""
LEARNED: dict[str, Reader] = {
    AMEDPredictor.kind: AMEDPredictor.read,
    Tabulated.kind: Tabulated.read,
    PredictedTable.kind: PredictedTable.read,
    **READERS,
}
"""By what files hold; constants and coefficients are written as tables now."""
_IMPLIED_KIND = "predictor"
"""What a file leaves out: the first ones held nothing else, and their digests name results."""
_SIGNED = ("options", "purpose", "weights_sha256")
_FORM = re.compile(r"[a-z0-9+ -]{1,60}")
"""Of the word that tables of results say."""
_MOST_INTERVALS = 10_000


def save_learned(
    path: Path, learned: Learned, purpose: Spec, training: dict[str, Any], sampler: Spec | None = None
) -> None:
    """Write ``path`` (``.json``) and the weights beside it, the JSON last.

    Args:
        path: of the JSON.
        learned: what is saved.
        purpose: what it is for: model digest, solver, schedule, num_intervals, afs.
        training: how it was made, for the reader.
        sampler: the configuration that builds the sampler again, but for what is learned.

    Raises:
        FloatingPointError: one of its numbers, or of those that say how it was made, is not finite.
    """
    if name := not_finite(learned.state_dict()):
        raise FloatingPointError(f"{path}: not written, its '{name}' has a NaN or an infinity")
    if place := not_finite_in(training):
        raise FloatingPointError(f"{path}: not written, {place}")
    weights_path = path.with_suffix(".safetensors")
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in learned.state_dict().items()}
    write_atomically(weights_path, safetensors.torch.save(weights))
    content = ({} if learned.kind == _IMPLIED_KIND else {"kind": learned.kind}) | {
        "options": learned.options,
        "purpose": purpose,
        "weights_sha256": file_digest(weights_path),
    }
    content |= {"digest": digest(content), "training": training}
    content |= {} if sampler is None else {"sampler": sampler}
    write_atomically(path, json.dumps(content, indent=2).encode() + b"\n")


def load_learned(path: Path, purpose: Spec) -> Learned:
    """Read what was learned, frozen.

    Args:
        path: of the JSON.
        purpose: what it is going to be used for.

    Raises:
        InputError: a missing or unreadable file, weights of another JSON or that are not finite, or something that was
            learned for another use.
    """
    content = _read(path)
    made_for = content["purpose"]
    for key in sorted(purpose.keys() | made_for.keys()):
        made, wanted = canonical_json(made_for.get(key)), canonical_json(purpose.get(key))
        if made != wanted:
            raise InputError(
                f"{path}: this {_kind(content)} was made for {key} {made:.300}, not {wanted:.300}; "
                f"use it as it was made, or fit one for this use"
            )
    weights_path = path.with_suffix(".safetensors")
    if not weights_path.is_file() or file_digest(weights_path) != content["weights_sha256"]:
        raise InputError(f"{weights_path}: not the weights that {path.name} describes; fit the {_kind(content)} again")
    weights = read_safetensors(weights_path)
    if name := not_finite(weights):
        raise InputError(f"{weights_path}: '{name}' has a NaN or an infinity; fit the {_kind(content)} again")
    try:
        learned = registered("kind", LEARNED, _kind(content))(content["options"], weights, made_for)
    except (ValueError, TypeError, KeyError, RuntimeError, ArithmeticError) as error:
        raise InputError(f"{path}: {' '.join(str(error).split()):.300}; fit the {_kind(content)} again") from error
    return learned.eval().requires_grad_(False)


def form_of(path: Path) -> str:
    """Return in a word what a file holds.

    Raises:
        InputError: a missing or unreadable file.
    """
    content = _read(path)
    return str(content["options"].get("form", _kind(content)))


def intervals_of(path: Path) -> int:
    """Return the number of intervals that a file's content was made for.

    Raises:
        InputError: a missing or unreadable file.
    """
    return int(_read(path)["purpose"]["num_intervals"])


def sampler_of(path: Path) -> Spec:
    """Return the configuration of the sampler that a file is for, but for what is learned.

    A file that version 0.1 wrote tells neither its model nor its schedule's options.

    Raises:
        InputError: a missing or unreadable file.
    """
    content = _read(path)
    purpose = content["purpose"]
    told = {key: purpose.get(key) for key in ("solver", "num_intervals", "afs")}
    sampler = content.get("sampler", told | {"schedule": {"name": purpose.get("schedule")}})
    if not isinstance(sampler, dict) or not all(isinstance(sampler.get(key), dict) for key in ("solver", "schedule")):
        raise InputError(f"{path}: not a description of what was learned: its sampler has no solver and schedule")
    return sampler


def learned_digest(path: Path) -> str:
    """Return the digest of a file's options, purpose and weights.

    Raises:
        InputError: a missing or unreadable file, or one that was changed since it was written.
    """
    return str(_read(path)["digest"])


def _kind(content: Mapping[str, Any]) -> str:
    return f"{content.get('kind', _IMPLIED_KIND)!s:.80}"


def _read(path: Path) -> dict[str, Any]:
    """Read a JSON and check that it is as it was written."""
    if not path.is_file():
        raise InputError(f"{path}: no such file; `amed-lightning fit` writes a predictor as .json and .safetensors")
    try:
        content: dict[str, Any] = parse_json(content_of(path))
        signed = {key: content[key] for key in (*_SIGNED, *(["kind"] if "kind" in content else []))}
        found, written = digest(signed), content["digest"]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: not a description of what was learned: {error}") from error
    if found != written:
        raise InputError(f"{path}: changed since it was written, its digest does not match; fit the predictor again")
    if not all(isinstance(content[key], dict) for key in ("options", "purpose")):
        raise InputError(f"{path}: not a description of what was learned: options and purpose are mappings")
    form, intervals = content["options"].get("form", _IMPLIED_KIND), content["purpose"].get("num_intervals")
    if not isinstance(form, str) or not _FORM.fullmatch(form):
        raise InputError(f"{path}: not a description of what was learned: its form is no short name")
    if not isinstance(intervals, int) or not 1 <= intervals <= _MOST_INTERVALS:
        raise InputError(f"{path}: not a description of what was learned: its number of intervals is none")
    return content
