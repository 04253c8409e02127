"""For diffusers: a scheduler in a file of its own and its configuration, which is a table of numbers.

Where a predictor places the steps of each sample, the configuration holds the predictor's weights instead.
"""

import json
from importlib.resources import files
from typing import Any

from amed_lightning.amed.predictor import AMEDPredictor
from amed_lightning.config import InputError
from amed_lightning.denoisers.preconditioning import OfTable
from amed_lightning.export.network import inside, table_for
from amed_lightning.sampling.sampler import Sampler
from amed_lightning.solvers.adams_bashforth import Equidistant
from amed_lightning.solvers.multistep import Multistep, Refined
from amed_lightning.solvers.state import Solver
from amed_lightning.solvers.two_stage import TwoStage

MODULE, CONFIG = "amed_scheduler.py", "scheduler_config.json"


def scheduler_config(sampler: Sampler) -> dict[str, Any]:
    """Return the configuration of the scheduler that samples like this.

    Raises:
        InputError: the sampler or its model does what no scheduler can be told.
    """
    return _placed_config(sampler) if isinstance(sampler.placer, AMEDPredictor) else _table_config(sampler)


def _table_config(sampler: Sampler) -> dict[str, Any]:
    """Return a table, and what surrounds the network at each run.

    Raises:
        InputError: the model has more inside than a network.
    """
    table, inner = table_for(sampler), inside(sampler.model)
    around = [inner.denoiser.coefficients(level) for level in table.told]
    return {
        "_class_name": "AmedScheduler",
        "times": [float(each.noise) for each in around],
        "scales": [float(each.scale) for each in around],
        "skips": [float(each.skip) for each in around],
        "outs": [float(each.out) for each in around],
        "noise": table.noise.tolist(),
        "answers": table.answers.tolist(),
        "clip": inner.clip,
    }


def _placed_config(sampler: Sampler) -> dict[str, Any]:
    """Return levels, a predictor and a network's table of alphas.

    Raises:
        InputError: a solver or a model whose steps the scheduler cannot take for each sample.
    """
    predictor, inner = sampler.placer, inside(sampler.model)
    assert isinstance(predictor, AMEDPredictor)
    around = inner.denoiser.preconditioning
    if not isinstance(around, OfTable):
        raise InputError("a predictor reads the bottleneck of a U-Net of discrete time, and this model is none")
    if sampler.denoise_to_zero:
        raise InputError("denoise_to_zero: a scheduler of a predictor ends at the last level; leave it out")
    options = {"ratio_range": list(predictor.ratio_range)} | predictor.options
    weights = {name: each.tolist() for name, each in predictor.state_dict().items()}
    return {
        "_class_name": "AmedPlacedScheduler",
        "sigmas": sampler.sigmas.tolist(),
        "afs": sampler.afs,
        **_slope(sampler.solver),
        "log_alphas": list(around.table),
        "prediction_type": around.prediction,
        "predictor": options | {"weights": weights},
        "clip": inner.clip,
    }


def for_diffusers(sampler: Sampler) -> dict[str, bytes]:
    """Return the files of a scheduler, by name."""
    config = json.dumps(scheduler_config(sampler), indent=2).encode() + b"\n"
    return {MODULE: files(__package__).joinpath(MODULE).read_bytes(), CONFIG: config}


def _slope(solver: Solver) -> dict[str, Any]:
    """Return how a solver goes on from a sample's own slopes."""
    match solver:
        case TwoStage():
            return {"slope": solver.slope.__name__, "order": 1}
        case Refined(base=Multistep(rule=Equidistant(order=order))):
            return {"slope": "ipndm", "order": order}
    raise InputError(
        "a predictor's scheduler goes on as amed, dpm_solver_2, heun, euler or ipndm do; the weights of this solver "
        "depend on each sample's levels: export a learned table, or the constants of a fit"
    )
