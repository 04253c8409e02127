"""EDM's published pickles (Karras et al. 2022): ``{"ema": EDMPrecond, ...}``, read without running them.

The object's constructor arguments are the options of :class:`~amed_lightning.denoisers.ddpmpp.DDPMpp` or
:class:`~amed_lightning.denoisers.adm.ADM`, and its tensors fit one to one. Its resampling filters are compared with the
options' and dropped. The levels are those at which AMED and EDM's sampler use these networks, not the infinite range
of the object itself; its ``use_fp16`` is left to the user's choice of precision.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from amed_lightning.config import InputError
from amed_lightning.denoisers.files import StoredModel
from amed_lightning.denoisers.layers import MEAN, kernel
from amed_lightning.denoisers.model_card import ModelCard
from amed_lightning.denoisers.pickled_modules import TensorReader, held
from amed_lightning.denoisers.pickles import read_pickle

ARCHITECTURES = {"SongUNet": "ddpmpp", "DhariwalUNet": "adm"}
BOTTLENECK_RESOLUTION = 8
"""Where features are taken, or else at the lowest resolution."""
DEFAULT_LEVELS = range(4)
"""A network has as many levels if its arguments do not say."""
LONGEST = 64
"""Entries of a list and letters of a word that an argument can have."""
NO_NETWORK = "none of EDM's networks (name the model of an AMED predictor)"
IRRELEVANT = ("use_fp16", "sigma_min", "sigma_max", "label_dropout")
"""Arguments that do not change the network here."""


def read_edm(path: Path) -> StoredModel:
    """Read a network.

    Args:
        path: of the ``.pkl``.

    Raises:
        InputError: a missing or damaged file, one that names what no such file needs, or another object's.
    """
    content = read_pickle(path)
    try:
        network, state = held(content, "ema", "EDMPrecond", NO_NETWORK)
        card = edm_card(_arguments(state))
        tensors = dict(TensorReader(path.stat().st_size).tensors(network))
        weights = _without_filters(tensors, card.network.get("resample_filter", MEAN))
    except (ValueError, TypeError, IndexError) as error:
        raise InputError(f"{path}: {error}") from error
    return StoredModel(path, card, weights)


def _arguments(state: dict[str, Any]) -> dict[str, Any]:
    """Return the constructor's arguments, short plain values all of them.

    Raises:
        InputError: they are not.
    """
    arguments = state.get("_init_kwargs")
    if state.get("_init_args") or not isinstance(arguments, dict):
        raise InputError("its constructor's arguments are not all named")
    for name, value in arguments.items():
        parts = list(value) if isinstance(value, list | tuple) else [value]
        if len(parts) > LONGEST or not all(_is_plain(part) for part in [name, *parts]):
            raise InputError(f"its constructor's argument {name!r:.80} is not plain")
    return arguments


def _is_plain(value: Any) -> bool:
    if isinstance(value, str):
        return len(value) <= LONGEST and value.isascii() and value.isprintable()
    return isinstance(value, int | float | None)


def edm_card(arguments: Mapping[str, Any]) -> ModelCard:
    """Turn constructor arguments into a card.

    Raises:
        InputError: an unknown network, or no resolution.
    """
    options = {name: value for name, value in arguments.items() if name not in IRRELEVANT}
    sigma_data, kind = options.pop("sigma_data", 0.5), options.pop("model_type", "DhariwalUNet")
    if kind not in ARCHITECTURES or "img_resolution" not in options:
        raise InputError(f"a network {kind!r:.80} of no known resolution; expected a {' or '.join(ARCHITECTURES)}")
    levels = len(options.get("channel_mult", DEFAULT_LEVELS))
    resolutions = [options["img_resolution"] >> level for level in range(levels)]
    bottleneck = BOTTLENECK_RESOLUTION if BOTTLENECK_RESOLUTION in resolutions else resolutions[-1]
    options["bottleneck_resolution"] = bottleneck
    return ModelCard(options, sigma_data, architecture=ARCHITECTURES[kind])


def _without_filters(tensors: dict[str, Tensor], taps: Sequence[int]) -> dict[str, Tensor]:
    """Drop the resampling filters, which are the same everywhere.

    Raises:
        InputError: one is not.
    """
    expected = kernel(taps)
    for name, tensor in tensors.items():
        if name.endswith(".resample_filter") and not tensor.equal(expected):
            raise InputError(f"{name!r:.100} is not the filter that its constructor's arguments say")
    return {name: tensor.float() for name, tensor in tensors.items() if not name.endswith(".resample_filter")}
