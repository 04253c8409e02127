r"""Would detectors be quicker in another layout, and would they see the same?

Each network is a copy of the detector's: as it is; with its weights in channels-last; with its batch norms folded into
the convolutions before them; with both. All see the same images in turn, round after round, and a first round that
warms up is dropped. Time is processor time of this process on a CPU, and time on the clock, with the device waited for,
elsewhere; the least of the rounds counts. Beside it stands how far the features are from those of the network as it is,
the most of any, in parts of the largest.

InceptionV3 has random weights, that keep the size of activations, unless it is told where the released ones are.

    python benchmarks/detectors.py --output runs/detectors
"""

import argparse
from collections.abc import Callable, Iterator
from copy import deepcopy
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from meters import write_csv
from streaming import RandomInception, Stopwatch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from amed_lightning.metrics import efficientnet, inception
from amed_lightning.metrics.detector import Detector
from amed_lightning.runtime.allocator import keep_large_blocks
from amed_lightning.runtime.processes import compute_alike
from amed_lightning.tensors import Bytes

Way = Callable[[nn.Module], nn.Module]


def random_inception() -> inception.Inception:
    """Return Inception whose activations keep their size through its depth."""
    torch.manual_seed(0)
    network = RandomInception()
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight)
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)  # type: ignore[union-attr]
            module.running_var.uniform_(0.5, 1.5)  # type: ignore[union-attr]
            module.bias.normal_(0, 0.1)
    return inception.Inception(network)


def channels_last(network: nn.Module) -> nn.Module:
    """Lay a network's weights out with channels last; what it computes follows them."""
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def folded(network: nn.Module) -> nn.Module:
    """Fold each batch norm into the convolution that stands before it."""
    for part in list(network.modules()):
        for (name, first), (after, second) in pairwise(list(part.named_children())):
            if isinstance(first, nn.Conv2d) and isinstance(second, nn.BatchNorm2d):
                setattr(part, name, fuse_conv_bn_eval(first, second))
                setattr(part, after, nn.Identity())
    return network


WAYS: dict[str, Way] = {
    "as it is": lambda network: network,
    "channels-last": channels_last,
    "folded": folded,
    "both": lambda network: channels_last(folded(network)),
}


def seen_at_once(size: int) -> None:
    """Let detectors cut their batches into parts of a size."""
    inception.ON_A_CPU = inception.IMAGES_AT_ONCE = efficientnet.IMAGES_AT_ONCE = size


def smooth_pictures(count: int) -> Bytes:
    """Return colour images of 32 pixels, random blots."""
    blots = 255 * torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    return nn.functional.interpolate(blots, size=32, mode="bilinear").round().to(torch.uint8)


def measure(detector: nn.Module, images: Bytes, rounds: int, device: torch.device) -> Iterator[dict[str, Any]]:
    """Yield a row per way: milliseconds per image, and how far the features are."""
    networks: dict[str, Detector] = {name: way(deepcopy(detector)) for name, way in WAYS.items()}  # type: ignore[misc]
    taken: dict[str, list[float]] = {name: [] for name in WAYS}
    features = {}
    with torch.inference_mode():
        for _ in range(rounds + 1):
            for name, network in networks.items():
                watch = Stopwatch(device)
                with watch.stage(name):
                    features[name] = network(images).features
                taken[name].append(1000 * watch.seconds[name] / len(images))
    plain = features["as it is"]
    for name, times in taken.items():
        far = float((features[name] - plain).abs().max() / plain.abs().max())
        yield {"way": name, "ms": min(times[1:]), "highest_ms": max(times[1:]), "features_differ": far}


def main() -> None:
    """Measure, write the rows, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("runs/detectors"), help="folder of the result")
    parser.add_argument("--sizes", type=int, nargs="+", default=[8, 64], help="images at once")
    parser.add_argument("--rounds", type=int, default=5, help="rounds that count")
    parser.add_argument("--weights", type=Path, help="of Inception; random, if not given")
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"), help="where to compute")
    arguments = parser.parse_args()
    keep_large_blocks()
    compute_alike()
    own = inception.inception(arguments.weights)[0] if arguments.weights else random_inception()
    print(f"{'detector':20}{'at once':>8}  {'way':14}{'ms per image':>18}{'features differ':>17}", flush=True)
    rows = []
    for name, detector in {"InceptionV3": own, "EfficientNet-Lite0": efficientnet.efficientnet_lite0()[0]}.items():
        for size in arguments.sizes:
            seen_at_once(size)
            images = smooth_pictures(size).to(arguments.device)
            for row in measure(detector.to(arguments.device), images, arguments.rounds, arguments.device):
                rows.append({"detector": name, "at_once": size} | row)
                times = f"{row['ms']:.1f} to {row['highest_ms']:.1f}"
                print(f"{name:20}{size:8}  {row['way']:14}{times:>18}{row['features_differ']:17.1e}", flush=True)
    about = {"device": str(arguments.device), "rounds": arguments.rounds, "threads": torch.get_num_threads()}
    about["torch"] = torch.__version__
    write_csv([row | about for row in rows], arguments.output / "detectors.csv")


if __name__ == "__main__":
    main()
