"""A model in diffusers' layout: a folder with one folder per part, each with its configuration and weights.

The parts are ``unet``, ``scheduler``, ``vae`` or ``vqvae``, ``text_encoder``, ``tokenizer``, and a second of the last
two for SDXL. Of a pickle only tensors are read, and every tensor of a part must be there, and no other. Weights may be
there in variants, ``<name>.fp16.safetensors`` beside ``<name>.safetensors``; in whatever precision they were saved,
they are read as they are; those of U-Nets and their parts are kept in single precision, those of transformers and
theirs stay as they are. This module and its neighbours of schedulers, files and original
checkpoints are the only ones that import diffusers, transformers and their hub, which takes seconds.
"""

import inspect
import json
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from torch import nn

from amed_lightning.config import LARGEST, InputError, content_of, digest
from amed_lightning.denoisers.bounded import no_larger_than
from amed_lightning.denoisers.diffusers_files import DIFFUSERS, TRANSFORMERS, listed, stored_dtype, variants
from amed_lightning.denoisers.diffusers_keys import (
    GEMMA,
    PIPELINE,
    T5,
    TEXT_ENCODER,
    TOKENIZERS,
    UNET,
    Table,
    arguments,
    require_understood,
)
from amed_lightning.denoisers.diffusers_scheduler import Training, read_training
from amed_lightning.denoisers.files import weights_digest
from amed_lightning.runtime.foreign import UNREADABLE, reason, require_bounded
from amed_lightning.runtime.json_text import parse_json

INDEX = "model_index.json"
ADAPTER = "adapter_config.json"
"""By which transformers, where peft is installed, loads another model than it was asked for."""
_WEIGHTS_ENDINGS = (".safetensors", ".bin")
TABLES: dict[str, Table] = {
    "UNet2DModel": UNET,
    "UNet2DConditionModel": UNET,
    "CLIPTextModel": TEXT_ENCODER,
    "CLIPTextModelWithProjection": TEXT_ENCODER,
    "T5EncoderModel": T5,
    "Gemma2Model": GEMMA,
}
"""What the keys of a class's configuration mean; the library builds an autoencoder from all that it knows."""
_RENAMED = {"Transformer2DModel": ("DiTTransformer2DModel", "PixArtTransformer2DModel")}
"""Classes that had one name when the first folders were published."""
transformers.utils.logging.disable_progress_bar()


