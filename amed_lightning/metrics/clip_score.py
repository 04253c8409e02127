r"""CLIP score (Hessel et al. 2021, arXiv 2104.08718): how well images fit their prompts.

``100`` times the mean cosine between CLIP's embeddings of an image and of its prompt. The paper clips each cosine at 0
and multiplies by 2.5; published tables of text-to-image models print this form.
"""

from typing import ClassVar

from amed_lightning.metrics.detector import TextDetector
from amed_lightning.metrics.metric import Metric, Score, Seen, Sums
from amed_lightning.metrics.statistics import Statistics

SCALE = 100.0


class CLIPScore(Metric):
    """The score.

    Args:
        model: CLIP, a folder of transformers or its id on the hub; scores of two models are not comparable.
    """

    scores: ClassVar = {"clip_score": Score("CLIP score", "higher", 2)}
    needs = frozenset({"features", "prompts"})
    added = ("cosine_sum", "count")
    refers_to_real = False

    def __init__(self, model: str = "openai/clip-vit-large-patch14") -> None:
        self.detector = {"name": "clip", "model": model, "crop": True}

    def sums(self, seen: Seen) -> Sums:
        """Add up the cosines."""
        assert isinstance(seen.detector, TextDetector)
        texts = seen.detector.texts(seen.prompts)
        cosines = (seen.detection.features.double() * texts.double()).sum(1)
        return {"cosine_sum": cosines.sum(), "count": seen.numbers.new_full((), len(cosines))}

    def compute(self, sums: Sums, real: Statistics) -> dict[str, float]:
        """Return the mean."""
        return {"clip_score": SCALE * float(sums["cosine_sum"]) / int(sums["count"])}
