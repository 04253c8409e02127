"""``schedule``: search a schedule with GITS."""

from jsonargparse import Namespace

from amed_lightning.runtime.places import require_place
from amed_lightning.runtime.processes import launch
from amed_lightning.teacher.search import search


def run(options: Namespace) -> int:
    """Search and print the levels."""
    require_place(options.search.output)
    fabric = launch(options.accelerator, options.devices)
    sigmas = search(options.search, fabric, fabric.device)
    if fabric.is_global_zero:
        print("levels:", ", ".join(f"{sigma:.4g}" for sigma in sigmas))
        print(f"written: {options.search.output}; name it as `schedule: {{name: gits, path: {options.search.output}}}`")
    return 0
