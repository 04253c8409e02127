"""References that a folder keeps: real images pass a detector once, whichever process and whichever job needs them.

What a detector made of a set of images is a file that its pixels name, so it is never taken for another set's. Which
pixels a set has now is looked up once per job, by one process; without the detector, where there is a file already.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

from amed_lightning.config import InputError, digest, write_atomically
from amed_lightning.data.images import ImageSet, Inventory
from amed_lightning.metrics.statistics import Statistics, read_statistics, write_statistics
from amed_lightning.runtime.processes import Processes
from amed_lightning.runtime.progress import progress
from amed_lightning.runtime.signals import stop_if_asked
from amed_lightning.runtime.work import shared


@dataclass(frozen=True)
class KeptReferences:
    """Statistics of real images, in a folder that processes share.

    Attributes:
        folder: of the files.
        processes: this process among those of its job; all of them ask for the same references in the same order.
        version: of the code's numbers; what another one has left does not count.
    """

    folder: Path
    processes: Processes
    version: int
    _found: dict[str, Path] = field(default_factory=dict, repr=False)

    def __call__(self, name: Any, images: ImageSet, look: Callable[[], Statistics]) -> Statistics:
        """Return the statistics of some images.

        Args:
            name: tells what makes them: the detector, the set, and what is kept of it.
            images: the set.
            look: shows it to the detector.

        Raises:
            InputError: an image that cannot be read, or that the detector does not take.
        """
        key = digest([name, self.version])[:16]
        if key not in self._found:
            self._found[key] = self._looked_up(key, images, look)
        return replace(read_statistics(self._found[key]), notes=images.notes)

    def _looked_up(self, key: str, images: ImageSet, look: Callable[[], Statistics]) -> Path:
        """Return the file that belongs to the images as this job has found them."""
        job, place = self.processes.broadcast(uuid4().hex), self.folder / f"{key}.json"

        def is_done(_: str) -> bool:
            return _told(place).get("job") == job

        unit, tell = "sets of real images", lambda _: None
        with shared("reference", [key], is_done, self.folder, self.processes, unit, tell) as mine:
            for _ in mine:
                self._look_up(key, place, job, images, look)
        return self._file(key, _told(place)["pixels"])

    def _look_up(self, key: str, place: Path, job: str, images: ImageSet, look: Callable[[], Statistics]) -> None:
        """Write which pixels the images have, and the file of these if there is none."""
        pixels = _pixels_of(images) if any(self.folder.glob(f"{key}-*.npz")) else ""
        if not _is_there(self._file(key, pixels), pixels):
            statistics = look()
            pixels = statistics.dataset
            write_statistics(self._file(key, pixels), statistics)
        write_atomically(place, json.dumps({"pixels": pixels, "job": job}).encode())

    def _file(self, key: str, pixels: str) -> Path:
        return self.folder / f"{key}-{pixels[:16]}.npz"


def _told(place: Path) -> dict[str, str]:
    """Read which pixels a set had, and which job has looked; nothing where nobody has, or the file is damaged."""
    try:
        told: dict[str, str] = json.loads(place.read_text())
        return {name: told[name] for name in ("pixels", "job")}
    except (FileNotFoundError, ValueError, TypeError, KeyError):
        return {}


def _is_there(file: Path, pixels: str) -> bool:
    """Whether a file is whole and of these pixels."""
    try:
        return read_statistics(file).dataset == pixels
    except InputError:
        return False


def _pixels_of(images: ImageSet) -> str:
    """Return the digest of a set's pixels, which statistics of it have too."""
    seen = Inventory()
    with progress("reference", images.count, "images") as advance:
        for batch in images.batches(256):
            stop_if_asked()
            seen.add(*batch)
            advance(len(batch[0]))
    return seen.digest
