"""``precompute``: the data step of a distillation alone, from the same YAML."""

from jsonargparse import Namespace
from lightning.pytorch.cli import LightningArgumentParser

from amed_lightning.cli.training import TrainingCLI, distillation
from amed_lightning.runtime.processes import launch
from amed_lightning.runtime.provenance import provenance, write_run_record
from amed_lightning.seeds import Seeds, Stream
from amed_lightning.teacher.accuracy import accuracy

FEW = 16
"""Samples that tell how good a teacher is."""


class PrecomputeCLI(TrainingCLI):
    """The options of a fit, and one more."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the option."""
        super().add_arguments_to_parser(parser)
        parser.add_argument("--dry-run", action="store_true", help="print what it would take, and write nothing")


def run(asked: Namespace) -> int:
    """Compute the trajectories that are missing, or say what that would take."""
    module, data, options = distillation(asked.arguments, PrecomputeCLI)
    trainer = options.trainer
    fabric = launch(trainer.accelerator, trainer.devices, trainer.num_nodes)
    if options.dry_run:
        if fabric.is_global_zero:
            print("\n".join(data.estimate(module.taught, fabric.world_size, fabric.device).lines()))
        return 0
    source = data.source(fabric, fabric.device)
    store = source.precompute(module.taught)
    module.prepare(source)
    if fabric.is_global_zero:
        digests = {"model": module.parts.model.digest, "recipe": store.recipe.digest}
        write_run_record(store.folder, store.recipe, digests, provenance(fabric.device, fabric.world_size))
        print(f"complete: {store.folder}")
        few = Seeds(Stream.validation, 0, min(store.recipe.batch_size, FEW, len(data.val_seeds)))
        print("\n".join(accuracy(module.parts, store.recipe, module.nfe, few, fabric.device).lines()))
    return 0
