"""A model of whatever file: a card of ours, a pickle of EDM's, a state dict of OpenAI's."""

from pathlib import Path

from amed_lightning.config import InputError
from amed_lightning.denoisers.edm import read_edm
from amed_lightning.denoisers.files import StoredModel, read_model
from amed_lightning.denoisers.openai import read_openai


def read_published(path: Path, img_resolution: int = 256, head_channels: int = 64) -> StoredModel:
    """Read a model, without running anything that its file holds.

    Args:
        path: a ``.json`` card, a ``.pkl`` of EDM's, or a ``.pt`` of guided-diffusion or the consistency models.
        img_resolution: height and width of the images, which a ``.pt`` does not tell.
        head_channels: channels of each head of the attention, which a ``.pt`` does not tell.

    Raises:
        InputError: a missing, damaged or hostile file, or another one.
    """
    match path.suffix:
        case ".json":
            return read_model(path)
        case ".pkl":
            return read_edm(path)
        case ".pt" | ".pth":
            return read_openai(path, img_resolution, head_channels)
    raise InputError(f"{path}: not a model's file; expected a .json card, a .pkl of EDM's or a .pt of OpenAI's")
