"""Where samples go: a folder with a PNG file per seed, named by it, or one grid. Each file says what made it.

So a run that was stopped goes on: images of the very same run are kept. A grid's images lie beside it, in a hidden
folder of their own, until all are there.
"""

import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import torch
from torchvision.utils import make_grid

from amed_lightning.config import InputError, canonical_json, digest
from amed_lightning.data.listing import listing
from amed_lightning.data.picture import Record, read_image, record_in, write_image
from amed_lightning.runtime.places import require_place
from amed_lightning.tensors import Bytes

VERB = "sample"
_GRID_COLUMNS = 16


class Samples:
    """The images of one run of ``sample``.

    Args:
        output: folder, or a .png for a grid.
        record: what makes them; runs of one code (its provenance's ``source``) with one record's other parts are one.

    Raises:
        InputError: this is no place to write to.
    """

    def __init__(self, output: Path, record: Record) -> None:
        self.output, self.record = output, record
        self.is_grid = output.suffix.lower() == ".png"
        require_place(output, is_folder=not self.is_grid)
        beside = output.with_name(f".{output.stem}.{digest(_run(record))[:16]}")
        self.folder = beside if self.is_grid else output

    def to_replace(self, overwrite: bool) -> list[Path]:
        """Return the images that another ``sample`` left where this one is about to write, so that they are not mixed.

        Args:
            overwrite: whether they may be replaced.

        Raises:
            InputError: there are some and they may not, or there are images that no ``sample`` wrote there.
        """
        if not self.output.exists():
            return []
        images = [self.output] if self.is_grid else [self.output / name for name in listing(self.output).names]
        records = {image: record_in(image) for image in images}
        others = [image for image in images if not self._is_of(records[image], self.record)]
        if others and not overwrite:
            raise InputError(
                f"--output {self.output}: holds {len(others)} images already, like {others[0].name}; name another, or "
                "replace those that `sample` wrote with --overwrite"
            )
        for image, record in records.items():
            if record is None or record.verb != VERB or not self._is_own(image, record.seeds):
                raise InputError(f"--output {self.output}: `sample` did not write {image}; move it away")
        return others

    def are_there(self, seeds: Sequence[int]) -> bool:
        """Whether the images of some seeds, or the grid that shows them, are there."""
        return (self.is_grid and self.output.is_file()) or all(self._path(seed).is_file() for seed in seeds)

    def write(self, seeds: Sequence[int], images: Bytes, **facts: object) -> None:
        """Write the image of each seed, with what its provenance says besides the run's."""
        self.folder.mkdir(parents=True, exist_ok=True)
        record = replace(self.record, provenance=self.record.provenance | facts)
        for seed, image in zip(seeds, images, strict=True):
            write_image(self._path(seed), image, record)

    def join(self) -> None:
        """Make the grid of all images."""
        paths = [self._path(seed) for seed in range(*self.record.seeds)]
        images = torch.stack([read_image(path.read_bytes(), str(path))[0] for path in paths])
        write_image(self.output, make_grid(images, nrow=_GRID_COLUMNS, padding=1), self.record)

    def close(self) -> None:
        """Remove what a grid was made of, once it is there, and a folder in which nothing is."""
        if self.is_grid and self.output.is_file():
            shutil.rmtree(self.folder, ignore_errors=True)  # another process may be at a last look
        with suppress(OSError):
            self.folder.rmdir()

    def _path(self, seed: int) -> Path:
        return self.folder / f"{seed:06d}.png"

    def _is_own(self, image: Path, seeds: Sequence[int]) -> bool:
        """Whether an image is where a run over these seeds put it."""
        if image == self.output:
            return True
        return image.stem.isdecimal() and int(image.stem) in range(*seeds) and image == self._path(int(image.stem))

    @staticmethod
    def _is_of(found: Record | None, record: Record) -> bool:
        return found is not None and canonical_json(_run(found)) == canonical_json(_run(record))


def _run(record: Record) -> list[object]:
    """Return what two starts of one command have in common."""
    return [record.verb, record.made_by, list(record.seeds), record.provenance.get("source")]
