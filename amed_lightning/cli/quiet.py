"""What Lightning says at every fit's start and nobody can use: devices that are not there, advertisements, seeds."""

import logging
import warnings

_SPEAKERS = tuple(f"lightning.{part}" for part in ("pytorch.utilities.rank_zero", "fabric.utilities.rank_zero"))
_SPEAKERS += ("lightning.fabric.utilities.seed",)
LEFT_OUT = (
    "GPU available: ",
    "TPU available: ",
    "\N{ELECTRIC LIGHT BULB} Tip: ",
    "Seed set to ",
    "stopped: `max_epochs=",
)
"""The seed is in the configuration, and how a fit has ended is said by what it has found."""


def quieten_lightning() -> None:
    """Leave these lines out, and what Lightning itself calls that will be renamed; all else it says stays."""
    for name in _SPEAKERS:
        logging.getLogger(name).addFilter(_is_news)
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"lightning\.")


def _is_news(record: logging.LogRecord) -> bool:
    return not any(words in record.getMessage() for words in LEFT_OUT)
