"""The metrics that configurations call by name, and the scores of one sampler: sums that batches and blocks add to.

Any partition of the images into blocks, added in a fixed order, gives the same digits. Sums live where the images are;
scores are computed from them on the CPU.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from amed_lightning.config import InputError, Spec, build, complete
from amed_lightning.metrics.clip_score import CLIPScore
from amed_lightning.metrics.cmmd import CLIPDiscrepancy
from amed_lightning.metrics.detector import Detection, Detector
from amed_lightning.metrics.feature_metrics import KernelInceptionDistance, PrecisionRecall
from amed_lightning.metrics.fid import FrechetDINOv2Distance, FrechetInceptionDistance, SpatialFID
from amed_lightning.metrics.inception_score import InceptionScore
from amed_lightning.metrics.metric import NOTHING, Metric, Score, Seen, Sums
from amed_lightning.metrics.paired import PairedDistance
from amed_lightning.metrics.statistics import Statistics
from amed_lightning.tensors import Bytes, Images, not_finite, sent

METRICS: dict[str, type[Metric]] = {
    "fid": FrechetInceptionDistance,
    "is": InceptionScore,
    "kid": KernelInceptionDistance,
    "precision_recall": PrecisionRecall,
    "sfid": SpatialFID,
    "fd_dinov2": FrechetDINOv2Distance,
    "cmmd": CLIPDiscrepancy,
    "clip_score": CLIPScore,
    "rmse": PairedDistance,
}
"""The metrics, in the order of a table's columns; the first that a table has ranks its lines."""
USUAL = ("fid", "is")
"""What is computed where nothing else is asked for."""
MAIN = USUAL[0]
"""The score whose published figures stand beside a table's own."""
PAIRED = [name for name, metric in METRICS.items() if "pairs" in metric.needs]
"""What is computed, unasked, wherever there are images of a reference sampler to compare with."""
SCORES: dict[str, Score] = {name: score for metric in METRICS.values() for name, score in metric.described().items()}
"""The scores that these give."""


def described(metric: str | Spec) -> Spec:
    """Write a metric's description out in full.

    Raises:
        InputError: an unknown metric or option.
    """
    return complete("metric", METRICS, {"name": metric} if isinstance(metric, str) else metric)


def metrics_of(specs: Sequence[str | Spec]) -> dict[str, Metric]:
    """Build the metrics that a configuration asks for, and what comes unasked; nothing is loaded.

    Args:
        specs: names, or names and options; of ``METRICS``, or import paths of own classes.

    Returns:
        The metrics by name.

    Raises:
        InputError: an unknown metric or option, none, or two that give a score of one name.
    """
    if not specs:
        raise InputError(f"metrics is empty: use some of {', '.join(METRICS)}")
    chosen = [described(spec) for spec in specs]
    chosen += [described(name) for name in PAIRED if name not in [spec["name"] for spec in chosen]]
    metrics = [(spec["name"], build("metric", METRICS, spec)) for spec in chosen]
    for name, metric in metrics:
        if not isinstance(metric, Metric):
            raise InputError(f"metric '{name}': it is no {Metric.__module__}.{Metric.__name__}")
    given = Counter(score for _, metric in metrics for score in metric.scores)
    if twice := [score for score, count in given.items() if count > 1]:
        raise InputError(f"metrics: the score '{twice[0]}' would be given twice; leave one of its metrics out")
    return dict(metrics)


@dataclass(frozen=True)
class Measure:
    """A metric, and what it looks with and at.

    Attributes:
        metric: the metric.
        detector: that it needs.
        real: the real images, as the detector sees them.
        prefix: of its sums' names, where it shares none with other metrics.
    """

    metric: Metric
    detector: Detector
    real: Statistics
    prefix: str = ""

    @property
    def added(self) -> list[str]:
        """What its sums are called among those of all metrics."""
        return [f"{self.prefix}{name}" for name in self.metric.added]

    @property
    def kept(self) -> list[str]:
        """What those are called that are put end to end."""
        return [f"{self.prefix}{name}" for name in self.metric.kept]


