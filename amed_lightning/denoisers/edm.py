"""EDM's and EDM2's published pickles (Karras et al. 2022, 2024): ``{"ema": EDMPrecond, ...}``, read and never run.

The object's constructor arguments are the options of :class:`~amed_lightning.denoisers.ddpmpp.DDPMpp`,
:class:`~amed_lightning.denoisers.adm.ADM` or :class:`~amed_lightning.denoisers.edm2.EDM2`, and its tensors fit one to
one. Its resampling filters are compared with the options' and dropped. A coefficient of the object itself that was left
out is what the object's attribute of that name says, or else EDM's default; of its levels, which tools set anew, only
the arguments count. ``use_fp16`` is left to the user's choice of arithmetic; ``label_dropout`` and ``logvar_channels``
are training's.

============ ==================================== ====================================================================
object       around which network                 levels
============ ==================================== ====================================================================
EDMPrecond   EDM's own                            0.002 to 80, as AMED and EDM's sampler use it; narrower if it says so
VPPrecond    VP of Song et al. 2021, a baseline   those of times epsilon_t and 1
VEPrecond    VE of Song et al. 2021, a baseline   0.02 to 100, unless it says otherwise
iDDPMPrecond ADM, a baseline                      u_{M-1} to u_0 of its table, which is compared with the formula's
Precond      EDM2's, its weights at unit length   0.002 to 80, as EDM2's sampler uses it
============ ==================================== ====================================================================
"""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from amed_lightning.config import InputError, shown
from amed_lightning.denoisers.edm2 import of_unit_length
from amed_lightning.denoisers.files import StoredModel
from amed_lightning.denoisers.layers import MEAN, kernel
from amed_lightning.denoisers.model_card import ModelCard
from amed_lightning.denoisers.pickled_modules import TensorReader, held
from amed_lightning.denoisers.pickles import read_pickle
from amed_lightning.denoisers.preconditioning import IDDPM, VP

ARCHITECTURES = {"SongUNet": "ddpmpp", "DhariwalUNet": "adm", "UNet": "edm2"}
_BOTTLENECK_RESOLUTION = 8
"""Where features are taken, or else at the lowest resolution."""
_DEFAULT_LEVELS = range(4)
"""A network has as many levels if its arguments do not say."""
_LONGEST = 64
"""Entries of a list and letters of a word that an argument can have."""
_NO_NETWORK = "none of EDM's networks (name the model of an AMED predictor)"
_IRRELEVANT = ("use_fp16", "label_dropout", "logvar_channels")
"""Arguments that do not change the network here."""
EDM_LEVELS = (0.002, 80.0)
_LAST_CONVOLUTIONS = ("model.out_conv.weight", "_aux_conv.weight")
"""How the names of the tensors end that have a row for each output."""
_TABLE_TOLERANCE = 2e-3
"""Relative error of a table of levels; the published one was computed in single precision."""

Numbers = dict[str, Any]


class Precond(NamedTuple):
    """One of EDM's objects around a network.

    Attributes:
        preconditioning: a key of ``PRECONDITIONINGS``.
        model_type: of the network, if its arguments do not say.
        coefficients: of the preconditioning, and their defaults.
        levels: arguments that say between which levels it works, and their defaults.
        card: from all these numbers, what a card says of preconditioning and levels.
        tables: from the coefficients, the tensors that it keeps beside the network's.
        weights: from its tensors, those of a denoiser.
    """

    preconditioning: str
    model_type: str
    coefficients: Numbers
    levels: Numbers
    card: Callable[[Numbers, Numbers], dict[str, Any]]
    tables: Callable[[Numbers], dict[str, Tensor]] = lambda coefficients: {}
    weights: Callable[[Mapping[str, Tensor]], dict[str, Tensor]] = dict


def _edm(coefficients: Numbers, levels: Numbers) -> dict[str, Any]:
    smallest, largest = EDM_LEVELS
    narrowed = {"sigma_min": max(smallest, levels["sigma_min"]), "sigma_max": min(largest, levels["sigma_max"])}
    return coefficients | narrowed


def _vp(coefficients: Numbers, levels: Numbers) -> dict[str, Any]:
    form = VP(**coefficients)
    ends = {"sigma_min": form.sigma(levels["epsilon_t"]), "sigma_max": form.sigma(1.0)}
    return {"sigma_data": 1.0, "preconditioning_options": coefficients, **ends}


def _ve(coefficients: Numbers, levels: Numbers) -> dict[str, Any]:
    return {"sigma_data": 1.0, **levels}


def _iddpm(coefficients: Numbers, levels: Numbers) -> dict[str, Any]:
    ends = dict(zip(("sigma_min", "sigma_max"), IDDPM(**coefficients).levels, strict=True))
    return {"sigma_data": 1.0, "preconditioning_options": coefficients, **ends}


def _iddpm_tables(coefficients: Numbers) -> dict[str, Tensor]:
    return {"u": IDDPM(**coefficients).u}


