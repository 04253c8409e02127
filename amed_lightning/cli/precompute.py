"""``precompute``: the data step of a distillation alone, from the same YAML."""

from collections.abc import Sequence

from amed_lightning.cli.training import distillation
from amed_lightning.runtime.processes import launch
from amed_lightning.runtime.provenance import provenance, write_run_record


def run(verb: str, arguments: Sequence[str]) -> int:
    """Compute the trajectories that are missing."""
    module, data, trainer = distillation(arguments)
    fabric = launch(trainer.accelerator, trainer.devices, trainer.num_nodes)
    store = data.precompute(module.parts, fabric, fabric.device)
    if fabric.is_global_zero:
        digests = {"model": module.parts.model.digest, "recipe": store.recipe.digest}
        write_run_record(store.folder, store.recipe, digests, provenance(fabric.device, fabric.world_size))
        print(f"complete: {store.folder}")
    return 0