class GenerationScores:
    """Scores of a set of generated images.

    Args:
        measures: what to compute. The package's metrics that look with the user's detector share sums of one name.
        total: number of images that there will be.
    """

    def __init__(self, measures: Sequence[Measure], total: int) -> None:
        self.measures, self.total = measures, total
        self._added: Sums = {}
        self._kept: dict[str, list[Tensor]] = {}

    def update(
        self,
        pixels: Bytes,
        numbers: Int[Tensor, "batch"],
        prompts: Sequence[str] = (),
        pair: tuple[Images, ...] = (),
    ) -> None:
        """Show images to each detector, once, and add what the metrics make of them.

        Args:
            pixels: the images, where the detectors are.
            numbers: each image's number among all, from 0; on the CPU, as the host looks at them.
            prompts: of each image, if there are any.
            pair: the images in [-1, 1], and a reference sampler's from the same noise, if there is one.

        Raises:
            ValueError: numbers or answers that do not belong to the images, or a number out of range.
        """
        if int(numbers.min()) < 0 or int(numbers.max()) >= self.total:
            raise ValueError(f"an index lies outside 0 .. {self.total - 1}")
        numbers, answers, found = sent(numbers, pixels.device), dict[int, Detection](), Sums()
        for measure in self.measures:
            metric, detector = measure.metric, measure.detector
            if "pairs" in metric.needs and not pair:
                continue
            if metric.needs & {"features", "logits"} and id(detector) not in answers:
                answers[id(detector)] = _checked(detector, detector(pixels), len(numbers))
            answer = answers.get(id(detector), NOTHING)
            sums = metric.sums(Seen(numbers, self.total, pixels, detector, answer, prompts, pair))
            found |= {f"{measure.prefix}{name}": value for name, value in sums.items()}
        self.add(found)

    def add(self, sums: Sums) -> None:
        """Add the sums of a batch or of another block; those of other names stay out."""
        for name in {name for measure in self.measures for name in measure.added} & sums.keys():
            known = self._added.get(name)
            self._added[name] = sums[name] if known is None else known + sums[name].to(known.device)
        for name in {name for measure in self.measures for name in measure.kept} & sums.keys():
            self._kept.setdefault(name, []).append(sums[name])

    @property
    def described(self) -> dict[str, Score]:
        """The scores of all metrics."""
        return {name: score for measure in self.measures for name, score in measure.metric.described().items()}

    def sums(self) -> Sums:
        """Return the sums by name, on the CPU: what a block writes."""
        kept = {name: torch.cat(parts) for name, parts in self._kept.items()}
        return {name: value.cpu() for name, value in (self._added | kept).items()}

    def compute(self) -> dict[str, float]:
        """Return the scores of all metrics, but those of pairs where there are none.

        Raises:
            FloatingPointError: a sum, or a score that came out of finite ones, is not finite.
        """
        sums = self.sums()
        if name := not_finite(sums):
            raise FloatingPointError(f"no scores: '{name}' of the detector's answers has a NaN or an infinity")
        scores: dict[str, float] = {}
        for measure in self.measures:
            metric, names = measure.metric, [*measure.added, *measure.kept]
            if "pairs" in metric.needs and not sums.keys() >= set(names):
                continue
            own = dict(zip((*metric.added, *metric.kept), (sums[name] for name in names), strict=True))
            scores |= metric.compute(own, measure.real)
        if name := next((name for name, score in scores.items() if not math.isfinite(score)), None):
            raise FloatingPointError(f"no scores: {name} came out as {scores[name]}")
        return scores


def _checked(detector: Detector, answer: Detection, count: int) -> Detection:
    """Return a detector's answer if its shapes are what the detector and the images say."""
    shapes = [tuple(answer.features.shape), tuple(answer.logits.shape)]
    expected = [(count, detector.feature_size), (count, detector.num_classes)]
    if shapes != expected:
        raise ValueError(f"features {shapes[0]} and logits {shapes[1]}, not {expected}")
    return answer
