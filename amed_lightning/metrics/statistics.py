"""What scores refer to: real images as a detector sees them, and the files that keep it.

A file is a NumPy archive with ``mu`` and ``sigma``, which is all that EDM's references (``fid-refs``, float64) hold.
Ours add ``metadata``, a JSON that says which detector looked at which images, and ``features`` where they were kept.
"""

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from amed_lightning.config import InputError, checked, file_digest, write_atomically
from amed_lightning.data.images import ImageSet, Inventory
from amed_lightning.metrics.detector import Detector
from amed_lightning.metrics.frechet import Moments, feature_sums
from amed_lightning.runtime import zips
from amed_lightning.runtime.json_text import parse_json
from amed_lightning.runtime.micro_batches import halving
from amed_lightning.runtime.progress import progress
from amed_lightning.runtime.signals import stop_if_asked
from amed_lightning.tensors import is_finite, not_finite

_ARRAYS = ("mu", "sigma", "metadata", "features")
"""What is read of a file; OpenAI's have gigabytes of images in them too."""
_ASYMMETRY = 1e-6
PLAIN = dict(zip(_ARRAYS, _ARRAYS, strict=True))
_SPATIAL = {"mu": "mu_s", "sigma": "sigma_s"}
"""What is read, and what it is called in the file."""
UNREADABLE = (*zips.UNREADABLE, TypeError, AttributeError, ArithmeticError, MemoryError, SyntaxError, struct.error)
"""What NumPy raises for a file that is damaged, is a bare array, or holds Python objects."""
NUMBERS = "fiu"
"""Kinds of arrays' entries."""


@dataclass(frozen=True)
class _About:
    """What a file of ours says beside its numbers; EDM's say nothing."""

    count: int | None = None
    dataset: str | None = None
    detector: str | None = None
    shape: list[int] | None = None
    class_counts: list[tuple[int, int]] | None = None


@dataclass(frozen=True)
class Statistics:
    """Real images as a detector sees them.

    Attributes:
        moments: of their features.
        dataset: digest of the images' pixels; where a file does not say, of the file.
        detector: digest of the detector; None where a file does not say.
        shape: channels, height and width of the images; None where a file does not say.
        class_counts: images of each class, where the images have labels.
        features: of each image in the set's order, in float32; none if they were not kept.
        notes: on the images, where they were looked at and not read from a file of statistics.
    """

    moments: Moments
    dataset: str
    detector: str | None = None
    shape: tuple[int, ...] | None = None
    class_counts: Mapping[int, int] = field(default_factory=dict)
    features: Float[Tensor, "images features"] = field(default_factory=lambda: torch.empty(0, 0))
    notes: Sequence[str] = ()


def statistics_of(
    detector: Detector,
    detector_digest: str,
    images: ImageSet,
    keep_features: bool = False,
    batch_size: int = 256,
    device: torch.device | None = None,
) -> Statistics:
    """Show a set of images to a detector, a batch at a time.

    Args:
        detector: is on ``device``.
        detector_digest: goes into the statistics.
        images: each counts once.
        keep_features: keep each image's features.
        batch_size: images at a time; where memory has no room for them, half as many.
        device: where the detector is; None for the CPU.

    Raises:
        InputError: an image that cannot be read, or that the detector does not take; fewer than two of them.
        FloatingPointError: the detector's features are not finite.
        Stopped: a signal asked the process to stop.
    """
    require_taken(detector, images)
    look = partial(_looked_at, detector, images, keep_features, device)
    (total, outer, features, seen), _ = halving(look, batch_size, "reference")
    if not is_finite(total, outer):
        raise FloatingPointError(f"{images.name(0)}: the detector's features of these images have a NaN or an infinity")
    moments = Moments.from_sums(seen.count, total.cpu(), outer.cpu())
    return Statistics(moments, seen.digest, detector_digest, images.shape, seen.class_counts, features, images.notes)


def _looked_at(
    detector: Detector, images: ImageSet, keep_features: bool, device: torch.device | None, batch_size: int
) -> tuple[Tensor, Tensor, Tensor, Inventory]:
    """Return the sums of the features and of their products, the features if they are kept, and what was seen."""
    total = torch.zeros(detector.feature_size, dtype=torch.float64, device=device)
    outer = torch.zeros(detector.feature_size, detector.feature_size, dtype=torch.float64, device=device)
    kept, seen = [], Inventory()
    with progress("reference", images.count, "images") as advance, torch.inference_mode():
        for batch, labels in images.batches(batch_size):
            stop_if_asked()
            features = detector(batch.to(device)).features
            for sum_, added in zip((total, outer), feature_sums(features), strict=True):
                sum_ += added
            if keep_features:
                kept.append(features.cpu())
            seen.add(batch, labels)
            advance(len(batch))
    return total, outer, torch.cat(kept) if keep_features else torch.empty(0, 0), seen


