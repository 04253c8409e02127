"""What all distillations share: a student, its teacher's trajectories, and the best on held-out seeds as the result."""

import math
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.trainer.states import TrainerFn
from torch import nn
from torch.utils.data import DataLoader

from amed_lightning.amed.files import save_learned
from amed_lightning.config import InputError
from amed_lightning.sampling.config import SamplerConfig
from amed_lightning.sampling.parts import SamplerParts
from amed_lightning.seeds import Seeds
from amed_lightning.solvers.learned import Learned
from amed_lightning.tensors import Images
from amed_lightning.training.exporting import Exporting
from amed_lightning.training.source import Source

_CRITERIA = ("val_loss", "val_rmse")
"""What the best may be told by."""
SHOWN = 16
"""Samples of a grid in TensorBoard."""


class Distilling(Exporting, ABC):
    """Learn something of a sampler from a teacher's trajectories.

    Args:
        student: the sampler that it will serve; it has no placer of its own.
        export: where the result's ``.json`` goes, if not into the run's directory; the numbers go beside it.
        placed: whether it is a placer that is learned.

    Attributes:
        parts: of the student.
        taught: the parts whose levels the teacher's states are wanted at.
        best: what is exported: how it was made, its value on validation seeds, and its ``weights``.

    Raises:
        InputError: something that does not exist or fit together, or a denoiser whose weights would learn.
    """

    def __init__(self, student: SamplerConfig, export: Path | None, placed: bool = False) -> None:
        super().__init__(export)
        self.automatic_optimization = False
        if student.solver.get("placer", "none") != "none":
            raise InputError("model.student.solver: what is learned replaces its placer; leave it out")
        self.parts = SamplerParts(student, placed=placed)
        self.taught = self.parts
        self.best: dict[str, Any] = {}
        _require_frozen(self.parts)

    @abstractmethod
    def prepare(self, source: Source) -> None:
        """Compute what is missing on disk."""

    @abstractmethod
    def batches(self, source: Source, seeds: Seeds, batch_size: int, seed: int | None) -> DataLoader[Any]:
        """Return batches of some seeds, in an order that ``seed`` decides, or in theirs."""

    @property
    @abstractmethod
    def nfe(self) -> int:
        """Network runs per sample of the student."""

    @abstractmethod
    def learned(self, weights: Any) -> Learned:
        """Return what some weights come to."""

    @abstractmethod
    def last(self) -> dict[str, Any]:
        """Return what is exported of a fit that has validated nothing."""

    @property
    def outcome(self) -> str:
        """The best value on validation seeds, and when that was."""
        found = {name.replace("_", "/", 1): value for name, value in self.best.items() if name in _CRITERIA}
        return ", ".join(f"{name} {value:.4g} after epoch {self.best['epoch'] + 1}" for name, value in found.items())

    def command(self, result: Path) -> str:
        """Return the command that samples with it."""
        return f"amed-lightning sample {result} --output {result.with_name('samples.png')}"

    def shown(self) -> dict[str, Images]:
        """Return decoded samples of the student and of its teacher from the same noise, where they cost little."""
        return {}

    def decoded(self, student: Images, teacher: Images) -> dict[str, Images]:
        """Return the images of samples, by whose they are."""
        with torch.inference_mode():
            return {"student": self.parts.model.decode(student), "teacher": self.parts.model.decode(teacher)}

    def setup(self, stage: str) -> None:
        """Move the frozen denoiser, which is no part of this module, to the device."""
        self.parts.model.to(self.device)

    def judge(self, name: str, value: float, made: dict[str, Any]) -> None:
        """Keep what has been validated if it is the lowest so far.

        Args:
            name: of the value, which is logged.
            value: the lower, the better.
            made: how it was made, and its ``weights``.
        """
        self.log(f"val/{name}", value, prog_bar=True)
        if value < self.best.get(f"val_{name}", math.inf):
            self.keep({f"val_{name}": value} | made)

    def keep(self, made: dict[str, Any]) -> None:
        """Export what is the best now, if this is a fit.

        Args:
            made: how it was made, and its ``weights``.
        """
        if self.trainer.state.fn == TrainerFn.FITTING and not self.trainer.sanity_checking:
            self.best = {"epoch": self.current_epoch} | made
            self._write(self.best)

    def on_fit_start(self) -> None:
        """Let the file be the checkpoint's best, wherever an earlier start has put it and whatever it has looked at."""
        super().on_fit_start()
        if self.best:
            self._write(self.best)

    def on_train_end(self) -> None:
        """Export the last weights of a fit that has validated none."""
        if not self.best:
            self._write({"epoch": self.current_epoch} | self.last())

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the best."""
        checkpoint["best"] = self.best

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on with it."""
        self.best = checkpoint["best"] if "weights" in checkpoint["best"] else {}

    def _write(self, made: dict[str, Any]) -> None:
        if not self.may_export:
            return
        facts = {name: value for name, value in made.items() if name != "weights"}
        with self.exported() as path:
            save_learned(path, self.learned(made["weights"]), self.parts.purpose, facts, self.parts.description)


def _require_frozen(parts: SamplerParts) -> None:
    denoiser = parts.model.denoiser
    learning = sum(weights.requires_grad for weights in denoiser.parameters()) if isinstance(denoiser, nn.Module) else 0
    if learning:
        raise InputError(
            f"model '{parts.config.model.get('name')}': {learning} of its weights would learn; "
            f"call requires_grad_(False) where it is loaded"
        )
