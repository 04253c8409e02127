"""The published AMED predictors, ``network-snapshot-*.pkl``, read without running them.

Such a pickle is ``{"model": AMED_predictor, ...}``: weights under the names that ours have, and as plain attributes all
settings but the model's, of which it knows no more than the name of the data. ``num_steps`` counts levels. The first
predictors had fixed bounds: a direction scale of 0.01 (0.05 under data prediction), a time scale of 0.2 or none.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amed_lightning.amed.predictor import AMEDPredictor
from amed_lightning.config import InputError, Spec, not_finite_in, registered, shown
from amed_lightning.denoisers.pickled_modules import TensorReader, held
from amed_lightning.denoisers.pickles import read_pickle
from amed_lightning.noise.schedules import SCHEDULES
from amed_lightning.tensors import not_finite

_SOLVERS = {"amed": "amed", "dpm": "dpm_solver_2", "dpmpp": "dpm_solver_pp", "euler": "euler", "ipndm": "ipndm"}
_WITH_RHO = ("polynomial", "time_uniform", "discrete")
_TOLD = ("dataset_name", "img_resolution", "sampler_tea", "M", "guidance_type", "guidance_rate")
"""Settings that say how a predictor was made."""


@dataclass(frozen=True)
class PublishedPredictor:
    """A predictor and the sampler that it was made for, but for the model.

    Attributes:
        predictor: with its weights.
        solver: name and options.
        schedule: name and options.
        num_intervals: of the time grid.
        afs: whether the first evaluation is analytic.
        training: how it was made, for the reader.
    """

    predictor: AMEDPredictor
    solver: Spec
    schedule: Spec
    num_intervals: int
    afs: bool
    training: dict[str, Any]


def read_published_predictor(path: Path) -> PublishedPredictor:
    """Read a predictor.

    Args:
        path: of the ``.pkl``.

    Raises:
        InputError: a missing or damaged file, one that names what no such file needs, or another object's.
    """
    content = read_pickle(path)
    try:
        module, _, settings = held(content, "model", ("AMED_predictor",), "no AMED predictor")
        weights = dict(TensorReader(path.stat().st_size).tensors(module))
        if name := not_finite(weights):
            raise InputError(f"its weights '{name}' have a NaN or an infinity")
        if place := not_finite_in({name: value for name, value in settings.items() if isinstance(value, float)}):
            raise InputError(place)
        feature_size = weights["enc_layer0.weight"].shape[1]
        predictor = AMEDPredictor(feature_size, *_bounds(settings))
        predictor.load_state_dict(weights)
        return PublishedPredictor(
            predictor.eval().requires_grad_(False),
            solver=_solver(settings),
            schedule=_schedule(settings),
            num_intervals=_num_intervals(settings["num_steps"]),
            afs=settings["afs"] is True,
            training={name: settings[name] for name in _TOLD if isinstance(settings.get(name), str | int | float)},
        )
    except (KeyError, ValueError, TypeError, RuntimeError, IndexError, ArithmeticError) as error:
        reason = f"there is no {error}" if isinstance(error, KeyError) else " ".join(str(error).split())
        raise InputError(f"{path}: not an AMED predictor: {reason}") from error


def _num_intervals(num_steps: Any) -> int:
    if not isinstance(num_steps, int) or num_steps < 2:
        raise InputError(f"num_steps is {shown(num_steps)}; it counts levels, two at least")
    return num_steps - 1


def _bounds(settings: Mapping[str, Any]) -> tuple[float, float]:
    """Return the bounds of the direction scale and the time scale."""
    fixed = 0.05 if settings["sampler_stu"] == "dpmpp" and settings["predict_x0"] else 0.01
    time = settings["scale_time"]
    return float(settings.get("scale_dir", fixed)), 0.2 * time if isinstance(time, bool) else float(time)


def _solver(settings: Mapping[str, Any]) -> Spec:
    name = registered("solver", _SOLVERS, settings["sampler_stu"])
    options: Spec = {}
    if name in ("ipndm", "dpm_solver_pp"):
        options["order"] = settings["max_order"]
    if name == "dpm_solver_pp":
        options["prediction"] = "data" if settings["predict_x0"] else "noise"
        options["lower_order_final"] = settings["lower_order_final"] is True
    return {"name": name, **options}


def _schedule(settings: Mapping[str, Any]) -> Spec:
    name = settings["schedule_type"]
    registered("schedule", SCHEDULES, name)
    return {"name": name, "rho": float(settings["schedule_rho"])} if name in _WITH_RHO else {"name": name}
