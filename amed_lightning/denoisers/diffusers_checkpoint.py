"""Original checkpoints of latent diffusion and Stable Diffusion: one file with the weights of all parts.

Their names become diffusers' by its own conversion; what that lacks is LDM's unconditional U-Net and vector-quantised
autoencoder. The configurations come from a folder in diffusers' layout, in which no weights are needed.

Tensors do not tell what the network predicts, at which levels it was trained, or how latents were scaled: the folder
does. Where a file tells after all, by the buffers that CompVis' and Stability's code saves, by the empty tensors
``v_pred`` and ``ztsnr`` or by its metadata, the folder must agree. Of weights and their averages the averages are read,
where both are there; whether the only ones are averages, no file says.
"""

from collections.abc import Callable, Collection
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NoReturn, TypeAlias

import diffusers
import safetensors
import torch
from diffusers.loaders import single_file_utils as single_file
from torch import Tensor, nn

from amed_lightning.config import InputError
from amed_lightning.denoisers.diffusers_files import find_folder
from amed_lightning.denoisers.diffusers_folder import Folder
from amed_lightning.denoisers.diffusers_scheduler import Training
from amed_lightning.runtime.foreign import UNREADABLE, Named, read_safetensors, read_torch, reason

StateDict: TypeAlias = dict[str, Tensor]


ELSEWHERE = {
    "ztsnr": "a training whose last level had no signal (zero terminal SNR)",
    "edm_mean": "a model of EDM's form",
    "edm_vpred.sigma_max": "a model of EDM's form",
}
"""Tensors by which tools mark a file."""
TOLERANCE = (2e-3, 2e-3)
"""Relative and absolute, of buffers that were saved in half precision."""


class _Inert:
    """Stands for a class that a checkpoint names beside its tensors."""


AUTOENCODER = "first_stage_model."
NAMED: Named = [(_Inert, "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint")]
"""CompVis' checkpoints are Lightning's, which keep the states of callbacks under their classes."""


def open_model(path: str, config: str | None, variant: str | None) -> Folder:
    """Find a model.

    Args:
        path: a folder in diffusers' layout, its id on the hub (``owner/name``), or an original checkpoint.
        config: for a checkpoint, a folder with the configurations of its parts, or its id on the hub.
        variant: of a folder's weights.

    Raises:
        InputError: there is no such folder or file, the hub does not give it, or an option is the other kind's.
    """
    if not Path(path).is_file():
        if config is not None:
            raise InputError(f"{path}: `config` is for a checkpoint in one file; a folder has its own configurations")
        return Folder(find_folder(path, weights=True, variant=variant), variant)
    if variant is not None:
        raise InputError(f"{path}: `variant` is for a folder; a checkpoint in one file has the weights that it has")
    if config is None:
        raise InputError(f"{path}: a checkpoint needs `config`, a folder (or hub id) with its parts' configurations")
    return _SingleFile(Path(path), find_folder(config, weights=False))


class _SingleFile(Folder):
    """An original checkpoint.

    Args:
        file: with the weights.
        path: of a folder with the configurations.
    """

    def __init__(self, file: Path, path: Path) -> None:
        super().__init__(path)
        self.file = file

    @cached_property
    def checkpoint(self) -> StateDict:
        """Read the file's tensors.

        Raises:
            InputError: the file is damaged, or more than tensors.
        """
        try:
            if self.file.suffix == ".safetensors":
                return read_safetensors(self.file)
            content = read_torch(self.file, NAMED)
            return dict(content.get("state_dict", content))
        except InputError:
            raise
        except UNREADABLE as error:
            raise InputError(f"{self.file}: not a checkpoint of tensors alone: {reason(error)}") from error

    def training(self) -> Training:
        """Return what the folder's scheduler tells of the training.

        Raises:
            InputError: the file tells something else.
        """
        training = super().training()
        for name, meaning in ELSEWHERE.items():
            if name in self.checkpoint:
                raise InputError(f"{self.file}: its tensor {name} marks {meaning}, which is not sampled here")
        name, said = "scheduler/scheduler_config.json", self._prediction()
        if said not in (None, training.prediction):
            self._disagree(name, "prediction_type", training.prediction, said)
        alphas, ours = self._alphas(), (2 * torch.tensor(training.log_alphas)).exp()
        if alphas is not None and not (alphas.shape == ours.shape and alphas.allclose(ours, *TOLERANCE)):
            self._disagree(name, "table of cumulative alphas", _shortened(ours), _shortened(alphas))
        return training

    def scaling(self, part: str, otherwise: Any) -> Any:
        """Return what an autoencoder's latents were multiplied with.

        Raises:
            InputError: the file tells something else than the folder.
        """
        scaling = super().scaling(part, otherwise)
        said = self.checkpoint.get("scale_factor")
        if said is not None and not said.float().allclose(torch.tensor(float(scaling)), *TOLERANCE):
            self._disagree(f"{part}/config.json", "scaling_factor", scaling, f"{float(said):.6g}")
        return scaling

    def _alphas(self) -> Tensor | None:
        """Return the cumulative alphas of CompVis' buffer or those of Stability's levels, if there are any."""
        if "denoiser.sigmas" in self.checkpoint:
            return 1 / (1 + self.checkpoint["denoiser.sigmas"].float().sort().values.square())
        alphas = self.checkpoint.get("alphas_cumprod")
        return None if alphas is None else alphas.float()

    def _prediction(self) -> str | None:
        """Return what the file says of the prediction: by a tensor's name, or by its metadata (ModelSpec)."""
        if "v_pred" in self.checkpoint:
            return "v_prediction"
        if self.file.suffix != ".safetensors":
            return None
        with safetensors.safe_open(self.file, "pt") as file:
            said = (file.metadata() or {}).get("modelspec.prediction_type")
        return "v_prediction" if said == "v" else said

    def _disagree(self, name: str, key: str, ours: object, said: object) -> NoReturn:
        raise InputError(
            f"{self.path / name}: its {key} is {ours}, but {self.file} says {said}; take a fitting `config`"
        )

    def _bytes(self, part: str) -> int:
        return self.file.stat().st_size

    def _load(self, part: str, part_class: Any) -> tuple[nn.Module, list[str], list[str]]:
        if issubclass(part_class, diffusers.ModelMixin):
            module: nn.Module = part_class.from_config(self.config(f"{part}/config.json"))
        else:
            module = part_class(part_class.config_class.from_pretrained(self.path / part, local_files_only=True))
        weights = CONVERSIONS[part_class.__name__](self.checkpoint, module)
        missing, unexpected = module.load_state_dict(weights, strict=False)
        return module, missing, unexpected


