"""A model on disk: its weights as safetensors, and beside them a JSON card that says what they are.

The card names the architecture and its options, the preconditioning, the range of levels and the SHA-256 of the
weights. Nothing in either file is executed. A published file becomes the same :class:`StoredModel`, so that it and what
``convert`` makes of it have one digest.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import safetensors.torch
import torch
from torch import Tensor, nn

from amed_lightning.config import InputError, checked, content_of, digest, file_digest, write_atomically
from amed_lightning.denoisers.model_card import IMPLIED, ModelCard
from amed_lightning.denoisers.preconditioning import Preconditioned, PreconditionedClassifier
from amed_lightning.flow.model import DiffusionModel
from amed_lightning.runtime.foreign import read_safetensors
from amed_lightning.runtime.json_text import parse_json
from amed_lightning.tensors import not_finite

Module = TypeVar("Module", bound=nn.Module)
_HALVES = torch.float16, torch.bfloat16


@dataclass(frozen=True)
class StoredModel:
    """A model as a file holds it.

    Attributes:
        source: the file.
        card: what its weights are.
        weights: its tensors, by name.
        weights_sha256: of their ``.safetensors``, if they came from one.
    """

    source: Path
    card: ModelCard
    weights: Mapping[str, Tensor]
    weights_sha256: str | None = None

    @cached_property
    def digest(self) -> str:
        """Identifies architecture and weights, in whatever file they came."""
        sha256 = self.weights_sha256 or hashlib.sha256(_serialised(self.weights)).hexdigest()
        return digest([self.card.content, sha256])

    def denoiser(self) -> Preconditioned:
        """Build the denoiser, frozen, around these weights.

        Raises:
            InputError: an impossible card, or weights that are not such a network's.
        """
        return self._filled(self.card.denoiser)

    def classifier(self) -> PreconditionedClassifier:
        """Build the classifier of noisy images, frozen, around these weights.

        Raises:
            InputError: an impossible card, or weights that are not such a network's.
        """
        return self._filled(self.card.classifier)

    def model(self) -> DiffusionModel:
        """Describe the denoiser.

        Raises:
            InputError: an impossible card, or weights that are not such a network's.
        """
        denoiser = self.denoiser()
        return DiffusionModel(
            denoiser=denoiser,
            digest=self.digest,
            shape=self.card.shape,
            noise_range=self.card.noise_range,
            feature_size=denoiser.model.feature_size,
            num_classes=denoiser.model.label_dim,
        )

    def _filled(self, build_module: Callable[[], Module]) -> Module:
        """Build a module without memory of its own, and let it have these weights once they are known to fit."""
        try:
            with torch.device("meta"):
                module = build_module()
        except (ValueError, RuntimeError, ArithmeticError) as error:
            raise InputError(f"{self.source}: {' '.join(str(error).split())}") from error
        expected = module.state_dict()
        self._refuse("there is no", sorted(expected.keys() - self.weights.keys()))
        self._refuse("the network has no", sorted(self.weights.keys() - expected.keys()))
        misshapen = [name for name, value in expected.items() if value.shape != self.weights[name].shape]
        self._refuse("of another shape than the network's is", misshapen)
        self._refuse("a NaN or an infinity is in", [name] if (name := not_finite(self.weights)) else [])
        module.load_state_dict(self.weights, assign=True)
        return module.eval().requires_grad_(False)

    def _refuse(self, complaint: str, names: list[str]) -> None:
        if names:
            others = f" (and {len(names) - 1} more)" if len(names) > 1 else ""
            raise InputError(
                f"{self.source}: not the weights that its description needs: {complaint} {names[0]!r:.100}{others}"
            )


def save_model(path: Path, denoiser: nn.Module, card: ModelCard, half: bool = False) -> None:
    """Write ``path`` (a ``.json`` card) and the weights beside it, the card last.

    Args:
        path: of the card.
        denoiser: whose weights they are.
        card: what they are.
        half: write the parameters in half precision, in which they take half the room; they are read into single. What
            is no parameter, such as the frequencies of an embedding, stays as it is.

    Raises:
        FloatingPointError: a weight is not finite, or beyond half precision's range.
    """
    weights = denoiser.state_dict()
    halved = {name: weights[name].half() for name, _ in denoiser.named_parameters() if half}
    save_weights(path, weights | halved, card)


def save_weights(path: Path, weights: Mapping[str, Tensor], card: ModelCard) -> None:
    """Write a card and weights that no module holds, see :func:`save_model`.

    Raises:
        FloatingPointError: a weight is not finite.
    """
    if name := not_finite(weights):
        raise FloatingPointError(f"{path}: not written, its weights '{name}' have a NaN or an infinity")
    weights_path = path.with_suffix(".safetensors")
    write_atomically(weights_path, _serialised(weights))
    content = card.content | {"weights_sha256": file_digest(weights_path)}
    write_atomically(path, json.dumps(content, indent=2).encode() + b"\n")


def _serialised(weights: Mapping[str, Tensor]) -> bytes:
    return safetensors.torch.save({name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()})


def weights_digest(module: nn.Module) -> str:
    """Return the SHA-256 of a module's named tensors, as 64 hexadecimal digits."""
    total = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        total.update(_serialised({name: tensor}))
    return total.hexdigest()


def read_model(path: Path) -> StoredModel:
    """Read a card and its weights.

    Args:
        path: the ``.json`` card; its weights have the same name and end in ``.safetensors``.

    Raises:
        InputError: a missing file, an unreadable card, or weights that are not the card's.
    """
    weights_path = path.with_suffix(".safetensors")
    for needed in (path, weights_path):
        if not needed.is_file():
            raise InputError(f"{needed}: no such file; a model is a .json card with its .safetensors beside it")
    try:
        content = parse_json(content_of(path))
        expected = content.pop("weights_sha256")
        if missing := [key.name for key in fields(ModelCard) if key.name not in content and key.name not in IMPLIED]:
            raise InputError(f"there is no '{missing[0]}'")
        card = ModelCard(**checked(ModelCard, content))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: not a model card: {error}") from error
    if file_digest(weights_path) != expected:
        raise InputError(f"{weights_path}: its SHA-256 is not the one in {path.name}; restore the file or the card")
    stored = read_safetensors(weights_path)
    weights = {name: tensor.float() if tensor.dtype in _HALVES else tensor for name, tensor in stored.items()}
    return StoredModel(path, card, weights, expected)


def load_model(path: Path) -> DiffusionModel:
    """Read a model; the denoiser comes frozen.

    Args:
        path: the ``.json`` card.

    Raises:
        InputError: a missing file, an unreadable card, or weights that are not the card's.
    """
    return read_model(path).model()


def without_labels(model: DiffusionModel) -> DiffusionModel:
    """Describe a model that also learned without labels as an unconditional one."""
    return replace(model, num_classes=0, digest=digest([model.digest, "without labels"]))
