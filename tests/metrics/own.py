"""A metric as a user would write it: of pixels, pairs and a detector of its own, with an option."""

import torch

from amed_lightning.metrics.metric import Metric, Score


class Brightness(Metric):
    """How many grey levels the mean pixel lies above ``above``."""

    scores = {"brightness": Score("brightness", "higher", 1)}  # noqa: RUF012
    needs = frozenset({"pixels"})
    added = ("pixel_sum", "pixels")
    refers_to_real = False

    def __init__(self, above: float = 0.0):
        self.above = above

    def sums(self, seen):
        return {"pixel_sum": seen.pixels.double().sum(), "pixels": torch.tensor(seen.pixels.numel())}

    def compute(self, sums, real):
        return {"brightness": float(sums["pixel_sum"] / sums["pixels"]) - self.above}


class Nearness(Metric):
    """How far the digits' features are from those of the real ones, on the mean; with a detector of its own."""

    scores = {"nearness": Score("nearness", "lower", 3)}  # noqa: RUF012
    needs = frozenset({"features"})
    added = ("feature_sum", "count")

    def __init__(self, reference: dict | None = None):
        self.detector, self.reference = {"name": "digits"}, reference

    def sums(self, seen):
        return {"feature_sum": seen.detection.features.double().sum(0), "count": torch.tensor(len(seen.pixels))}

    def compute(self, sums, real):
        return {"nearness": float((sums["feature_sum"] / sums["count"] - real.moments.mean).norm())}


class Captioned(Brightness):
    needs = frozenset({"prompts"})


class Again(Brightness):
    pass


def no_metric():
    return 3
