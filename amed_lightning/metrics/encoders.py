"""CLIP's and DINOv2's image encoders as detectors, from a folder that transformers has written, or its id on the hub.

Three ways to their pixels are in use, and scores depend on which it is:

- ``dinov2``: the whole image squeezed to the size of the encoder's crop (224), bicubic with antialiasing, clipped to
  the range of bytes; features are the class token after the last layer's norm (Stein et al. 2023).
- ``clip``: likewise, without clipping, to the encoder's own size; features are the projected embedding of length 1
  (Jayasumana et al. 2024, CMMD).
- ``clip`` with ``crop``: what the folder's own processor does, which is resizing the shorter side, rounding to bytes
  and cropping the centre.

Of square images the last two differ by rounding alone. Mean and deviation of colours are the folder's.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
import torch.nn.functional as F
import transformers
from huggingface_hub import snapshot_download
from jaxtyping import Float
from torch import Tensor, nn

from amed_lightning.config import InputError, digest
from amed_lightning.metrics.detector import Detection
from amed_lightning.runtime.foreign import UNREADABLE, reason, require_bounded
from amed_lightning.runtime.network import FORBIDDEN, is_offline
from amed_lightning.tensors import Bytes, not_finite

AT_ONCE = 64
"""Images; more are no faster."""
_DESCRIPTIONS = ["*.json", "*.txt"]
WEIGHTS = ["model*.safetensors", "pytorch_model*.bin"]
"""Files of weights, the better first; a pickle is read for its tensors alone."""
ADAPTER = "adapter_config.json"
"""Names another model, which transformers would load in its place."""

Features = Float[Tensor, "batch features"]
Prepared = Float[Tensor, "batch 3 rows columns"]
"""Images at the encoder's own size."""


class Encoder(nn.Module, ABC):
    """RGB bytes of any size in, grey ones as RGB with equal channels; features out, no logits.

    Args:
        network: transformers' model.
        processor: of its images.
    """

    num_classes = 0
    image_shape: tuple[int, ...] | None = None

    def __init__(self, network: Any, processor: Any) -> None:
        super().__init__()
        self.network, self.processor = network, processor

    def forward(self, images: Bytes) -> Detection:
        """Detect, in single precision."""
        parts = torch.split(images.expand(-1, 3, -1, -1), AT_ONCE)
        with torch.autocast(images.device.type, enabled=False):
            features = torch.cat([self.embedded(self.prepared(part)) for part in parts])
        return Detection(features, features[:, :0])

    @abstractmethod
    def prepared(self, images: Bytes) -> Prepared:
        """Return what the network takes."""

    @abstractmethod
    def embedded(self, pixels: Prepared) -> Features:
        """Return the features of prepared images."""

    def squeezed(self, images: Bytes) -> Prepared:
        """Resize whole images to the size of the processor's crop; still 0 to 255, and a little beyond."""
        size = self.processor.crop_size
        return F.interpolate(images.float(), (size["height"], size["width"]), mode="bicubic", antialias=True)

    def normalised(self, images: Prepared) -> Prepared:
        """Scale by the processor's mean and deviation of colours."""
        mean, deviation = (
            images.new_tensor(values)[:, None, None] for values in (self.processor.image_mean, self.processor.image_std)
        )
        return (images / 255 - mean) / deviation


class DINOv2(Encoder):
    """The class token after the last norm."""

    def __init__(self, network: Any, processor: Any) -> None:
        super().__init__(network, processor)
        self.feature_size = int(network.config.hidden_size)

    def prepared(self, images: Bytes) -> Prepared:
        """Squeeze and clip."""
        return self.normalised(self.squeezed(images).clip(0, 255))

    def embedded(self, pixels: Prepared) -> Features:
        """Return the class token."""
        return self.network(pixel_values=pixels).pooler_output


