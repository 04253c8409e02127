"""What a training took and how it went: a JSON beside its result, of this form.

``{"seconds": 7200.0, "batches": 20000, "curve": [{"batches": 1000, "val/loss": 0.21}, ...], "starts": [...]}``

Seconds are those of all starts of a run, with validation; of a start that was killed, up to its last checkpoint.
A start says after how many batches it was, and its versions, device and commit.
The result itself holds none of this, so that a run that is repeated exports the same bytes.
"""

import json
import time
from pathlib import Path
from typing import Any

from amed_lightning.config import write_atomically

ENDING = ".training.json"


class TrainingRecord:
    """The seconds and the curve of a run, over all its starts, and what each was started with."""

    def __init__(self) -> None:
        self._before = 0.0
        self._began: float | None = None
        self.curve: list[dict[str, float]] = []
        self.starts: list[dict[str, Any]] = []

    @property
    def seconds(self) -> float:
        """Seconds of all starts until now."""
        return self._before + (0.0 if self._began is None else time.monotonic() - self._began)

    def begin(self, batches: int, source: dict[str, Any]) -> None:
        """Start the clock.

        Args:
            batches: trained on before.
            source: versions, device and commit.
        """
        self._began = time.monotonic()
        self.starts.append({"batches": batches, **source})

    def note(self, batches: int, values: dict[str, float]) -> None:
        """Add a point to the curve.

        Args:
            batches: trained on so far.
            values: finite, by their names.
        """
        self.curve.append({"batches": batches, **values})

    def state(self) -> dict[str, Any]:
        """Return what a later start needs."""
        return {"seconds": self.seconds, "curve": list(self.curve), "starts": list(self.starts)}

    def go_on(self, state: dict[str, Any]) -> None:
        """Go on from what :meth:`state` returned."""
        self._before = state["seconds"]
        self.curve, self.starts = list(state["curve"]), list(state["starts"])

    def write(self, result: Path, batches: int) -> None:
        """Write the record beside a result.

        Args:
            result: the file that the training has exported.
            batches: that it has taken.
        """
        content = {"seconds": round(self.seconds, 1), "batches": batches, "curve": self.curve, "starts": self.starts}
        write_atomically(beside(result), json.dumps(content, indent=2).encode() + b"\n")


def beside(result: Path) -> Path:
    """Return where a result's record is.

    >>> beside(Path("runs/denoiser.json")).name
    'denoiser.training.json'
    """
    return result.with_name(result.stem + ENDING)
