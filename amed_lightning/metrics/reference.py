"""The examiner: a detector, the real images as it sees them, and the scores to compute."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from amed_lightning.config import InputError, Spec, build, digest, registered
from amed_lightning.data.images import ImageSet
from amed_lightning.data.registry import DATASETS
from amed_lightning.denoisers.zoo.card import load_card
from amed_lightning.metrics.detector import Detector
from amed_lightning.metrics.feature_metrics import FEATURE_METRICS, KID_SUBSET_SIZE, NEIGHBOURS
from amed_lightning.metrics.files import ASSETS, load_detector
from amed_lightning.metrics.inception_score import NUM_SPLITS
from amed_lightning.metrics.scores import METRICS, GenerationScores
from amed_lightning.metrics.statistics import Statistics, read_statistics, statistics_of
from amed_lightning.runtime.cache import fetch


def published_statistics(card: str) -> Statistics:
    """Return the statistics that the card of a published model names, which are fetched if they are not in the cache.

    Args:
        card: name of a shipped card, or the path of one's own.

    Raises:
        InputError: there is no such card, it names none, or they cannot be had.
    """
    described = load_card(card)
    if "reference" not in described.files:
        raise InputError(f"card '{card}' names no reference among its files")
    return read_statistics(fetch(described.files["reference"], described.folder))


def shipped_statistics(dataset: str) -> Statistics:
    """Return statistics that come with the package, made by the detector of the same name: no images are needed.

    Args:
        dataset: a key of ``SHIPPED``.

    Raises:
        InputError: there are none of this set.
    """
    return read_statistics(registered("shipped statistics", SHIPPED, dataset))


SHIPPED = {"fashion_mnist": ASSETS / "fashion_mnist" / "train.npz"}
"""Statistics in the package: of the 60,000 images of Fashion-MNIST to train on."""
REFERENCES: dict[str, Callable[..., ImageSet | Statistics]] = {
    **DATASETS,
    "statistics": read_statistics,
    "published": published_statistics,
    "shipped": shipped_statistics,
}
"""What real images can be given as: themselves, or the statistics that a detector made of them."""


FEW_FOR_SPLITS, FEW_FOR_SHARES = 10 * NUM_SPLITS, 1000
"""Images below which IS, and precision and recall, are said to be doubtful: ten to a split; shares to ±0.016."""


@dataclass(frozen=True)
class Examiner:
    """A detector and the real images as it sees them.

    Attributes:
        detector: looks at images.
        reference: the real images.
        digest: identifies the detector, the real images and, where features are needed, the metrics: the sums that
            were made for another digest do not serve this examiner.
        metrics: the scores to compute.
    """

    detector: Detector
    reference: Statistics
    digest: str
    metrics: tuple[str, ...] = ("fid", "is")

    def to(self, device: torch.device) -> "Examiner":
        """Move the detector, in place, and return this examiner; scores follow the images that they are shown."""
        if isinstance(self.detector, torch.nn.Module):
            self.detector.to(device)
        return self

    def require_shape(self, shape: tuple[int, ...]) -> None:
        """Refuse images of another shape than the real ones, or than the detector takes.

        Raises:
            InputError: naming both.
        """
        known = self.reference.shape or self.detector.image_shape
        if known not in (None, shape):
            raise InputError(f"images of shape {shape} cannot be scored against {known}")

    def scores(self, total: int) -> GenerationScores:
        """Return empty scores for ``total`` images.

        Raises:
            InputError: so few have no scores.
        """
        if total < 2:
            raise InputError(f"FID needs at least two images, and there is {total}")
        if "precision_recall" in self.metrics and total <= NEIGHBOURS:
            raise InputError(f"precision and recall need at least {NEIGHBOURS + 1} images, and there are {total}")
        return GenerationScores(self.reference, self.detector.num_classes, total, self.metrics)

    def caveats(self, total: int) -> list[str]:
        """Say what is doubtful about scores of ``total`` images, because they or the real ones are few.

        >>> examiner({"name": "digits"}, {"name": "digits"}).caveats(100)
        []
        """
        size, generated = self.detector.feature_size, {"generated": total}
        both = generated | {"real": self.reference.moments.count}
        error = 0.5 / min(count for count in both.values() if count) ** 0.5  # the standard error of one half
        doubts: list[tuple[str, str, Mapping[str, int | None], int, str]] = [
            ("fid", "FID", both, size + 1, f"the covariance of {size} features has full rank from {size + 1}"),
            ("is", "IS", generated, FEW_FOR_SPLITS, f"each of the {NUM_SPLITS} splits has fewer than ten"),
            ("kid", "KID", both, KID_SUBSET_SIZE, f"its subsets are of fewer than the usual {KID_SUBSET_SIZE}"),
            ("precision_recall", "precision and recall", both, FEW_FOR_SHARES, f"a share is known to ±{error:.3f}"),
        ]
        texts = []
        for metric, name, counts, needed, reason in doubts:
            few = [f"{count} {kind}" for kind, count in counts.items() if count is not None and count < needed]
            if metric in self.metrics and few:
                texts.append(f"{name} of {' and '.join(few)} images: {reason}")
        return texts


def examiner(
    detector: Spec, dataset: Spec, metrics: Sequence[str] = ("fid", "is"), device: torch.device | None = None
) -> Examiner:
    """Load a detector, and the real images or their statistics.

    Args:
        detector: name and options.
        dataset: name and options of the real images, or of their statistics where these are computed already.
        metrics: of ``METRICS``.
        device: where the detector looks at the images; None for the CPU.

    Raises:
        InputError: an unknown part, statistics of another detector or without features, images that cannot be read.
    """
    network, weights = load_detector(detector, device)
    _require_metrics(metrics, network)
    kept = sorted(FEATURE_METRICS.keys() & metrics)
    source = build("dataset", REFERENCES, dataset)
    if isinstance(source, ImageSet):
        reference = statistics_of(network, weights, source, keep_features=bool(kept), device=device)
    else:
        reference = source
        _require_detector(reference, network, weights, dataset)
    if kept and len(reference.features) <= NEIGHBOURS:
        raise InputError(
            f"{_place(dataset)}: holds the features of {len(reference.features)} images, too few for "
            f"{' and '.join(kept)}; compute it with `amed-lightning reference --features true`"
        )
    return Examiner(network, reference, digest([weights, reference.dataset, kept]), tuple(metrics))


def _require_metrics(metrics: Sequence[str], detector: Detector) -> None:
    """Refuse metrics that are unknown or that the detector does not serve."""
    if not metrics or not set(metrics) <= set(METRICS):
        raise InputError(f"metrics {list(metrics)}: use some of {', '.join(METRICS)}")
    if "is" in metrics and not detector.num_classes:
        raise InputError("metrics: IS needs logits, and the detector gives none; leave 'is' out, or set logits: true")


def _require_detector(reference: Statistics, detector: Detector, weights: str, dataset: Spec) -> None:
    """Refuse statistics that another detector made."""
    size = len(reference.moments.mean)
    if size != detector.feature_size:
        raise InputError(f"{_place(dataset)}: {size} features, and the detector gives {detector.feature_size}")
    if reference.detector not in (None, weights):
        raise InputError(
            f"{_place(dataset)}: made by detector {str(reference.detector)[:12]}, and this is {weights[:12]}; "
            "compute it again with `amed-lightning reference`"
        )


def _place(dataset: Spec) -> str:
    """Return what a message calls a dataset: its file if it has one."""
    return str(dataset.get("path") or dataset.get("card") or dataset["name"])
