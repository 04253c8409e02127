"""Detectors on disk, and the detectors that configurations call by name."""

from collections.abc import Callable
from pathlib import Path

import safetensors.torch
import torch

from amed_lightning.config import InputError, Spec, build, file_digest, write_atomically
from amed_lightning.metrics.detector import Detector
from amed_lightning.metrics.digits_classifier import DigitsClassifier
from amed_lightning.metrics.inception import inception
from amed_lightning.runtime.foreign import read_safetensors
from amed_lightning.tensors import not_finite

ASSETS = Path(__file__).parent.parent / "assets"
DIGITS_CLASSIFIER = ASSETS / "digits" / "classifier.safetensors"


def save_detector(path: Path, classifier: DigitsClassifier) -> None:
    """Write a classifier's weights.

    Raises:
        FloatingPointError: one is not finite.
    """
    if name := not_finite(classifier.state_dict()):
        raise FloatingPointError(f"{path}: not written, its weights '{name}' have a NaN or an infinity")
    write_atomically(path, safetensors.torch.save(classifier.state_dict()))


def digits_classifier(path: Path = DIGITS_CLASSIFIER) -> tuple[Detector, str]:
    """Load the digits' classifier, frozen, with the SHA-256 of its weights.

    Raises:
        InputError: the file is missing, or a weight is not finite.
    """
    if not Path(path).is_file():
        raise InputError(f"{path}: no such file; train it with `lightning fit --config configs/digits/classifier.yaml`")
    weights = read_safetensors(Path(path))
    if name := not_finite(weights):
        raise InputError(f"{path}: its weights '{name}' have a NaN or an infinity; train it anew")
    classifier = DigitsClassifier()
    classifier.load_state_dict(weights)
    return classifier.eval().requires_grad_(False), file_digest(Path(path))


DETECTORS: dict[str, Callable[..., tuple[Detector, str]]] = {"digits": digits_classifier, "inception": inception}
"""The detectors that configurations call by name; each comes with the digest of all that its features depend on."""


def load_detector(spec: Spec, device: torch.device | None = None) -> tuple[Detector, str]:
    """Load the detector that a configuration names, and its digest.

    Args:
        spec: name and options.
        device: where it is to look at images; None for the CPU.

    Raises:
        InputError: an unknown detector or option, or weights that cannot be had.
    """
    detector, weights = build("detector", DETECTORS, spec)
    if isinstance(detector, torch.nn.Module):
        detector.to(device)
    return detector, weights
