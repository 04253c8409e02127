"""What a search of levels found, as its file holds it: the levels, how they were chosen, and what they are for.

Levels are chosen on one model's trajectories for a number of intervals. Under an analytic first step one of them may be
chosen for the solver too (GITS, Chen et al. 2024).
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from amed_lightning.noise.form import require_choice

Metric: TypeAlias = Literal["dev", "l1", "l2"]
"""What a jump from one of the teacher's levels to another costs."""
Part: TypeAlias = Mapping[str, Any]
"""Name and options."""


@dataclass(frozen=True)
class Found:
    """Levels that a search chose.

    Attributes:
        sigmas: decreasing, the model's ends included.
        indices: of the levels among the teacher's.
        metric: what a jump cost.
        gamma: weight of the later costs.
        afs: whether teacher and student took the analytic first step.
        model: digest of the model.
        solver: of the student.
        teacher: its ``solver``, ``schedule`` and ``num_intervals``.
        trajectories: number of them that were averaged over.
        recipe: digest of their store's.

    Raises:
        ValueError: no such metric, a weight that is not above zero and finite, or a field of another type.
    """

    sigmas: tuple[float, ...]
    indices: tuple[int, ...]
    metric: Metric
    gamma: float
    afs: bool
    model: str
    solver: Part
    teacher: Part
    trajectories: int
    recipe: str

    def __post_init__(self) -> None:
        require_choice("metric", self.metric, get_args(Metric))
        if not all(isinstance(sigma, int | float) and math.isfinite(sigma) for sigma in self.sigmas):
            raise ValueError(f"sigmas are finite numbers, unlike {list(self.sigmas)}")
        if not isinstance(self.gamma, int | float) or not 0 < self.gamma < math.inf:
            raise ValueError(f"gamma is {self.gamma}; it is above zero and finite")
        if not isinstance(self.afs, bool):
            raise ValueError(f"afs is {self.afs}; it is true or false")
        if not (isinstance(self.solver, Mapping) and isinstance(self.teacher, Mapping)):
            raise ValueError("solver and teacher are mappings")

    @property
    def made_for(self) -> dict[str, Any]:
        """What a sampler has that the levels are for."""
        use = {"model": self.model, "afs": self.afs, "num_intervals": len(self.sigmas) - 1}
        return use | ({"solver": self.solver} if self.afs else {})


def read_found(path: Path) -> Found:
    """Read what ``amed-lightning schedule`` wrote.

    Raises:
        ValueError: the file is missing, or is no such file.
    """
    names = [field.name for field in fields(Found)]
    try:
        content = json.loads(path.read_text())
        if missing := [name for name in names if name not in content]:
            raise ValueError(f"it lacks {', '.join(missing)}")
        told = {name: content[name] for name in names}
        return Found(**told | {name: tuple(told[name]) for name in ("sigmas", "indices")})
    except (OSError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path}: no schedule that this version's `amed-lightning schedule` wrote: {error}; "
            f"search it again, or name levels of your own as {{name: explicit, levels: [...]}}"
        ) from error
