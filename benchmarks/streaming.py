"""What PNG files between sampler and detector cost: time of every stage of scoring, without them and with them.

Streaming hands images from sampler to detector as they are; the published way writes a PNG file for each and reads
them all again. Both run in one process, with everything loaded, in turn, round after round; a first round that warms
up is dropped. Time is processor time of this process on a CPU, and time on the clock, with the device waited for,
elsewhere. A stage's time is the lowest of its rounds, because a busy machine only ever adds to it; the ratio is that
of the two ways' sums over stages, and the ratios of single rounds stand beside it. Both ways must give the same
scores, digit for digit. The matrix root is taken once for a cell, not for an image, and is not part of the ratio.

Two cases: the digits (8 pixels, the shipped model and classifier), and colour images of 256 pixels, seen by
InceptionV3 with random weights. For the latter the sampler is an exact Gaussian around one smooth picture, whose
network runs cost nearly nothing: with a real network the time saved per image is the same and the ratio is smaller.

    python benchmarks/streaming.py --output runs/streaming
"""

import argparse
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from meters import now, write_csv
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

from amed_lightning.data.folder import image_files
from amed_lightning.data.picture import write_image
from amed_lightning.denoisers.gaussian import GaussianMixture, exact_model
from amed_lightning.denoisers.registry import digits
from amed_lightning.flow.model import DiffusionModel
from amed_lightning.metrics.detector import Detection, Detector
from amed_lightning.metrics.files import digits_classifier
from amed_lightning.metrics.frechet import Moments, feature_sums
from amed_lightning.metrics.inception import Inception
from amed_lightning.metrics.scores import USUAL, GenerationScores, Measure, metrics_of
from amed_lightning.metrics.statistics import Statistics
from amed_lightning.runtime.processes import compute_alike
from amed_lightning.sampling.config import SamplerConfig
from amed_lightning.sampling.parts import build_sampler
from amed_lightning.sampling.sampler import sample_seeds
from amed_lightning.seeds import Seeds, Stream
from amed_lightning.tensors import Images, quantise

STAGES = ("sampling", "quantising", "PNG write", "PNG read", "detector", "sums")
SOLVER, SCHEDULE, INTERVALS = {"name": "ipndm", "order": 3}, {"name": "time_uniform"}, 5


class RandomInception(FeatureExtractorInceptionV3):
    """InceptionV3 with the weights that it starts from; its time does not depend on them."""

    def __init__(self) -> None:
        nothing = BytesIO()
        torch.save({}, nothing)
        nothing.seek(0)
        super().__init__("random", ["2048", "logits_unbiased"], nothing)

    def load_state_dict(self, *arguments: Any, **options: Any) -> None:
        """Load nothing."""


@dataclass(frozen=True)
class Case:
    """What is scored.

    Attributes:
        name: of the row.
        model: makes the images.
        detector: looks at them.
        count: number of images.
        batch_size: images at a time.
    """

    name: str
    model: DiffusionModel
    detector: Detector
    count: int
    batch_size: int


class Stopwatch:
    """Seconds by stage, on a device that may lag behind."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the seconds spent inside to a stage."""
        started = now(self.device)
        yield
        self.seconds[name] += now(self.device) - started


class Timed:
    """A detector whose seconds are a stage of their own, and none of the sums'."""

    def __init__(self, detector: Detector, watch: Stopwatch) -> None:
        self.detector, self.watch = detector, watch
        self.feature_size, self.num_classes = detector.feature_size, detector.num_classes
        self.image_shape = detector.image_shape

    def __call__(self, images: torch.Tensor) -> Detection:
        """Detect."""
        before = self.watch.seconds["detector"]
        with self.watch.stage("detector"):
            answer = self.detector(images)
        self.watch.seconds["sums"] -= self.watch.seconds["detector"] - before
        return answer


def samples(case: Case, watch: Stopwatch) -> Iterator[Images]:
    """Yield the images, and time their making."""
    config = SamplerConfig({"name": case.name}, SOLVER, SCHEDULE, INTERVALS)
    sampler = build_sampler(config, case.model).to(watch.device)
    states = sample_seeds(sampler, Seeds(Stream.evaluation, 0, case.count), case.batch_size, watch.device)
    for _ in range(0, case.count, case.batch_size):
        with watch.stage("sampling"):
            images = case.model.decode(next(states).x)
        yield images


def streamed(case: Case, scores: GenerationScores, watch: Stopwatch) -> None:
    """Score images as they come."""
    done = 0
    for images in samples(case, watch):
        with watch.stage("quantising"):
            batch = quantise(images)
        look(scores, watch, batch, done)
        done += len(batch)


def through_files(case: Case, scores: GenerationScores, watch: Stopwatch) -> None:
    """Write every image, then read and score them."""
    with tempfile.TemporaryDirectory() as folder:
        done = 0
        for images in samples(case, watch):
            with watch.stage("quantising"):
                batch = quantise(images)
            with watch.stage("PNG write"):
                for number, image in enumerate(batch.cpu(), start=done):
                    write_image(Path(folder) / f"{number:06d}.png", image)
            done += len(batch)
        files = image_files(Path(folder)).batches(case.batch_size)
        for start in range(0, case.count, case.batch_size):
            with watch.stage("PNG read"):
                batch = next(files)[0].to(watch.device)
            look(scores, watch, batch, start)


