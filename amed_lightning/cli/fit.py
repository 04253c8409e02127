"""``fit`` and ``validate``: LightningCLI, literally."""

from collections.abc import Sequence

from amed_lightning.cli.training import TrainingCLI


def run(verb: str, arguments: Sequence[str]) -> int:
    """Run the Trainer's method of that name."""
    TrainingCLI([verb, *arguments], run=True)
    return 0
