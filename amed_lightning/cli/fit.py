"""``fit`` and ``validate``: LightningCLI, literally."""

from jsonargparse import Namespace

from amed_lightning.cli.training import TrainingCLI


def run(options: Namespace) -> int:
    """Run the Trainer's method of that name."""
    TrainingCLI([options.verb, *options.arguments], run=True)
    return 0