def require_taken(detector: Detector, images: ImageSet) -> None:
    """Refuse a set before its images are looked at.

    Raises:
        InputError: the detector does not take them, or there are fewer than two.
    """
    if detector.image_shape not in (None, images.shape):
        raise InputError(f"{images.name(0)}: shape {images.shape}, and the detector takes {detector.image_shape}")
    if images.count < 2:
        raise InputError(f"{images.name(0)}: the only image; statistics need at least two")


def write_statistics(path: Path, statistics: Statistics) -> None:
    """Write an archive that :func:`read_statistics` reads, and EDM's tool too."""
    metadata = {
        "count": statistics.moments.count,
        "dataset": statistics.dataset,
        "detector": statistics.detector,
        "shape": statistics.shape,
        "class_counts": sorted(statistics.class_counts.items()),
    }
    arrays = {"mu": statistics.moments.mean.numpy(), "sigma": statistics.moments.covariance.numpy()}
    if len(statistics.features):
        arrays["features"] = statistics.features.numpy()
    content = BytesIO()
    np.savez(content, allow_pickle=False, metadata=np.array(json.dumps(metadata)), **arrays)
    write_atomically(path, content.getvalue())


def read_statistics(path: Path) -> Statistics:
    """Read statistics: our own, or those of EDM.

    Raises:
        InputError: a file that is missing, damaged, or of another content.
    """
    return _read(Path(path), PLAIN)


def read_spatial_statistics(path: Path) -> Statistics:
    """Read the statistics of spatial features, for sFID, that OpenAI's files have beside those for FID.

    Raises:
        InputError: a file that is missing, damaged, or without them.
    """
    return _read(Path(path), _SPATIAL)


def _read(path: Path, called: Mapping[str, str]) -> Statistics:
    arrays, about = _content(path, called)
    moments = _moments(path, arrays, about.get("count"), called)
    features = torch.from_numpy(arrays.get("features", np.empty((0, 0), np.float32)))
    if len(features) and features.shape != (moments.count, len(moments.mean)):
        raise InputError(f"{path}: features {tuple(features.shape)} of {moments.count} images; the file is damaged")
    _require_finite(path, features=features)
    return Statistics(
        moments,
        about.get("dataset") or file_digest(path),
        about.get("detector"),
        tuple(about["shape"]) if "shape" in about else None,
        dict(about.get("class_counts", [])),
        features,
    )


def _content(path: Path, called: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read an archive's arrays, unpickling nothing, and its metadata, of which EDM's files have none."""
    try:
        if not path.is_file():
            raise InputError(f"{path}: no such file; compute it with `amed-lightning reference`")
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            for entry in archive.zip.infolist():
                if entry.filename.removesuffix(".npy") in called.values():
                    zips.require_plausible(path, entry)
            arrays = {name: archive[there] for name, there in called.items() if there in archive}
        told = parse_json(str(arrays.pop("metadata", "{}")))
        if wrong := [name for name, array in arrays.items() if array.dtype.kind not in NUMBERS]:
            raise InputError(f"{path}: '{wrong[0]}' has no numbers")
        return arrays, _about(path, told)
    except InputError:
        raise
    except UNREADABLE as error:
        raise InputError(f"{path}: not a readable .npz file of statistics") from error


def _about(path: Path, told: Any) -> dict[str, Any]:
    try:
        return {name: value for name, value in checked(_About, told).items() if value is not None}
    except ValueError as error:
        raise InputError(f"{path}: not what statistics say of themselves: {error}") from error


def _moments(path: Path, arrays: Mapping[str, Any], count: int | None, called: Mapping[str, str]) -> Moments:
    """Check mean and covariance."""
    if not {"mu", "sigma"} <= arrays.keys():
        raise InputError(f"{path}: not statistics: it has no arrays '{called['mu']}' and '{called['sigma']}'")
    mean, covariance = arrays["mu"].astype(np.float64), arrays["sigma"].astype(np.float64)
    if mean.ndim != 1 or not len(mean) or covariance.shape != (len(mean), len(mean)):
        raise InputError(f"{path}: mu {mean.shape} and sigma {covariance.shape} are no mean and covariance")
    _require_finite(path, mu=torch.from_numpy(mean), sigma=torch.from_numpy(covariance))
    if np.abs(covariance - covariance.T).max() > _ASYMMETRY * np.abs(covariance).max():
        raise InputError(f"{path}: sigma is not symmetric; the file is damaged")
    return Moments(count, torch.from_numpy(mean), torch.from_numpy(covariance))


def _require_finite(path: Path, **tensors: Tensor) -> None:
    if name := not_finite(tensors):
        raise InputError(f"{path}: '{name}' is not finite: it has a NaN or an infinity; the file is damaged")