class CLIP(Encoder):
    """The projected embedding, of length 1; of texts too.

    Args:
        network: transformers' model.
        processor: of its images.
        tokenizer: of its texts; None where none are asked for.
        crop: prepare images as the processor does.
    """

    def __init__(self, network: Any, processor: Any, tokenizer: Any = None, crop: bool = False) -> None:
        super().__init__(network, processor)
        self.tokenizer, self.crop = tokenizer, crop
        self.feature_size = int(network.config.projection_dim)

    def prepared(self, images: Bytes) -> Prepared:
        """Squeeze, or crop."""
        if not self.crop:
            return self.normalised(self.squeezed(images))
        pixels: Tensor = self.processor(images=list(images), return_tensors="pt")["pixel_values"]
        return pixels.to(images.device)

    def embedded(self, pixels: Prepared) -> Features:
        """Return the embeddings of images."""
        return F.normalize(self.network.get_image_features(pixel_values=pixels).pooler_output)

    def texts(self, prompts: Sequence[str]) -> Features:
        """Return the embeddings of texts; what exceeds the encoder's length is cut off."""
        length = self.network.config.text_config.max_position_embeddings
        tokens = self.tokenizer(list(prompts), padding=True, truncation=True, max_length=length, return_tensors="pt")
        device = next(self.network.parameters()).device
        with torch.autocast(device.type, enabled=False):
            found = self.network.get_text_features(**tokens.to(device)).pooler_output
        return F.normalize(found)


def dinov2(model: str) -> tuple[DINOv2, str]:
    """Load DINOv2, frozen, with a digest of its weights and its way to pixels; see :func:`~.files.dinov2`."""
    folder = _folder(model)
    network, processor = _loaded(transformers.Dinov2Model, folder)
    return DINOv2(network, processor), _digest(network, processor, "squeezed and clipped")


def clip(model: str, crop: bool) -> tuple[CLIP, str]:
    """Load CLIP, frozen, with a digest of its weights and its way to pixels; see :func:`~.files.clip`."""
    folder = _folder(model)
    network, processor = _loaded(transformers.CLIPModel, folder)
    try:
        tokenizer = transformers.CLIPTokenizer.from_pretrained(folder, local_files_only=True) if crop else None
    except UNREADABLE as error:
        raise InputError(f"{folder}: its tokenizer cannot be read ({reason(error)})") from error
    return CLIP(network, processor, tokenizer, crop), _digest(network, processor, "cropped" if crop else "squeezed")


def _folder(model: str) -> Path:
    """Find a model's folder, or fetch it.

    Raises:
        InputError: there is no such folder, and the hub does not give it.
    """
    if Path(model).is_dir():
        return Path(model)
    try:
        for weights in WEIGHTS:
            folder = Path(
                snapshot_download(model, allow_patterns=[*_DESCRIPTIONS, weights], local_files_only=is_offline())
            )
            if any(folder.glob(weights)):
                return folder
    except (OSError, ValueError) as error:
        why = f"{FORBIDDEN} forbids the network" if is_offline() else reason(error)
        raise InputError(
            f"{model}: no such folder, and the hub did not give it ({why}); "
            "download it where there is a network and name its folder"
        ) from error
    raise InputError(f"{model}: the hub has no weights of it, {' or '.join(WEIGHTS)}")


def _loaded(kind: Any, folder: Path) -> tuple[Any, Any]:
    """Load a frozen network and the processor of its images.

    Raises:
        InputError: a file that is missing, damaged or another network's.
    """
    if (folder / ADAPTER).is_file():
        raise InputError(f"{folder / ADAPTER}: names another model, which would be loaded in its place; move it away")
    try:
        for file in (found for pattern in WEIGHTS for found in folder.glob(pattern)):
            require_bounded(file)
        network, report = kind.from_pretrained(
            folder, local_files_only=True, dtype=torch.float32, output_loading_info=True
        )
        processor = transformers.AutoImageProcessor.from_pretrained(folder, local_files_only=True)
    except InputError:
        raise
    except UNREADABLE as error:
        raise InputError(f"{folder}: no {kind.__name__} of transformers ({reason(error)})") from error
    if missing := sorted(report["missing_keys"]):
        raise InputError(f"{folder}: its weights lack {missing[0]}, one of {len(missing)}: another network's")
    if name := not_finite(network.state_dict()):
        raise InputError(f"{folder}: its weights '{name}' have a NaN or an infinity")
    if not getattr(processor, "crop_size", None):
        raise InputError(f"{folder}: its preprocessor_config.json says no crop_size")
    return network.eval().requires_grad_(False), processor


def _digest(network: nn.Module, processor: Any, way: str) -> str:
    weights = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        weights.update(safetensors.torch.save({name: tensor.contiguous()}))
    size = [processor.crop_size["height"], processor.crop_size["width"]]
    colours = [[*processor.image_mean], [*processor.image_std]]
    return digest({"weights": weights.hexdigest(), "size": size, "colours": colours, "way": way})
