"""Where samples go: a folder with a PNG file per seed, named by it, or one grid. Each file says what made it."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from torchvision.utils import make_grid

from amed_lightning.config import InputError
from amed_lightning.data.listing import listing
from amed_lightning.data.picture import Record, record_in, write_image
from amed_lightning.runtime.places import require_place
from amed_lightning.tensors import Bytes

VERB = "sample"
GRID_COLUMNS = 16


def _is_grid(output: Path) -> bool:
    return output.suffix.lower() == ".png"


def _name(seed: int) -> str:
    return f"{seed:06d}.png"


def images_to_replace(output: Path, overwrite: bool) -> list[Path]:
    """Return the images that an earlier ``sample`` left where one is about to write, so that they are not mixed.

    Args:
        output: folder, or a .png for a grid.
        overwrite: whether they may be replaced.

    Raises:
        InputError: there are some and they may not, there are images that no ``sample`` wrote there, or this is no
            place to write to.
    """
    require_place(output, is_folder=not _is_grid(output))
    if not output.exists():
        return []
    images = [output] if _is_grid(output) else [output / name for name in listing(output).names]
    if images and not overwrite:
        raise InputError(
            f"--output {output}: holds {len(images)} images already, like {images[0].name}; name another, or replace "
            "those that `sample` wrote with --overwrite"
        )
    for image in images:
        record = record_in(image)
        if record is None or record.verb != VERB or not _is_own(image, output, record.seeds):
            raise InputError(f"--output {output}: `sample` did not write {image}; move it away")
    return images


def _is_own(image: Path, output: Path, seeds: Sequence[int]) -> bool:
    """Whether an image is where a run over these seeds put it."""
    if image == output:
        return True
    return image.stem.isdecimal() and int(image.stem) in range(*seeds) and image == output / _name(int(image.stem))


def write_samples(output: Path, images: Bytes, record: Record, replaced: Iterable[Path]) -> None:
    """Write images of consecutive seeds, all or none, in place of earlier ones.

    Args:
        output: folder, or a .png for a grid.
        images: one per seed of the record.
        record: what made them.
        replaced: what :func:`images_to_replace` returned.

    Raises:
        OSError: they cannot be written.
    """
    for image in replaced:
        image.unlink(missing_ok=True)
    if _is_grid(output):
        output.parent.mkdir(parents=True, exist_ok=True)
        write_image(output, make_grid(images, nrow=GRID_COLUMNS, padding=1), record)
        return
    output.mkdir(parents=True, exist_ok=True)
    paths = [output / _name(seed) for seed in range(*record.seeds)]
    try:
        for path, image in zip(paths, images, strict=True):
            write_image(path, image, record)
    except OSError:
        for path in paths:
            path.unlink(missing_ok=True)
        raise
