"""A model in diffusers' layout: a folder with one folder per part, each with its configuration and weights.

The parts are ``unet``, ``scheduler``, ``vae`` or ``vqvae``, ``text_encoder``, ``tokenizer``, and a second of the last
two for SDXL. Of a pickle only tensors are read, and every tensor of a part must be there, and no other. This module and
the one of original checkpoints are the only ones that import diffusers and transformers, which takes seconds.
"""

import hashlib
import json
import re
import textwrap
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, get_args

import diffusers
import safetensors.torch
import transformers
from huggingface_hub import snapshot_download
from torch import nn

from amed_lightning.config import InputError, digest
from amed_lightning.denoisers.discrete import Prediction

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
CONFIGURATIONS = ["*.json", "*.txt", "*/*.json", "*/*.txt"]
WEIGHTS = ["*/diffusion_pytorch_model.safetensors", "*/model.safetensors", "*/*-of-*.safetensors"]
UNREADABLE = (
    *(AttributeError, EOFError, KeyError, OSError, RuntimeError, TypeError, ValueError),
    *(UnpicklingError, safetensors.SafetensorError),
)
"""What the libraries raise for files that are missing, damaged or of something else."""

transformers.utils.logging.disable_progress_bar()


class Folder:
    """A model in diffusers' layout.

    Args:
        path: of the folder.

    Attributes:
        read: a digest of every part that has been read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.read: dict[str, str] = {}

    def config(self, name: str) -> dict[str, Any]:
        """Read one of the JSON files.

        Raises:
            InputError: it is missing, or holds no mapping.
        """
        path = self.path / name
        try:
            return {**json.loads(path.read_text())}
        except FileNotFoundError:
            raise InputError(f"{path}: no such file; a model in diffusers' layout has one") from None
        except (OSError, TypeError, ValueError) as error:
            raise InputError(f"{path}: not a configuration: {error}") from error

    def module(self, part: str, class_name: str) -> Any:
        """Load a part, frozen, in single precision.

        Raises:
            InputError: the part is of another class, or its weights are missing, damaged, or more than tensors.
        """
        config = self.config(f"{part}/config.json")
        named = config.get("_class_name") or "".join(config.get("architectures") or [class_name])
        if named != class_name:
            raise InputError(f"{self.path / part}: holds a {named} where a {class_name} is needed")
        library = diffusers if hasattr(diffusers, class_name) else transformers
        try:
            module, missing, unexpected = self._load(part, getattr(library, class_name))
        except UNREADABLE as error:
            raise InputError(f"{self.path / part}: cannot be loaded: {reason(error)}") from error
        _require(self.path / part, "lacks", missing)
        _require(self.path / part, "has the unknown", unexpected)
        architecture = {k: v for k, v in config.items() if not k.startswith("_") and k != "transformers_version"}
        self.read[part] = digest([architecture, _weights_digest(module.float())])
        return module.eval().requires_grad_(False)

    def tokenizer(self, part: str) -> Any:
        """Load a CLIP tokenizer.

        Raises:
            InputError: its files are missing or damaged.
        """
        self.config(f"{part}/tokenizer_config.json")
        try:
            tokenizer = transformers.CLIPTokenizer.from_pretrained(self.path / part, local_files_only=True)
        except UNREADABLE as error:
            raise InputError(f"{self.path / part}: not a tokenizer: {reason(error)}") from error
        self.read[part] = digest(tokenizer.backend_tokenizer.to_str())
        return tokenizer

    def zeros_for_empty_prompt(self) -> bool:
        """Whether the empty prompt's embedding is zeros, as in SDXL's pipeline, and not what the encoders answer."""
        zeros = bool(self.config("model_index.json").get("force_zeros_for_empty_prompt", True))
        self.read["empty prompt"] = digest(zeros)
        return zeros

    def noise_table(self) -> tuple[tuple[float, ...], Prediction]:
        """Return half the log of the scheduler's cumulative alphas, and what the U-Net predicts.

        Raises:
            InputError: the scheduler has no betas, they end without any signal, or an unknown prediction.
        """
        name = "scheduler/scheduler_config.json"
        config = self.config(name)
        if "beta_schedule" not in config:
            raise InputError(f"{self.path / name}: {config.get('_class_name')} has no table of betas")
        betas = diffusers.DDPMScheduler.from_config(config).betas.double()
        log_alphas = (1 - betas).log().cumsum(0) / 2
        if not bool(log_alphas.isfinite().all()):
            raise InputError(
                f"{self.path / name}: the last level has no signal (zero terminal SNR), so no finite sigma"
            )
        prediction = config.get("prediction_type", "epsilon")
        if prediction not in get_args(Prediction):
            raise InputError(f"{self.path / name}: prediction_type {prediction} is not one of {get_args(Prediction)}")
        table = tuple(log_alphas.tolist())
        self.read["scheduler"] = digest([table, prediction])
        return table, prediction

    def _load(self, part: str, part_class: Any) -> tuple[nn.Module, list[str], list[str]]:
        """Return a part with its weights, and the names of those that are missing and of those it has no place for."""
        options = {"low_cpu_mem_usage": False} if issubclass(part_class, diffusers.ModelMixin) else {}
        module, report = part_class.from_pretrained(
            self.path, subfolder=part, local_files_only=True, output_loading_info=True, **options
        )
        return module, list(report["missing_keys"]), list(report["unexpected_keys"])


def find_folder(name: str, weights: bool) -> Path:
    """Find a folder in diffusers' layout.

    Args:
        name: its path, or an id on the hub (``owner/name``).
        weights: whether the hub is to give the weights too, of which only safetensors are fetched.

    Raises:
        InputError: there is no such folder, and the hub does not give it.
    """
    if Path(name).is_dir():
        return Path(name)
    if not HUB_ID.fullmatch(name):
        raise InputError(f"{name}: no such folder or file")
    try:
        patterns = [*CONFIGURATIONS, *WEIGHTS] if weights else CONFIGURATIONS
        return Path(snapshot_download(name, allow_patterns=patterns, ignore_patterns=["safety_checker/*"]))
    except (OSError, ValueError) as error:
        raise InputError(
            f"{name}: no such folder, and the hub did not give it ({reason(error)}); "
            f"download it where there is a network and name its folder"
        ) from error


def _weights_digest(module: nn.Module) -> str:
    total = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        total.update(safetensors.torch.save({name: tensor.contiguous()}))
    return total.hexdigest()


def _require(path: Path, problem: str, names: list[str]) -> None:
    names = [name for name in names if not name.endswith("position_ids")]  # a constant that old versions saved
    if names:
        raise InputError(f"{path}: the checkpoint {problem} tensor {min(names)}, one of {len(names)}")


def reason(error: Exception) -> str:
    """Return an error's message in a line; torch's own for a refused pickle advises to trust it."""
    if isinstance(error, UnpicklingError):
        refused = re.search(r"GLOBAL (\S+)", str(error))
        asked = f"it asks for {refused[1]}" if refused else "it is no pickle of tensors"
        return f"{asked}; where you trust it, save its tensors as .safetensors"
    return textwrap.shorten(str(error) or repr(error), 200, placeholder=" ...")
