"""The evaluator: a detector, the real images as it sees them, and the scores to compute."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import torch

from amed_lightning.config import InputError, Spec, build, digest, registered
from amed_lightning.data.images import ImageSet
from amed_lightning.data.picture import require_picture
from amed_lightning.data.registry import DATASETS
from amed_lightning.denoisers.zoo.card import load_card
from amed_lightning.metrics.detector import Detector
from amed_lightning.metrics.files import ASSETS, load_detector
from amed_lightning.metrics.frechet import Moments
from amed_lightning.metrics.metric import Metric, Score
from amed_lightning.metrics.scores import METRICS, PAIRED, USUAL, GenerationScores, Measure, described, metrics_of
from amed_lightning.metrics.statistics import (
    Statistics,
    read_spatial_statistics,
    read_statistics,
    require_taken,
    statistics_of,
)
from amed_lightning.runtime.cache import fetch


def _published_statistics(card: str) -> Statistics:
    """Return the statistics that the card of a published model names, which are fetched if they are not in the cache.

    Args:
        card: name of a shipped card, or the path of one's own.

    Raises:
        InputError: there is no such card, it names none, or they cannot be had.
    """
    model = load_card(card)
    if "reference" not in model.files:
        raise InputError(f"card '{card}' names no reference among its files")
    return read_statistics(fetch(model.files["reference"], model.folder))


def _shipped_statistics(dataset: str) -> Statistics:
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
    "published": _published_statistics,
    "shipped": _shipped_statistics,
    "spatial_statistics": read_spatial_statistics,
}
"""What real images can be given as: themselves, or the statistics that a detector made of them."""


Reference: TypeAlias = Callable[[Any, ImageSet, Callable[[], Statistics]], Statistics]
"""Says how a set of images becomes statistics, given a name for them and what shows it to a detector."""


def looked_at(name: Any, images: ImageSet, look: Callable[[], Statistics]) -> Statistics:
    """Show the images to the detector."""
    return look()


def counted(name: Any, images: ImageSet, look: Callable[[], Statistics]) -> Statistics:
    """Return statistics without numbers, which are enough to refuse what does not go with the images."""
    nothing = torch.empty(0, dtype=torch.float64)
    moments = Moments(images.count, nothing, nothing.reshape(0, 0))
    return Statistics(moments, "", shape=images.shape, features=torch.empty(images.count, 0), notes=images.notes)


PLACES = ("model", "path", "sha256", "detector", "reference")
"""Options of metrics that say where its detector and real images are; digests of these say what they are."""


@dataclass(frozen=True)
class Evaluator:
    """A detector, the real images as it sees them, and the metrics, some of which have others of their own.

    Attributes:
        detector: looks at images.
        reference: the real images.
        digest: identifies the detector, the real images and the metrics: the sums that were made for another digest do
            not serve this evaluator.
        measures: the metrics by name, with what each looks with and at.
    """

    detector: Detector
    reference: Statistics
    digest: str
    measures: Mapping[str, Measure]

    def to(self, device: torch.device) -> "Evaluator":
        """Move all detectors, in place, and return this evaluator; scores follow the images that they are shown."""
        for detector in (self.detector, *(measure.detector for measure in self.measures.values())):
            if isinstance(detector, torch.nn.Module):
                detector.to(device)
        return self

    @property
    def own_scores(self) -> dict[str, Score]:
        """The scores that are not in ``SCORES``, because their metric is the user's own."""
        metrics = [measure.metric for name, measure in self.measures.items() if name not in METRICS]
        return {name: score for metric in metrics for name, score in metric.described().items()}

    def require_shape(self, shape: tuple[int, ...]) -> None:
        """Refuse images of another shape than the real ones, or than a detector takes.

        Raises:
            InputError: naming both; or they are neither grey nor RGB.
        """
        known = [self.reference.shape or self.detector.image_shape]
        known += [measure.detector.image_shape for measure in self.measures.values()]
        known += [measure.real.shape for measure in self.measures.values() if measure.real.shape is not None]
        for other in known:
            if other is None:
                require_picture(shape)
            elif other != shape:
                raise InputError(f"images of shape {shape} cannot be scored against {other}")

    def require_given(self, prompts: bool, pairs: bool) -> None:
        """Refuse metrics that were asked for and need what there is not.

        Args:
            prompts: whether the images have prompts.
            pairs: whether there are images of a reference sampler.

        Raises:
            InputError: naming the metric.
        """
        for name, measure in self.measures.items():
            if "prompts" in measure.metric.needs and not prompts:
                raise InputError(f"metric '{name}': it needs prompts, and these images have none; leave it out")
            if "pairs" in measure.metric.needs and not pairs and name not in PAIRED:
                raise InputError(f"metric '{name}': it needs a reference sampler to compare with; name one")

    def scores(self, total: int) -> GenerationScores:
        """Return empty scores for ``total`` images.

        Raises:
            InputError: so few have no scores.
        """
        for measure in self.measures.values():
            if total < (fewest := measure.metric.fewest):
                raise InputError(f"{measure.metric.title}: at least {fewest} images are needed, not {total}")
        return GenerationScores(list(self.measures.values()), total)

    def caveats(self, total: int) -> list[str]:
        """Say what is doubtful about scores of ``total`` images, because they or the real ones are few.

        >>> build_evaluator({"name": "digits"}, {"name": "digits"}).caveats(100)
        []
        """
        return [text for measure in self.measures.values() if (text := _caveat(measure, total))]