class Folder:
    """A model in diffusers' layout.

    Args:
        path: of the folder.
        variant: of the weights, where a part has it.
        as_stored: whether weights keep the precision in which they were saved.

    Attributes:
        read: a digest of every part that has been read.

    Raises:
        InputError: no part has that variant.
    """

    def __init__(self, path: Path, variant: str | None = None, as_stored: bool = False) -> None:
        self.path, self.variant, self.as_stored = path, variant, as_stored
        self.read: dict[str, str] = {}
        there = {found for part in path.iterdir() if part.is_dir() for found in variants(part)}
        if variant is not None and variant not in there:
            raise InputError(f"{path}: no weights of variant '{variant}'; there are {listed(there)}")

    def require_pipeline(self, names: Collection[str], table: Table = PIPELINE) -> None:
        """Refuse a folder that says it is for another pipeline.

        Args:
            names: of the pipelines that are reproduced here.
            table: what the keys of ``model_index.json`` mean.

        Raises:
            InputError: ``model_index.json`` names another, or something that is not understood.
        """
        path = self.path / INDEX
        if not path.is_file():
            return
        index = self.config(INDEX)
        named = index.get("_class_name")
        if named not in names:
            raise InputError(
                f"{path}: _class_name is {json.dumps(named)}, a pipeline that is not reproduced here; "
                f"where its parts are those of a plain {' or '.join(names)}, write that"
            )
        require_understood(path, index, table)

    def config(self, name: str) -> dict[str, Any]:
        """Read one of the JSON files.

        Raises:
            InputError: it is missing, or holds no mapping.
        """
        path = self.path / name
        try:
            return {**parse_json(content_of(path), number=None)}  # `lambda_min_clipped: -Infinity` is usual
        except InputError as error:
            raise InputError(f"{error}; a model in diffusers' layout has one") from None
        except (TypeError, ValueError) as error:
            raise InputError(f"{path}: not a configuration: {error}") from error

    def module(self, part: str, class_name: str) -> Any:
        """Load a part, frozen, in single precision or as it was stored.

        Raises:
            InputError: the part is of another class, says something that is not understood, or its weights are missing,
                damaged, or more than tensors.
        """
        path, config = self.path / part / "config.json", self.config(f"{part}/config.json")
        named = config.get("_class_name") or "".join(config.get("architectures") or [class_name])
        if named != class_name and class_name not in _RENAMED.get(named, ()):
            raise InputError(f"{self.path / part}: holds a {named} where a {class_name} is needed")
        library = diffusers if hasattr(diffusers, class_name) else transformers
        part_class = getattr(library, class_name)
        defaults = arguments(part_class if library is diffusers else part_class.config_class)
        require_understood(path, defaults | config, TABLES.get(class_name, {}), defaults)
        try:
            with no_larger_than(self._bytes(part)):
                module, missing, unexpected = self._load(part, part_class)
        except UNREADABLE as error:
            why = str(error) if isinstance(error, InputError) else f"cannot be loaded: {reason(error)}"
            raise InputError(f"{self.path / part}: {why}") from error
        _require(self.path / part, "lacks", missing)
        _require(self.path / part, "has the unknown", unexpected)
        architecture = {k: v for k, v in config.items() if not k.startswith("_") and k != "transformers_version"}
        self.read[part] = digest([architecture, weights_digest(module if self.as_stored else module.float())])
        return module.eval().requires_grad_(False)

    @staticmethod
    def published(pipeline: str, argument: str) -> Any:
        """Return what diffusers' pipeline of that name takes for an argument where nothing is said."""
        return inspect.signature(getattr(diffusers, pipeline).__call__).parameters[argument].default

    def tokenizer(self, part: str, class_name: str = "CLIPTokenizer") -> Any:
        """Load a tokenizer.

        Args:
            part: of the tokenizer.
            class_name: a key of ``TOKENIZERS``.

        Raises:
            InputError: its files are missing, damaged or another tokenizer's.
        """
        name = f"{part}/tokenizer_config.json"
        config = self.config(name)
        require_understood(self.path / name, config, TOKENIZERS[class_name], config)
        try:
            tokenizer = getattr(transformers, class_name).from_pretrained(self.path / part, local_files_only=True)
        except UNREADABLE as error:
            raise InputError(f"{self.path / part}: not a tokenizer: {reason(error)}") from error
        padding = [tokenizer.pad_token_id, tokenizer.model_max_length]
        self.read[part] = digest([tokenizer.backend_tokenizer.to_str(), *padding])
        return tokenizer

    def zeros_for_empty_prompt(self) -> bool:
        """Whether the empty prompt's embedding is zeros, as in SDXL's pipeline, and not what the encoders answer."""
        zeros = bool(self.config(INDEX).get("force_zeros_for_empty_prompt", True))
        self.read["empty prompt"] = digest(zeros)
        return zeros

    def training(self) -> Training:
        """Return what the scheduler tells of the training.

        Raises:
            InputError: there is no scheduler, or it tells something that is not understood.
        """
        path = self.path / "scheduler" / "scheduler_config.json"
        config = self.config("scheduler/scheduler_config.json")
        training = read_training(path, config)
        indexed = self.config(INDEX).get("scheduler") if (self.path / INDEX).is_file() else None
        if indexed and read_training(self.path / INDEX, config | {"_class_name": indexed[-1]}) != training:
            raise InputError(
                f"{path}: _class_name is {config['_class_name']}, but pipelines make a {indexed[-1]} of it, which "
                f"{INDEX} names and which takes other betas where the file is silent; write the right one in both"
            )
        self.read["scheduler"] = digest([training.log_alphas, training.prediction])
        return training

    def scaling(self, part: str, otherwise: Any) -> Any:
        """Return what an autoencoder's latents were multiplied with; ``otherwise`` where its file is silent."""
        return self.config(f"{part}/config.json").get("scaling_factor", otherwise)

    def _bytes(self, part: str) -> int:
        """Return the bytes of a part's files, none of which is one that its library should not be given.

        Raises:
            InputError: one is.
        """
        for file in (self.path / part).iterdir():
            if file.name == ADAPTER:
                raise InputError(f"{file}: names another model, which would be loaded in its place; move it away")
            if file.suffix in _WEIGHTS_ENDINGS:
                require_bounded(file)
            elif file.is_file() and file.stat().st_size > LARGEST:
                raise InputError(f"{file}: more than {LARGEST} bytes, which no file of its kind has")
        return sum(file.stat().st_size for file in (self.path / part).iterdir() if file.is_file())

    def _load(self, part: str, part_class: Any) -> tuple[nn.Module, list[str], list[str]]:
        """Return a part with its weights, and the names of those that are missing and of those it has no place for."""
        of_diffusers = issubclass(part_class, diffusers.ModelMixin)
        options = {"low_cpu_mem_usage": False} if of_diffusers else {}
        variant = self._variant(part, DIFFUSERS if of_diffusers else TRANSFORMERS)
        module, report = part_class.from_pretrained(
            self.path,
            subfolder=part,
            variant=variant,
            # transformers' own choice is what the configuration says, not what the weights are
            dtype=stored_dtype(self.path / part, variant) if self.as_stored else torch.float32,
            local_files_only=True,
            output_loading_info=True,
            **options,
        )
        return module, list(report["missing_keys"]), list(report["unexpected_keys"])

    def _variant(self, part: str, names: Sequence[str]) -> str | None:
        """Choose a part's weights as diffusers does, what is asked for or the plain ones, or else all that there is."""
        there = variants(self.path / part, names)
        for wanted in (self.variant, None):
            if wanted in there:
                return wanted
        if len(there) == 1 and self.variant is None:
            return there.pop()
        if there:
            raise InputError(f"{self.path / part}: there are only {listed(there)}; the option `variant` chooses")
        raise InputError(
            f"{self.path / part}: no weights; expected {names[0]}.safetensors or a variant of it, which the hub gives "
            f"where the option `variant` names it"
        )


def _require(path: Path, problem: str, names: list[str]) -> None:
    names = [name for name in names if not name.endswith("position_ids")]  # a constant that old versions saved
    if names:
        raise InputError(f"{path}: the checkpoint {problem} tensor {min(names)}, one of {len(names)}")
