"""What a record of the trajectory store holds: the bytes of one trajectory.

First the states at all stored levels, then the derivatives and then the features at all of them but the last, in the
recipe's precision; last the label, eight bytes, if the model takes labels. A reader may copy some levels' bytes only;
:meth:`Layout.unpack` reads such rows as well as whole records.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from amed_lightning.config import InputError
from amed_lightning.teacher.trajectories import TeacherRecipe, Trajectories

_LABEL_BYTES = 8
Rows = UInt8[Tensor, "batch bytes"]


@dataclass(frozen=True)
class Layout:
    """How a record's bytes divide.

    Attributes:
        num_intervals: between stored levels.
        shape: of a state.
        feature_size: of the features at one level.
        has_label: whether a label ends the record.
        dtype: of the numbers.
        state_dtype: as what they are read.
    """

    num_intervals: int
    shape: tuple[int, int, int]
    feature_size: int
    has_label: bool
    dtype: torch.dtype
    state_dtype: torch.dtype = torch.float32

    @classmethod
    def of(cls, recipe: TeacherRecipe) -> "Layout":
        """Return the layout of a recipe's records."""
        has_label = recipe.conditions is not None
        dtypes = (getattr(torch, name) for name in (recipe.dtype, recipe.arithmetic.state_dtype))
        return cls(recipe.num_intervals, recipe.shape, recipe.feature_size, has_label, *dtypes)

    @property
    def record_bytes(self) -> int:
        """Size of a record."""
        return sum(self._sizes(self.num_intervals + 1, self.num_intervals))

    def is_finite(self, record: memoryview) -> bool:
        """Whether no number of a record is a NaN or an infinity."""
        numbers = record[: self.record_bytes - _LABEL_BYTES * self.has_label]
        return bool(np.isfinite(np.frombuffer(numbers, str(self.dtype).removeprefix("torch."))).all())

    def pack(self, trajectories: Trajectories) -> Iterator[bytes]:
        """Yield each trajectory's record.

        Raises:
            InputError: a number is not finite in the recipe's precision.
        """
        parts = {}
        for name in ("states", "derivatives", "features"):
            part: Tensor = getattr(trajectories, name)
            parts[name] = part.to(self.dtype)
            if not bool(parts[name].isfinite().all()):
                raise InputError(
                    f"the teacher's {name} reach {float(part.abs().max()):g}, which is not finite in {self.dtype}: "
                    f"choose teacher.dtype float32"
                )
        columns = [*parts.values(), *([] if trajectories.condition is None else [trajectories.condition])]
        for fields in zip(*columns, strict=True):
            yield b"".join(field.numpy().tobytes() for field in fields)

    def pieces(self, states: Sequence[int], answers: Sequence[int]) -> list[slice]:
        """Return where in a record the given levels lie, neighbours joined.

        Args:
            states: increasing indices of the levels whose states are wanted.
            answers: of the levels whose derivatives and features are.
        """
        part_sizes = self._sizes(self.num_intervals + 1, self.num_intervals)
        wanted = (states, answers, answers, [0] if self.has_label else [])
        pieces: list[slice] = []
        offset = 0
        for part_size, one, indices in zip(part_sizes, self._sizes(1, 1), wanted, strict=True):
            for index in indices:
                start = offset + index * one
                if pieces and pieces[-1].stop == start:
                    start = pieces.pop().start
                pieces.append(slice(start, offset + (index + 1) * one))
            offset += part_size
        return pieces

    def unpack(self, rows: Rows, states: int, answers: int, seeds: Int[Tensor, "batch"]) -> Trajectories:
        """Read rows of so many states and answers as states are, without a copy where they are that already."""
        x, derivatives, features, label = torch.split(rows, self._sizes(states, answers), 1)
        return Trajectories(
            x.view(self.dtype).to(self.state_dtype).view(len(rows), states, *self.shape),
            derivatives.view(self.dtype).to(self.state_dtype).view(len(rows), answers, *self.shape),
            features.view(self.dtype).to(self.state_dtype).view(len(rows), answers, self.feature_size),
            label.contiguous().view(torch.int64)[:, 0] if self.has_label else None,
            seeds,
        )

    def _sizes(self, states: int, answers: int) -> list[int]:
        """Return the bytes of the states, derivatives, features and label of so many levels."""
        channels, height, width = self.shape
        state = channels * height * width * self.dtype.itemsize
        features = self.feature_size * self.dtype.itemsize
        return [states * state, answers * state, answers * features, _LABEL_BYTES * self.has_label]