def look(scores: GenerationScores, watch: Stopwatch, batch: torch.Tensor, start: int) -> None:
    """Show a batch to the detector and add what it saw."""
    with watch.stage("sums"):
        scores.update(batch, torch.arange(start, start + len(batch)))


WAYS: dict[str, Callable[[Case, GenerationScores, Stopwatch], None]] = {
    "streaming": streamed,
    "PNG files": through_files,
}


def some_reference(size: int) -> Statistics:
    """Return moments of full rank whose matrix root costs what a real one's does, with that root taken."""
    features = torch.randn(2 * size, size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    moments = Moments.from_sums(2 * size, *feature_sums(features))
    moments.root  # noqa: B018  it is kept, and taken once however many cells follow
    return Statistics(moments, "noise")


def run(case: Case, way: str, reference: Statistics, device: torch.device) -> tuple[dict[str, float], dict[str, float]]:
    """Score a case one way; return its scores and the seconds of each stage."""
    watch = Stopwatch(device)
    detector = Timed(case.detector, watch)
    measures = [Measure(metric, detector, reference) for metric in metrics_of(USUAL).values()]
    scores = GenerationScores(measures, case.count)
    with torch.inference_mode():
        WAYS[way](case, scores, watch)
    with watch.stage("matrix root"):
        values = scores.compute()
    return values, watch.seconds


def measure(case: Case, rounds: int, device: torch.device) -> list[dict[str, Any]]:
    """Return a row for each way: milliseconds per image by stage, and the ratio of their sum to streaming's."""
    reference = some_reference(case.detector.feature_size)
    taken: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    for _ in range(rounds + 1):
        found = {way: run(case, way, reference, device) for way in WAYS}
        if found["streaming"][0] != found["PNG files"][0]:
            raise RuntimeError(f"{case.name}: the two ways differ in their scores")
        for way, (_, seconds) in found.items():
            taken[way].append(seconds)
    return list(rows_of(case, {way: each[1:] for way, each in taken.items()}))


def rows_of(case: Case, taken: dict[str, list[dict[str, float]]]) -> Iterator[dict[str, Any]]:
    """Yield the row of each way from the seconds of its rounds."""

    def whole(seconds: dict[str, float]) -> float:
        return sum(seconds.get(name, 0.0) for name in STAGES)

    lowest = {way: {name: min(each[name] for each in rounds) for name in rounds[0]} for way, rounds in taken.items()}
    for way, rounds in taken.items():
        ratios = [whole(one) / whole(other) for one, other in zip(rounds, taken["streaming"], strict=True)]
        yield {
            "case": case.name,
            "way": way,
            **{f"{name}_ms": 1000 * lowest[way].get(name, 0.0) / case.count for name in STAGES},
            "all_ms": 1000 * whole(lowest[way]) / case.count,
            "ratio": whole(lowest[way]) / whole(lowest["streaming"]),
            "ratio_lowest": min(ratios),
            "ratio_highest": max(ratios),
            "matrix_root_seconds": lowest[way]["matrix root"],
            "images": case.count,
            "rounds": len(rounds),
        }


def cases(images: int, large_images: int) -> Iterator[Case]:
    """Yield the two cases."""
    yield Case("digits, 8 px", digits(), digits_classifier()[0], images, 256)
    blots = 0.5 * torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    mean = torch.nn.functional.interpolate(blots, size=256, mode="bicubic")
    large = exact_model(GaussianMixture(torch.ones(1), mean, torch.full_like(mean, 0.02**2)))
    yield Case("Gaussian, 256 px", large, Inception(RandomInception()), large_images, 16)


def main() -> None:
    """Measure, write the rows, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("runs/streaming"), help="folder of the result")
    parser.add_argument("--images", type=int, default=1024, help="digits per round, at least 65")
    parser.add_argument("--large_images", type=int, default=32, help="images of 256 pixels per round")
    parser.add_argument("--rounds", type=int, default=5, help="rounds that count")
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"), help="where to compute")
    arguments = parser.parse_args()
    compute_alike()
    rows = []
    for case in cases(arguments.images, arguments.large_images):
        if isinstance(case.detector, torch.nn.Module):
            case.detector.to(arguments.device)
        rows += measure(case, arguments.rounds, arguments.device)
    about = {"device": str(arguments.device), "threads": torch.get_num_threads(), "torch": torch.__version__}
    write_csv([row | about for row in rows], arguments.output / "streaming.csv")
    print("milliseconds per image, the lowest of the rounds; seconds of the matrix root per cell")
    print(f"{'case':18}{'way':10}{''.join(f'{name:>11}' for name in (*STAGES, 'all'))}  ratio (of rounds){'root':>10}")
    for row in rows:
        times = "".join(f"{row[f'{name}_ms']:11.3f}" for name in (*STAGES, "all"))
        ratio = f"{row['ratio']:.3f} ({row['ratio_lowest']:.2f}-{row['ratio_highest']:.2f})"
        print(f"{row['case']:18}{row['way']:10}{times}  {ratio}{row['matrix_root_seconds']:11.3f}")


if __name__ == "__main__":
    main()