def _caveat(measure: Measure, total: int) -> str:
    """Say what is doubtful about a metric's scores, if anything is."""
    metric, counts = measure.metric, {"generated": total}
    if metric.refers_to_real and measure.real.moments.count is not None:
        counts["real"] = measure.real.moments.count
    needed, reason = metric.enough(min(counts.values()), measure.detector.feature_size)
    few = [f"{count} {kind}" for kind, count in counts.items() if count < needed]
    return f"{metric.title} of {' and '.join(few)} images: {reason}" if few else ""


def build_evaluator(
    detector: Spec,
    dataset: Spec,
    metrics: Sequence[str | Spec] = USUAL,
    device: torch.device | None = None,
    reference: Reference = looked_at,
) -> Evaluator:
    """Load the detectors, and the real images or their statistics.

    Args:
        detector: name and options.
        dataset: name and options of the real images, or of their statistics where these are computed already.
        metrics: names of ``METRICS``, or names and options; or import paths of own classes.
        device: where the detectors look at the images; None for the CPU.
        reference: says how real images become statistics.

    Raises:
        InputError: an unknown part, statistics of another detector or without features, images that cannot be read.
    """
    specs, chosen = {spec["name"]: spec for spec in map(described, metrics)}, metrics_of(metrics)
    seen = partial(_view, device=device, reference=reference)
    common = seen(detector, dataset, [metric for metric in chosen.values() if metric.detector is None])
    views = {name: _own_view(metric, common, dataset, seen, device) for name, metric in chosen.items()}
    measures = {
        name: Measure(metric, views[name].detector, views[name].real, f"{name}." if _is_apart(name, metric) else "")
        for name, metric in chosen.items()
    }
    told = {name: _told(spec, chosen[name], views[name]) for name, spec in specs.items()}
    unusual = [told.get(name, name) for name in sorted({*USUAL} ^ specs.keys())]
    return Evaluator(common.detector, common.real, digest([*common.digests, unusual]), measures)


@dataclass(frozen=True)
class View:
    """A detector, its digest, and the real images as it sees them."""

    detector: Detector
    weights: str
    real: Statistics

    @property
    def digests(self) -> list[str]:
        """Of the detector and of the real images."""
        return [self.weights, self.real.dataset]


def _own_view(
    metric: Metric, common: View, dataset: Spec, seen: Callable[..., View], device: torch.device | None
) -> View:
    """Return what a metric looks with and at: what all do, unless it has a detector of its own."""
    if metric.detector is None:
        return common
    if not metric.refers_to_real:
        return View(*load_detector(metric.detector, device), common.real)
    if metric.reference is None and dataset["name"] in REFERENCES.keys() - DATASETS.keys():
        raise InputError(
            f"{_place(dataset)}: statistics of another detector than {metric.title}'s own; compute these with "
            "`amed-lightning reference` and give the metric `reference: {name: statistics, path: ...}`"
        )
    return seen(metric.detector, metric.reference or dataset, [metric])


def _view(
    detector: Spec, dataset: Spec, metrics: Sequence[Metric], device: torch.device | None, reference: Reference
) -> View:
    """Load a detector, show it the real images or read their statistics, and refuse metrics that it does not serve."""
    network, weights = load_detector(detector, device)
    for metric in metrics:
        if "logits" in metric.needs and not network.num_classes:
            raise InputError(
                f"metrics: {metric.title} needs logits, and the detector gives none; leave it out, or set logits: true"
            )
    kept = [metric for metric in metrics if metric.kept]
    source = build("dataset", REFERENCES, dataset)
    if isinstance(source, ImageSet):
        require_taken(network, source)
        look = partial(statistics_of, network, weights, source, keep_features=bool(kept), device=device)
        real = reference([weights, dataset, bool(kept)], source, look)
    else:
        real = source
        _require_detector(real, network, weights, dataset)
    if few := [metric.title for metric in kept if len(real.features) < metric.fewest]:
        raise InputError(
            f"{_place(dataset)}: holds the features of {len(real.features)} images, too few for "
            f"{' and '.join(few)}; compute it with `amed-lightning reference --features true`"
        )
    return View(network, weights, real)


def _is_apart(name: str, metric: Metric) -> bool:
    """Whether a metric shares no sums with others: it has a detector of its own, or is the user's own."""
    return metric.detector is not None or name not in METRICS


def _told(spec: Spec, metric: Metric, view: View) -> str | list[Any]:
    """Return what a metric's scores depend on: of the package's own, without options and detector, the name."""
    if spec == {"name": spec["name"]} and not _is_apart(spec["name"], metric):
        return str(spec["name"])
    hidden = () if metric.detector is None else PLACES
    return [{key: value for key, value in spec.items() if key not in hidden}, *view.digests]


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
