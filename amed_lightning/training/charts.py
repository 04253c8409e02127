"""What TensorBoard shows of a fit besides its scalars: configuration, charts laid out, samples beside the teacher's."""

from typing import cast

import lightning.pytorch as pl
from lightning.pytorch.loggers import TensorBoardLogger
from torch.utils.tensorboard import SummaryWriter
from torchvision.utils import make_grid

from amed_lightning.data.picture import is_picture
from amed_lightning.tensors import quantise
from amed_lightning.training.distilling import Distilling
from amed_lightning.training.exporting import is_trial

_LAYOUT = {
    "fit": {
        "loss": ["Multiline", [r"(train|val)/loss", r"train/cost"]],
        "distance from the teacher": ["Multiline", [r"val/rmse"]],
        "placements": ["Multiline", [r"train/(ratio|direction_scale|time_scale)_"]],
    }
}
"""Of the page *Custom scalars*: regular expressions of tags."""
COLUMNS = 4


class Charts(pl.Callback):
    """Add to a fit's TensorBoard what its scalars do not say.

    Args:
        configuration: of the run, in YAML.
    """

    def __init__(self, configuration: str) -> None:
        self.configuration = configuration

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the configuration and the layout."""
        for writer in _writers(trainer):
            writer.add_text("configuration", _as_code(self.configuration))
            writer.add_custom_scalars(_LAYOUT)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Show samples of the student, and the teacher's of the same noise, where the fit has them."""
        if (writers := _writers(trainer)) and isinstance(pl_module, Distilling):
            shown = pl_module.shown().items() if is_picture(pl_module.parts.model.image_shape) else ()
            for name, images in shown:
                grid = make_grid(quantise(images), nrow=COLUMNS, padding=1)
                for writer in writers:
                    writer.add_image(f"samples/{name}", grid, trainer.fit_loop.total_batch_idx)


def _writers(trainer: pl.Trainer) -> list[SummaryWriter]:
    """Return those of the first process of a fit that is no trial."""
    if not trainer.is_global_zero or is_trial(trainer):
        return []
    return [cast(SummaryWriter, each.experiment) for each in trainer.loggers if isinstance(each, TensorBoardLogger)]


def _as_code(text: str) -> str:
    """Return Markdown that shows a text as it is."""
    return "".join(f"    {line}\n" for line in text.splitlines())
