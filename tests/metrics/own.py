"""A metric as a user would write it: of pixels, pairs and a detector of its own, with an option."""

from pathlib import Path

import torch

from amed_lightning.metrics.detector import Detection
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


class Counted(Brightness):
    """The same, with a sum whose name is that of the package's count of images."""

    added = ("pixel_sum", "count")

    def sums(self, seen):
        return {"pixel_sum": seen.pixels.double().sum(), "count": torch.tensor(seen.pixels.numel())}

    def compute(self, sums, real):
        return {"brightness": float(sums["pixel_sum"] / sums["count"])}


class FromFile(Brightness):
    """The level comes from a file; it may be called as the package's files of weights are."""

    def __init__(self, path: str):
        super().__init__(above=float(Path(path).read_text()))


class Kept(Nearness):
    """The detector is the class's own, and no option."""

    detector = {"name": "digits"}  # noqa: RUF012

    def __init__(self):
        self.reference = None


class Captioned(Brightness):
    needs = frozenset({"prompts"})


class Again(Brightness):
    pass


class Moments:
    """A detector of any images: their mean and deviation."""

    feature_size, num_classes, image_shape = 2, 0, None

    def __call__(self, images):
        grey = images.float()
        return Detection(torch.stack([grey.mean((1, 2, 3)), grey.std((1, 2, 3))], 1), grey[:, 0, 0, :0])


def moments():
    return Moments(), "moments"


class OfAnything(Nearness):
    """Nearness by a detector of any images."""

    def __init__(self, reference: dict):
        self.detector, self.reference = {"name": "tests.metrics.own.moments"}, reference


def no_metric():
    return 3
