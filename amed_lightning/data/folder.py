"""Images as files: in a folder, or in a zip that is laid out like EDM's.

Nested folders are searched; the order is that of the names. Files that are not read are counted in the set's notes.
A ``dataset.json`` at the top gives the labels of all images, as EDM's tool writes it:
``{"labels": [["00000/img00000000.png", 6], ...]}``, or null where there are none.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from amed_lightning.config import InputError
from amed_lightning.data.images import ImageSet, Label, Pixels
from amed_lightning.data.listing import Listing, ending, endings, listing
from amed_lightning.data.picture import LARGEST, LOSSY, UNREADABLE, Record, read_image
from amed_lightning.runtime.json_text import parse_json

LABELS = "dataset.json"
BYTES_OF_LETTER, BYTES_OF_LABEL = 6, 256
"""At most, in JSON: a letter of a name written as its number; brackets, indentation and class of an image."""
_MOST_CLASSES = 1 << 31


def image_files(path: Path) -> ImageSet:
    """Return the images of a folder or a zip, which is not unpacked.

    Args:
        path: of the folder or the zip.

    Raises:
        InputError: there are none, or what :func:`listing` refuses, or the labels are not EDM's or not those of these
            images; later, when they are read, that one is no image, would be changed by reading, was made by another
            sampler than the first, or differs from it in size or channels.
    """
    path = Path(path)
    found = listing(path)
    names, left_out = found.names, found.left_out(but=[LABELS])
    if not names:
        raise InputError(f"{path}: no images there" + (f"; left out: {left_out}" if left_out else ""))
    labels = _labels(path / LABELS, _content(path, found, LABELS), names) if LABELS in found.others else {}
    _, first = read_image(_content(path, found, names[0]), str(path / names[0]))

    def read(number: int) -> tuple[Pixels, Label]:
        pixels, record = read_image(_content(path, found, names[number]), str(path / names[number]))
        if differing := _differing(first, record):
            raise InputError(
                f"{path / names[number]}: not made by what made {names[0]} (another {', '.join(differing)}); "
                "score the images of one sampler at a time"
            )
        return pixels, labels.get(names[number])

    notes = [f"{path}: {note}" for note in _notes(names, left_out, first)]
    return ImageSet(len(names), read, lambda number: str(path / names[number]), notes)


def _content(path: Path, found: Listing, name: str) -> bytes:
    try:
        with found.open(name) as file:
            content = file.read(LARGEST + 1)
    except UNREADABLE as error:
        raise InputError(f"{path / name}: not a readable file ({error})") from error
    if len(content) > LARGEST:
        raise InputError(f"{path / name}: more than {LARGEST} bytes")
    return content


def _notes(names: Sequence[str], left_out: str, first: Record | None) -> Iterator[str]:
    """Say what is not read, and what may be doubted about what is."""
    if left_out:
        yield f"left out: {left_out}"
    if lossy := sum(endings()[ending(name)] in LOSSY for name in names):
        kinds = " or ".join(LOSSY)
        yield f"{lossy} of {len(names)} images are {kinds}: what that loses moves FID against images kept without loss"
    if first is not None and len(names) != first.seeds[1] - first.seeds[0]:
        seeds = f"seeds {first.seeds[0]} to {first.seeds[1] - 1}"
        yield f"{len(names)} images, and the run that made {names[0]} was over {seeds}"


def _differing(first: Record | None, other: Record | None) -> list[str]:
    """Return in what the makers of two images differ."""
    one, another = ({} if record is None else record.made_by for record in (first, other))
    return sorted(key for key in one.keys() | another.keys() if one.get(key) != another.get(key))


def _labels(path: Path, content: bytes, names: Sequence[str]) -> dict[str, int]:
    """Read the labels by file name."""
    most = sum(map(len, names)) * BYTES_OF_LETTER + len(names) * BYTES_OF_LABEL
    if len(content) > most:
        raise InputError(f"{path}: {len(content)} bytes, more than the labels of {len(names)} images take")
    try:
        pairs = parse_json(content)["labels"] or []
        labels = dict(pairs)
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(f'{path}: expected {{"labels": [[<file>, <class>], ...]}} or null for no labels') from error
    if not all(isinstance(name, str) for name in labels):
        raise InputError(f"{path}: a label is that of a file, which is called by its name")
    if not all(isinstance(label, int) and label < _MOST_CLASSES for label in labels.values()):
        raise InputError(f"{path}: a label is the number of a class")
    if len(labels) < len(pairs):
        raise InputError(f"{path}: labels a file twice")
    if labels and (absent := sorted(labels.keys() - set(names))):
        raise InputError(f"{path}: {len(absent)} labels are of files that are not among the images, like {absent[0]}")
    if labels and (bare := sorted(set(names) - labels.keys())):
        raise InputError(f"{path}: {len(bare)} images have no label, like {bare[0]}; label all, or write null for none")
    return labels