_EDM_DEFAULTS: tuple[Numbers, Numbers] = {"sigma_data": 0.5}, {"sigma_min": 0.0, "sigma_max": math.inf}
WRAPPERS = {
    "EDMPrecond": Precond("edm", "DhariwalUNet", *_EDM_DEFAULTS, _edm),
    "VPPrecond": Precond("edm_vp", "SongUNet", {"beta_d": 19.9, "beta_min": 0.1, "M": 1000}, {"epsilon_t": 1e-5}, _vp),
    "VEPrecond": Precond("edm_ve", "SongUNet", {}, {"sigma_min": 0.02, "sigma_max": 100.0}, _ve),
    "iDDPMPrecond": Precond(
        "edm_iddpm", "DhariwalUNet", {"C_1": 0.001, "C_2": 0.008, "M": 1000}, {}, _iddpm, _iddpm_tables
    ),
    "Precond": Precond("edm2", "UNet", *_EDM_DEFAULTS, _edm, weights=of_unit_length),
}
"""EDM's table 1, column by column, and EDM2's; the defaults are those of its constructors."""


def read_edm(path: Path) -> StoredModel:
    """Read a network.

    Args:
        path: of the ``.pkl``.

    Raises:
        InputError: a missing or damaged file, one that names what no such file needs, or another object's.
    """
    content = read_pickle(path)
    try:
        network, kind, state = held(content, "ema", WRAPPERS, _NO_NETWORK)
        tensors = WRAPPERS[kind].weights(dict(TensorReader(path.stat().st_size).tensors(network)))
        card = edm_card(_arguments(state), kind, state, _outputs(tensors))
        tables = WRAPPERS[kind].tables(card.preconditioning_options)
        weights = _without_filters(_without_tables(tensors, tables), card.network.get("resample_filter", MEAN))
    except (ValueError, TypeError, IndexError, ArithmeticError) as error:
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
        if len(parts) > _LONGEST or not all(_is_plain(part) for part in [name, *parts]):
            raise InputError(f"its constructor's argument {shown(name)} is not plain")
    return arguments


def _is_plain(value: Any) -> bool:
    if isinstance(value, str):
        return len(value) <= _LONGEST and value.isascii() and value.isprintable()
    return isinstance(value, int | float | None)


def edm_card(
    arguments: Mapping[str, Any],
    kind: str = "EDMPrecond",
    attributes: Mapping[str, Any] = MappingProxyType({}),
    outputs: int | None = None,
) -> ModelCard:
    """Turn constructor arguments into a card.

    Args:
        arguments: of the object's constructor.
        kind: the object's class, a key of ``WRAPPERS``.
        attributes: of the object; a coefficient that is no argument is looked up there.
        outputs: channels that the network says; twice the images' are noise and variance.

    Raises:
        InputError: an unknown network, no resolution, or a coefficient that is no number.
    """
    options, wrapper = {name: value for name, value in arguments.items() if name not in _IRRELEVANT}, WRAPPERS[kind]
    coefficients = {
        name: _number(name, options.pop(name, attributes.get(name, default)), default)
        for name, default in wrapper.coefficients.items()
    }
    levels = {name: _number(name, options.pop(name, default), default) for name, default in wrapper.levels.items()}
    model_type = options.pop("model_type", wrapper.model_type)
    if model_type not in ARCHITECTURES or "img_resolution" not in options:
        raise InputError(
            f"a network {shown(model_type)} of no known resolution; expected a {' or '.join(ARCHITECTURES)}"
        )
    depth = len(options.get("channel_mult", _DEFAULT_LEVELS))
    resolutions = [options["img_resolution"] >> level for level in range(depth)]
    bottleneck = _BOTTLENECK_RESOLUTION if _BOTTLENECK_RESOLUTION in resolutions else resolutions[-1]
    options["bottleneck_resolution"] = bottleneck
    if outputs is not None and outputs == 2 * options.get("img_channels", 0):
        options["further_outputs"] = outputs - options["img_channels"]
    described: dict[str, Any] = {"architecture": ARCHITECTURES[model_type], "preconditioning": wrapper.preconditioning}
    return ModelCard(options, **described, **wrapper.card(coefficients, levels))


def _number(name: str, value: Any, default: int | float) -> int | float:
    """Return a coefficient, whole where its default is.

    Raises:
        InputError: it is no such number.
    """
    whole = isinstance(default, int)
    if isinstance(value, bool) or not isinstance(value, int if whole else int | float) or math.isnan(value):
        raise InputError(f"{name} is {shown(value)}, where a {'whole ' if whole else ''}number is expected")
    return value if whole else float(value)


def _outputs(tensors: dict[str, Tensor]) -> int | None:
    """Return how many channels the network says."""
    return next((len(tensor) for name, tensor in tensors.items() if name.endswith(_LAST_CONVOLUTIONS)), None)


def _without_tables(tensors: dict[str, Tensor], tables: dict[str, Tensor]) -> dict[str, Tensor]:
    """Drop the tables that follow from an object's coefficients.

    Raises:
        InputError: one does not.
    """
    for name, expected in tables.items():
        found = tensors.get(name, expected)
        if found.shape != expected.shape or not torch.allclose(found.double(), expected, rtol=_TABLE_TOLERANCE, atol=0):
            raise InputError(f"{name!r} is not the table that its constructor's arguments say")
    return {name: tensor for name, tensor in tensors.items() if name not in tables}


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
