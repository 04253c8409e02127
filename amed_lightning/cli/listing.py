"""``list``: the parts that a YAML can name, with their options and what these are where nobody says anything."""

import importlib
import inspect
import json
from collections.abc import Iterator

from jsonargparse import Namespace
from rich.console import Console

PARTS = {
    "solvers": ("amed_lightning.solvers.registry", "SOLVERS"),
    "schedules": ("amed_lightning.noise.schedules", "SCHEDULES"),
    "models": ("amed_lightning.denoisers.registry", "DENOISERS"),
    "detectors": ("amed_lightning.metrics.files", "DETECTORS"),
    "datasets": ("amed_lightning.metrics.reference", "REFERENCES"),
    "metrics": ("amed_lightning.metrics.scores", "METRICS"),
}
"""Where each registry is; a module is imported when it is asked for."""
SUPPLIED = ("placer", "device")
"""What the program gives to a part, and no YAML."""


def run(options: Namespace) -> int:
    """Print what there is."""
    module, registry = PARTS[options.action]
    parts = getattr(importlib.import_module(module), registry)
    told = {name: _told(parts[name]) if isinstance(parts, dict) else {} for name in parts}
    if options.json:
        print(json.dumps(told, indent=2, default=str))
        return 0
    console = Console(highlight=False, markup=False, soft_wrap=True)
    width = max(map(len, told))
    for name, part in told.items():
        console.print(f"{name:<{width}}  {', '.join(_written(part))}".rstrip())
    return 0


def _told(part: object) -> dict[str, object]:
    """Return a part's options and their defaults; of one that has none, what it is written as."""
    parameters = inspect.signature(part).parameters if callable(part) else {}
    return {name: one.default for name, one in parameters.items() if name not in SUPPLIED}


def _written(options: dict[str, object]) -> Iterator[str]:
    for name, default in options.items():
        yield name if default is inspect.Parameter.empty else f"{name}: {json.dumps(default, default=str)}"
