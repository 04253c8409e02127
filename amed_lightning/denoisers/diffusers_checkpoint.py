"""Original checkpoints of latent diffusion and Stable Diffusion: one file with the weights of all parts.

Their names become diffusers' by its own conversion; what that lacks is LDM's unconditional U-Net and vector-quantised
autoencoder. The configurations come from a folder in diffusers' layout, in which no weights are needed.
"""

import zipfile
from collections.abc import Callable
from functools import cached_property, partial
from pathlib import Path
from typing import Any, TypeAlias

import diffusers
import safetensors.torch
import torch
from diffusers.loaders import single_file_utils as single_file
from torch import Tensor, nn

from amed_lightning.config import InputError
from amed_lightning.denoisers.diffusers_folder import UNREADABLE, Folder, find_folder, reason

Weights: TypeAlias = dict[str, Tensor]


class Inert:
    """Stands for a class that a checkpoint names beside its tensors."""


NAMED: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
    (Inert, "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint")
]
"""CompVis' checkpoints are Lightning's, which keep the states of callbacks under their classes."""


def open_model(path: str, config: str | None) -> Folder:
    """Find a model.

    Args:
        path: a folder in diffusers' layout, its id on the hub (``owner/name``), or an original checkpoint.
        config: for a checkpoint, a folder with the configurations of its parts, or its id on the hub.

    Raises:
        InputError: there is no such folder or file, and the hub does not give it.
    """
    if not Path(path).is_file():
        return Folder(find_folder(path, weights=True))
    if config is None:
        raise InputError(f"{path}: a checkpoint needs `config`, a folder (or hub id) with its parts' configurations")
    return SingleFile(Path(path), find_folder(config, weights=False))


class SingleFile(Folder):
    """An original checkpoint.

    Args:
        file: with the weights.
        path: of a folder with the configurations.
    """

    def __init__(self, file: Path, path: Path) -> None:
        super().__init__(path)
        self.file = file

    @cached_property
    def checkpoint(self) -> Weights:
        """Read the file's tensors.

        Raises:
            InputError: the file is damaged, or more than tensors.
        """
        try:
            if self.file.suffix == ".safetensors":
                return safetensors.torch.load_file(self.file)
            zipped = zipfile.is_zipfile(self.file)
            with torch.serialization.safe_globals(NAMED):
                content = torch.load(self.file, map_location="cpu", weights_only=True, mmap=zipped)
            return dict(content.get("state_dict", content))
        except UNREADABLE as error:
            raise InputError(f"{self.file}: not a checkpoint of tensors alone: {reason(error)}") from error

    def _load(self, part: str, part_class: Any) -> tuple[nn.Module, list[str], list[str]]:
        if issubclass(part_class, diffusers.ModelMixin):
            module: nn.Module = part_class.from_config(self.config(f"{part}/config.json"))
        else:
            module = part_class(part_class.config_class.from_pretrained(self.path / part))
        weights = CONVERSIONS[part_class.__name__](self.checkpoint, module)
        missing, unexpected = module.load_state_dict(weights, strict=False)
        return module, missing, unexpected


def _unet(checkpoint: Weights, module: Any) -> Weights:
    """Take the averaged weights where there are any, as the published samplers do."""
    return single_file.convert_ldm_unet_checkpoint(checkpoint, module.config, extract_ema=True)


def _unconditional_unet(checkpoint: Weights, module: Any) -> Weights:
    """Convert LDM's U-Net, whose attention has one convolution for queries, keys and values, head by head."""
    converted = {}
    for name, tensor in _unet(checkpoint, module).items():
        layer, _, kind = name.rpartition(".")
        if ".attentions." not in name:
            converted[name] = tensor
        elif layer.endswith(".qkv"):
            channels = len(tensor) // 3
            heads = channels // (module.config.attention_head_dim or channels)
            by_head = torch.unflatten(tensor.squeeze(-1), 0, (heads, 3, -1))
            for letter, part in zip("qkv", by_head.unbind(1), strict=True):
                converted[f"{layer[:-3]}to_{letter}.{kind}"] = part.flatten(0, 1)
        else:
            place = name.replace(".norm.", ".group_norm.").replace(".proj_out.", ".to_out.0.")
            converted[place] = tensor.squeeze(-1) if tensor.ndim == 3 else tensor
    return converted


def _autoencoder(checkpoint: Weights, module: Any) -> Weights:
    return single_file.convert_ldm_vae_checkpoint(checkpoint, module.config)


def _vector_quantised(checkpoint: Weights, module: Any) -> Weights:
    codebook = "quantize.embedding.weight"
    return _autoencoder(checkpoint, module) | {codebook: checkpoint[f"first_stage_model.{codebook}"]}


def _text_encoder(checkpoint: Weights, module: Any, open_clip: str) -> Weights:
    """Convert a text encoder of CLIP's layout, or of OpenCLIP's, which has a prefix of its own."""
    if any(name.startswith(open_clip) for name in checkpoint):
        converted = single_file.convert_open_clip_checkpoint(module, checkpoint, prefix=open_clip)
    else:
        converted = single_file.convert_ldm_clip_checkpoint(checkpoint)
    prefix = "" if hasattr(module, "text_model") else "text_model."
    return {name.removeprefix(prefix): tensor for name, tensor in converted.items()}


CONVERSIONS: dict[str, Callable[[Weights, Any], Weights]] = {
    "UNet2DConditionModel": _unet,
    "UNet2DModel": _unconditional_unet,
    "AutoencoderKL": _autoencoder,
    "VQModel": _vector_quantised,
    "CLIPTextModel": partial(_text_encoder, open_clip="cond_stage_model.model."),
    "CLIPTextModelWithProjection": partial(_text_encoder, open_clip="conditioner.embedders.1.model."),
}
"""From an original checkpoint to a part's tensors."""
