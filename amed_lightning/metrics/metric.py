"""What a metric is: a value that says what a batch of images adds to its sums, and what scores come of the sums of all.

A metric keeps nothing itself. What it makes of batches is added, in float64, or put end to end where a score needs
every image; so blocks may be scored anywhere, and in a fixed order their sums have the same digits on any number of
processes. All metrics of a sampler see the same images once.

A metric is one class with a line in ``METRICS``, or a user's own, named by its import path.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, TypeAlias

import torch
from jaxtyping import Int
from torch import Tensor

from amed_lightning.config import Spec
from amed_lightning.metrics.detector import Detection, Detector
from amed_lightning.metrics.statistics import Statistics
from amed_lightning.tensors import Bytes, Images

Sums: TypeAlias = dict[str, Tensor]
Need: TypeAlias = Literal["pixels", "features", "logits", "prompts", "pairs"]
Better: TypeAlias = Literal["lower", "higher"]
NOTHING = Detection(torch.empty(0, 0), torch.empty(0, 0))
"""What a metric is given that needs no detector."""


@dataclass(frozen=True)
class Score:
    """A number that a metric gives, as tables and pictures show it.

    Attributes:
        title: of its column.
        better: which of two is.
        digits: after the point.
        of_a_part: name of the value that stands for it where only a part of the images is scored, if it is another.
        spread: name of the value that ``evaluate`` prints behind ±, and what it is taken over.
        tolerance: how far it may move, relative to itself, where the same images are scored on the same hardware; None
            where no night judges it.
        is_implied: says what another score says; CSV has it, tables do not.
        needs: of its metric.
    """

    title: str
    better: Better
    digits: int
    of_a_part: str = ""
    spread: Sequence[str] = ()
    tolerance: float | None = None
    is_implied: bool = False
    needs: Collection[str] = ()


@dataclass(frozen=True)
class Seen:
    """A batch of generated images, as a metric sees it.

    Attributes:
        numbers: each image's among all, from 0, where the images are.
        total: how many images there will be.
        pixels: the images.
        detector: the metric's.
        detection: what it answers, if the metric needs features or logits.
        prompts: of each image, if it needs them.
        pair: if it needs them, the images in [-1, 1] and those of a reference sampler from the same noise.
    """

    numbers: Int[Tensor, "batch"]
    total: int
    pixels: Bytes
    detector: Detector
    detection: Detection = NOTHING
    prompts: Sequence[str] = ()
    pair: tuple[Images, ...] = ()


class Metric(ABC):
    """Scores of generated images.

    Attributes:
        scores: what it gives, by name; further values may stand beside them.
        needs: what it has to be given of a batch.
        added: names of the sums that are added.
        kept: names of those that are put end to end, in the order of arrival. With any, ``compute`` is given the real
            images' features too.
        fewest: images below which there is no score.
        refers_to_real: whether it compares with real images.
        detector: name and options of its own; None for the one that its user names.
        reference: the real images as its own detector is to see them, or their statistics; None for those of its user.
        feature_size: length of its own detector's features, as far as that is known before weights are read.
    """

    scores: ClassVar[Mapping[str, Score]]
    needs: ClassVar[frozenset[Need]]
    added: ClassVar[tuple[str, ...]] = ()
    kept: ClassVar[tuple[str, ...]] = ()
    fewest: ClassVar[int] = 2
    refers_to_real: ClassVar[bool] = True
    detector: Spec | None = None
    reference: Spec | None = None
    feature_size: int = 0

    @abstractmethod
    def sums(self, seen: Seen) -> Sums:
        """Return what a batch adds, under the names in ``added`` and ``kept``; sums are float64, counts int64."""

    @abstractmethod
    def compute(self, sums: Sums, real: Statistics) -> dict[str, float]:
        """Return the scores.

        Args:
            sums: of all images, on the CPU.
            real: the real images as the metric's detector sees them.
        """

    def enough(self, fewest: int, size: int) -> tuple[int, str]:
        """Return how many images are enough, and what is doubtful about a score of fewer.

        Args:
            fewest: the number of generated or of real images, whichever is less.
            size: length of the features.
        """
        return 0, ""

    def sizes(self, images: int, size: int) -> dict[str, int]:
        """Return the bytes of those sums that take many.

        Args:
            images: of a block.
            size: length of the features.
        """
        return {}

    @classmethod
    def described(cls) -> dict[str, Score]:
        """Return the scores, each with what it takes."""
        return {name: replace(score, needs=sorted(cls.needs)) for name, score in cls.scores.items()}

    @property
    def title(self) -> str:
        """What sentences call it."""
        return " and ".join(score.title for score in self.scores.values() if not score.is_implied)
