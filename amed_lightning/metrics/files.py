"""Detectors on disk, and the detectors that configurations call by name."""

from collections.abc import Callable
from pathlib import Path

import safetensors.torch

from amed_lightning.config import InputError, file_digest, write_atomically
from amed_lightning.metrics.detector import Detector
from amed_lightning.metrics.digits_classifier import DigitsClassifier
from amed_lightning.metrics.inception import inception

ASSETS = Path(__file__).parent.parent / "assets"
DIGITS_CLASSIFIER = ASSETS / "digits" / "classifier.safetensors"


def save_detector(path: Path, classifier: DigitsClassifier) -> None:
    """Write a classifier's weights."""
    write_atomically(path, safetensors.torch.save(classifier.state_dict()))


def digits_classifier(path: Path = DIGITS_CLASSIFIER) -> tuple[Detector, str]:
    """Load the digits' classifier, frozen, with the SHA-256 of its weights.

    Raises:
        InputError: the file is missing.
    """
    if not Path(path).is_file():
        raise InputError(f"{path}: no such file; train it with `lightning fit --config configs/digits/classifier.yaml`")
    classifier = DigitsClassifier()
    classifier.load_state_dict(safetensors.torch.load_file(path))
    return classifier.eval().requires_grad_(False), file_digest(Path(path))


DETECTORS: dict[str, Callable[..., tuple[Detector, str]]] = {"digits": digits_classifier, "inception": inception}
"""The detectors that configurations call by name; each comes with the digest of all that its features depend on."""
