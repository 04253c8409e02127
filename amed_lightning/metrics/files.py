"""Detectors on disk, and the detectors that configurations call by name."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from amed_lightning.config import InputError, Spec, build, file_digest, write_atomically
from amed_lightning.metrics.detector import Detector
from amed_lightning.metrics.efficientnet import efficientnet_lite0
from amed_lightning.metrics.image_classifier import DigitsClassifier, FashionMNISTClassifier, ImageClassifier
from amed_lightning.metrics.inception import inception
from amed_lightning.runtime.foreign import read_safetensors
from amed_lightning.tensors import not_finite

ASSETS = Path(__file__).parent.parent / "assets"
CLASSIFIERS: dict[str, type[ImageClassifier]] = {
    "digits": DigitsClassifier,
    "fashion_mnist": FashionMNISTClassifier,
}
"""The classifiers that are trained here; each is the detector of its images."""
DIGITS, FASHION_MNIST = (ASSETS / name / "classifier.safetensors" for name in CLASSIFIERS)
"""Where the package keeps their weights."""


def save_detector(path: Path, classifier: ImageClassifier) -> None:
    """Write a classifier's weights.

    Raises:
        FloatingPointError: one is not finite.
    """
    weights = {name: value.contiguous() for name, value in classifier.state_dict().items()}
    if name := not_finite(weights):
        raise FloatingPointError(f"{path}: not written, its weights '{name}' have a NaN or an infinity")
    write_atomically(path, safetensors.torch.save(weights))


def digits_classifier(path: Path = DIGITS) -> tuple[Detector, str]:
    """Load the digits' classifier, see :func:`trained_classifier`."""
    return trained_classifier("digits", path)


def fashion_mnist_classifier(path: Path = FASHION_MNIST) -> tuple[Detector, str]:
    """Load Fashion-MNIST's classifier, see :func:`trained_classifier`."""
    return trained_classifier("fashion_mnist", path)


def trained_classifier(name: str, path: Path) -> tuple[ImageClassifier, str]:
    """Load a classifier, frozen, with the SHA-256 of its weights.

    Args:
        name: a key of ``CLASSIFIERS``.
        path: of its weights.

    Raises:
        InputError: the file is missing, its weights are another network's, or one is not finite.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file; train it with `lightning fit --config configs/{name}/classifier.yaml`")
    weights = read_safetensors(path)
    if wrong := not_finite(weights):
        raise InputError(f"{path}: its weights '{wrong}' have a NaN or an infinity; train it anew")
    classifier = CLASSIFIERS[name]()
    expected = {key: value.shape for key, value in classifier.state_dict().items()}
    if expected != {key: value.shape for key, value in weights.items()}:
        raise InputError(f"{path}: not the weights of the classifier '{name}'; train it anew")
    classifier.load_state_dict(weights)
    return classifier.eval().requires_grad_(False), file_digest(path)


def dinov2(model: str = "facebook/dinov2-large") -> tuple[Detector, str]:
    """Load DINOv2; its features are the class token.

    Args:
        model: a folder of transformers, or an id on the hub.

    Raises:
        InputError: the model cannot be had, or the extra diffusers is not installed.
    """
    return _encoders(model).dinov2(model)


def clip(model: str = "openai/clip-vit-large-patch14-336", crop: bool = False) -> tuple[Detector, str]:
    """Load CLIP; its features are the projected embedding of an image, of length 1.

    Args:
        model: a folder of transformers, or an id on the hub.
        crop: resize and crop images as the folder's processor does, and not squeeze them whole; texts are taken too.

    Raises:
        InputError: the model cannot be had, or the extra diffusers is not installed.
    """
    return _encoders(model).clip(model, crop)


def _encoders(model: str) -> Any:
    """Import what loads them, which takes seconds, only now."""
    try:
        from amed_lightning.metrics import encoders
    except ImportError as error:
        raise InputError(
            f"{model}: its detector needs the extra diffusers ({error}): pip install 'amed-lightning[diffusers]'"
        ) from error
    return encoders


DETECTORS: dict[str, Callable[..., tuple[Detector, str]]] = {
    "digits": digits_classifier,
    "fashion_mnist": fashion_mnist_classifier,
    "inception": inception,
    "dinov2": dinov2,
    "clip": clip,
    "efficientnet_lite0": efficientnet_lite0,
}
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
