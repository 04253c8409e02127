"""What a search of levels found, as its file holds it: the levels, how they were chosen, and what they are for.

Levels are chosen on one model's trajectories for a number of intervals. Under an analytic first step one of them may be
chosen for the solver too (GITS, Chen et al. 2024).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from amed_lightning.noise.form import require_choice
from amed_lightning.runtime.json_text import parse_json

Metric: TypeAlias = Literal["dev", "l1", "l2"]
"""What a jump from one of the teacher's levels to another costs."""
Part: TypeAlias = Mapping[str, Any]
"""Name and options."""
_KINDS: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("sigmas", "gamma"), (float, int)),
    **dict.fromkeys(("indices", "fine_intervals", "trajectories"), (int,)),
    **dict.fromkeys(("solver", "teacher", "schedule"), (dict,)),
    **dict.fromkeys(("model", "recipe"), (str,)),
    "afs": (bool,),
}
"""Of a file's values, or of the entries of its lists."""


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
        teacher: the fine solver.
        schedule: of its levels.
        fine_intervals: between them.
        trajectories: number of them that were averaged over.
        recipe: digest of their store's.
    """

    sigmas: tuple[float, ...]
    indices: tuple[int, ...]
    metric: Metric
    gamma: float
    afs: bool
    model: str
    solver: Part
    teacher: Part
    schedule: Part
    fine_intervals: int
    trajectories: int
    recipe: str

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
    try:
        if not path.is_file():
            raise ValueError("no such file")
        content = parse_json(path.read_bytes())
        _check(content)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{path}: not a schedule that `amed-lightning schedule` wrote: {error}; search it again, or name levels "
            "of your own as {name: explicit, levels: [...]}"
        ) from error
    told = {field.name: content[field.name] for field in fields(Found)}
    return Found(**told | {name: tuple(told[name]) for name in ("sigmas", "indices")})


def _check(content: Any) -> None:
    """Refuse what a search does not write.

    Raises:
        ValueError: naming what is missing or wrong.
    """
    if not isinstance(content, dict):
        raise ValueError("it holds no names and values")
    if missing := [field.name for field in fields(Found) if field.name not in content]:
        raise ValueError(f"it lacks {', '.join(missing)}")
    require_choice("metric", content["metric"], get_args(Metric))
    for name, kind in _KINDS.items():
        values = content[name] if name in ("sigmas", "indices") else [content[name]]
        if not isinstance(values, list) or not all(type(value) in kind for value in values):
            raise ValueError(f"{name} is {content[name]!r}, which a search does not write")
    if not all(map(math.isfinite, (*content["sigmas"], content["gamma"]))) or content["gamma"] <= 0:
        raise ValueError(f"sigmas and gamma {content['gamma']} are finite numbers, and gamma is above zero")
    for name in ("solver", "teacher", "schedule"):
        if not isinstance(content[name].get("name"), str):
            raise ValueError(f"{name} {content[name]} has no name")
