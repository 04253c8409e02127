"""``schedule``: search a schedule with GITS."""

from collections.abc import Sequence

from amed_lightning.cli.parsing import parser_for
from amed_lightning.runtime.places import require_place
from amed_lightning.runtime.processes import launch
from amed_lightning.teacher.search import search
from amed_lightning.teacher.wanted import ScheduleSearch


def run(verb: str, arguments: Sequence[str]) -> int:
    """Search and print the levels."""
    parser = parser_for(verb, "Choose a few-step schedule among a fine teacher's levels (GITS).")
    parser.add_argument("--config", action="config", help="YAML file with these options")
    parser.add_argument("--devices", type=int, default=1, help="processes that share the teacher's work")
    parser.add_class_arguments(ScheduleSearch, "search")
    options = parser.instantiate(parser.parse_args(list(arguments)))
    require_place(options.search.output)
    fabric = launch(options.accelerator, options.devices)
    sigmas = search(options.search, fabric, fabric.device)
    if fabric.is_global_zero:
        print("levels:", ", ".join(f"{sigma:.4g}" for sigma in sigmas))
        print(f"written: {options.search.output}; name it as `schedule: {{name: gits, path: {options.search.output}}}`")
    return 0
