"""What the published implementations compute from tiny random instances of the published networks.

Each instance has its constructor's arguments, its tensors, inputs, and outputs: ``out``, ``bottleneck`` and others as
the published code runs, and the same in double precision with the suffix ``64``.
"""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

FILE = Path(__file__).parents[1] / "data" / "network-reference.npz"


@dataclass(frozen=True)
class Reference:
    """One instance."""

    arguments: dict[str, Any]
    state: dict[str, Tensor]
    values: dict[str, Tensor]

    @property
    def labels(self) -> Tensor | None:
        """The class of each sample."""
        labels = self.values.get("labels")
        return labels.argmax(1) if labels is not None and labels.ndim == 2 else labels

    def part(self, name: str) -> dict[str, Tensor]:
        """Return the tensors of one network of several."""
        return {key.removeprefix(f"{name}."): value for key, value in self.state.items() if key.startswith(f"{name}.")}


@cache
def reference(instance: str) -> Reference:
    """Read an instance: a and b are DDPM++, c ADM, d of the consistency models, e guided, with its classifier."""
    with np.load(FILE) as file:
        content = {name.removeprefix(f"{instance}/"): file[name] for name in file if name.startswith(f"{instance}/")}
    arguments = json.loads(str(content.pop("args")))
    content.pop("bottleneck_name")
    tensors = {name: torch.from_numpy(value) for name, value in content.items()}
    state = {name.removeprefix("state/"): value for name, value in tensors.items() if name.startswith("state/")}
    return Reference(arguments, state, {name: v for name, v in tensors.items() if not name.startswith("state/")})
