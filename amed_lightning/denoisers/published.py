"""A model of whatever file: a card of ours, a pickle of EDM's, a state dict of OpenAI's."""

from pathlib import Path

from amed_lightning.config import InputError
from amed_lightning.denoisers.edm import read_edm
from amed_lightning.denoisers.files import StoredModel, read_model
from amed_lightning.denoisers.openai import read_openai, told
from amed_lightning.denoisers.untold import NOTHING_SAID, Untold
from amed_lightning.denoisers.zoo.known import known


def read_published(path: Path, untold: Untold = NOTHING_SAID, otherwise: Untold = NOTHING_SAID) -> StoredModel:
    """Read a model, without running anything that its file holds.

    Args:
        path: a ``.json`` card, a ``.pkl`` of EDM's, or a ``.pt`` of guided-diffusion, improved-diffusion or the
            consistency models.
        untold: what a ``.pt`` does not tell. A file that does must agree, and so must a shipped card that knows it.
        otherwise: what it is taken to be where neither says anything.

    Raises:
        InputError: a missing, damaged or hostile file, another one, or an option that is missing or contradicts it.
    """
    match path.suffix:
        case ".json":
            stored = read_model(path)
        case ".pkl":
            stored = read_edm(path)
        case ".pt" | ".pth":
            shipped = known(path)
            if shipped.given:
                untold.require_agreement(path, shipped.given)
            return read_openai(path, untold.or_else(shipped).or_else(otherwise))
        case _:
            raise InputError(f"{path}: not a model's file; expected a .json card, a .pkl of EDM's or a .pt of OpenAI's")
    untold.require_agreement(path, told(stored.card))
    return stored