def _shortened(table: Tensor) -> str:
    return f"{float(table[0]):.5g} ... {float(table[-1]):.5g} ({len(table)})"


def _with_unknown(converted: StateDict, checkpoint: StateDict, prefix: str) -> StateDict:
    """Keep what the conversion has dropped, under names that no module has: a network that had more was another one.

    Args:
        converted: a part's tensors, which are the checkpoint's or views of them.
        checkpoint: all tensors.
        prefix: of the part's own.
    """
    placed = {tensor.data_ptr() for tensor in converted.values()}
    own = {name: (tensor, checkpoint.get(_averaged(name), tensor)) for name, tensor in checkpoint.items()}
    return converted | {
        name: tensors[0]
        for name, tensors in own.items()
        if name.startswith(prefix) and not any(tensor.data_ptr() in placed for tensor in tensors)
    }


def _averaged(name: str) -> str:
    """Return the name of a U-Net's averaged tensor."""
    return "model_ema." + name.removeprefix("model.").replace(".", "")


def _unet(checkpoint: StateDict, module: Any) -> StateDict:
    """Take the averaged weights where there are any, as the published samplers do."""
    converted = single_file.convert_ldm_unet_checkpoint(checkpoint, module.config, extract_ema=True)
    there = {name: tensor for name, tensor in converted.items() if tensor is not None}  # not every one has an average
    return _with_unknown(there, checkpoint, "model.diffusion_model.")


def _unconditional_unet(checkpoint: StateDict, module: Any) -> StateDict:
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


def _autoencoder(checkpoint: StateDict, module: Any, kept: Collection[str] = ()) -> StateDict:
    converted = single_file.convert_ldm_vae_checkpoint(checkpoint, module.config)
    converted |= {name: checkpoint[AUTOENCODER + name] for name in kept}
    used = {name: tensor for name, tensor in checkpoint.items() if not name.startswith(f"{AUTOENCODER}loss.")}
    return _with_unknown(converted, used, AUTOENCODER)


def _text_encoder(checkpoint: StateDict, module: Any, open_clip: str) -> StateDict:
    """Convert a text encoder of CLIP's layout, or of OpenCLIP's, which has a prefix of its own."""
    if any(name.startswith(open_clip) for name in checkpoint):
        converted = single_file.convert_open_clip_checkpoint(module, checkpoint, prefix=open_clip)
    else:
        converted = single_file.convert_ldm_clip_checkpoint(checkpoint)
    prefix = "" if hasattr(module, "text_model") else "text_model."
    return {name.removeprefix(prefix): tensor for name, tensor in converted.items()}


CONVERSIONS: dict[str, Callable[[StateDict, Any], StateDict]] = {
    "UNet2DConditionModel": _unet,
    "UNet2DModel": _unconditional_unet,
    "AutoencoderKL": _autoencoder,
    "VQModel": partial(_autoencoder, kept=["quantize.embedding.weight"]),
    "CLIPTextModel": partial(_text_encoder, open_clip="cond_stage_model.model."),
    "CLIPTextModelWithProjection": partial(_text_encoder, open_clip="conditioner.embedders.1.model."),
}
"""From an original checkpoint to a part's tensors."""
