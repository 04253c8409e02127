"""Turn a pre-trained diffusion model into a sampler of few network runs, and prove it with FID and IS.

``import amed_lightning as al`` and the names below are all that a program needs; torch is imported when one is used.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from amed_lightning.api import (
        SCHEDULES,
        SOLVERS,
        Denoised,
        DiffusionModel,
        InputError,
        NoiseRange,
        ProbabilityFlow,
        Sampler,
        discrete_model,
        distill,
        flow_model,
        levels,
        load_model,
        load_sampler,
        sample,
        shipped,
        solve,
    )

__version__ = "0.2.0"
__all__ = [
    "SCHEDULES",
    "SOLVERS",
    "Denoised",
    "DiffusionModel",
    "InputError",
    "NoiseRange",
    "ProbabilityFlow",
    "Sampler",
    "discrete_model",
    "distill",
    "flow_model",
    "levels",
    "load_model",
    "load_sampler",
    "sample",
    "shipped",
    "solve",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module("amed_lightning.api"), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
