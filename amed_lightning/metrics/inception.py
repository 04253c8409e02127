"""The detector of published FIDs: InceptionV3 of 2015 in torch-fidelity's port (``inception-v3-compat``).

Images are resized to 299 pixels as TensorFlow 1 does it, bilinearly, without antialiasing and without half-pixel
centres; published figures rest on that resize. Features are the pooled 2,048 before the last layer, or an earlier
tap, averaged over positions; logits are those of the last layer without its bias, over 1,008 classes. Convolutions are
deterministic and without TensorFloat-32, whatever the rest of the program allows.
"""

from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3, FeatureExtractorInceptionV3

from amed_lightning.config import InputError, digest, file_digest
from amed_lightning.metrics.detector import Detection, Detector
from amed_lightning.runtime.cache import cache_folder, check, fetch
from amed_lightning.runtime.download import RemoteFile
from amed_lightning.runtime.foreign import UNREADABLE, read_torch
from amed_lightning.tensors import Bytes, not_finite

RELEASE = RemoteFile(
    "weights-inception-2015-12-05-6726825d.pth",
    (URL_INCEPTION_V3,),
    "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
)
RESIZE = "bilinear to 299 as TensorFlow 1"
NUM_CLASSES = 1008
IMAGES_AT_ONCE, ON_A_CPU = 64, 8
"""More of them take gigabytes at 299 pixels and are no faster; on a CPU, memory for 64 costs a third of the time."""


SPATIAL_CHANNELS, SPATIAL_POSITIONS = 7, 17 * 17
"""Of sFID's features: the first channels of the graph's ``mixed_6/conv``, which is the 1x1 branch of ``Mixed_6d``."""


class Inception(nn.Module):
    """RGB bytes of any size in, grey ones as RGB with equal channels; features of a tap and logits out.

    Args:
        network: torch-fidelity's, asked for the tap and, unless the network is to stop there, for the logits.
    """

    image_shape: tuple[int, ...] | None = None

    def __init__(self, network: FeatureExtractorInceptionV3) -> None:
        super().__init__()
        self.network = network
        self.feature_size = int(network.features_list[0])
        self.num_classes = NUM_CLASSES if len(network.features_list) > 1 else 0

    def forward(self, images: Bytes) -> Detection:
        """Detect."""
        parts = torch.split(images.expand(-1, 3, -1, -1), ON_A_CPU if images.device.type == "cpu" else IMAGES_AT_ONCE)
        with torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
            features, logits = zip(*map(self._detect, parts), strict=True)
        return Detection(torch.cat(features), torch.cat(logits))

    def _detect(self, images: Bytes) -> tuple[Float[Tensor, "batch features"], Float[Tensor, "batch classes"]]:
        features, *logits = self.network(images)
        return features, logits[0] if logits else features[:, :0]


class SpatialInception(Inception):
    """Features at positions, row by row and channel by channel at each, as sFID's evaluator has them; no logits.

    Args:
        network: torch-fidelity's, asked for a tap behind that layer.
    """

    def __init__(self, network: FeatureExtractorInceptionV3) -> None:
        super().__init__(network)
        self.feature_size, self.num_classes = SPATIAL_CHANNELS * SPATIAL_POSITIONS, 0

    def _detect(self, images: Bytes) -> tuple[Float[Tensor, "batch features"], Float[Tensor, "batch classes"]]:
        found: list[Tensor] = []
        hook = self.network.Mixed_6d.branch1x1.register_forward_hook(lambda *call: found.append(call[-1]))
        try:
            self.network(images)
        finally:
            hook.remove()
        features = found[0][:, :SPATIAL_CHANNELS].permute(0, 2, 3, 1).flatten(1)
        return features, features[:, :0]


def inception(
    path: Path | None = None,
    tap: Literal[64, 192, 768, 2048, "spatial"] = 2048,
    logits: bool = True,
    sha256: str | None = None,
) -> tuple[Detector, str]:
    """Load InceptionV3, frozen, with a digest of its weights, tap and resize.

    Args:
        path: of the weights; None for torch-fidelity's release, which is fetched if it is not in the cache.
        tap: where the features are taken, their number; or those of sFID.
        logits: run the network to its end, which IS needs. Without, an early tap is several times faster.
        sha256: of the weights at ``path``; None to expect what they had when they were first used.

    Raises:
        InputError: weights that are missing, damaged or another network's, or cannot be fetched.
    """
    file = fetch(RELEASE, cache_folder() / "detectors") if path is None else _checked(Path(path), sha256)
    kind, taps = Inception, [str(tap), *(["logits_unbiased"] if logits else [])]
    if tap == "spatial":
        kind, taps = SpatialInception, ["768"]
    network = kind(_network(file, taps))
    return network, digest({"weights": file_digest(file), "tap": tap, "resize": RESIZE})


def _checked(file: Path, sha256: str | None) -> Path:
    """Compare a user's file with its digest; one that is called like the release must be it."""
    if not file.is_file():
        raise InputError(f"{file}: no such file")
    try:
        check(replace(RELEASE, sha256=sha256 or (RELEASE.sha256 if file.name == RELEASE.name else None)), file)
    except OSError as error:
        raise InputError(
            f"{file}: its SHA-256 cannot be kept beside it ({error.strerror}); give it as the option sha256"
        ) from error
    return file


def _network(file: Path, features: list[str]) -> FeatureExtractorInceptionV3:
    """Build torch-fidelity's network; it reads weights from a file and unpickles freely, so it is handed a copy."""
    try:
        state = read_torch(file)
        if name := not_finite(state):
            raise RuntimeError(f"'{name}' has a NaN or an infinity")
        copy = BytesIO()
        torch.save(state, copy)
        copy.seek(0)
        return FeatureExtractorInceptionV3("inception-v3-compat", features, copy)
    except InputError:
        raise
    except UNREADABLE as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{file}: not the weights of torch-fidelity's InceptionV3 ({reason})") from error
