"""What lies in a folder or a zip: which files are images, and what each other one is.

A name tells an image by its ending, in any case; Pillow knows the endings. An image whose name does not end so, and two
names that differ in case alone, are refused. Everything else that is not read has a kind, so that it can be counted:
hidden files and folders, macOS' ``__MACOSX``, links to folders, links to nothing, and files by their ending.
"""

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn, TypeAlias
from zipfile import ZipFile

from PIL import Image

from amed_lightning.config import InputError
from amed_lightning.data.picture import FORMATS, LARGEST, UNREADABLE

_MACOS = "__MACOSX"
Entry: TypeAlias = tuple[str, str]
"""A name, and why nothing can be read there; empty if something can."""
Open: TypeAlias = Callable[[str], Any]
"""Opens a file by its name, to be read."""


@cache
def endings() -> dict[str, str]:
    """Return the endings of images in small letters, and what Pillow calls the formats."""
    known = Image.registered_extensions().items()
    return {ending: kind for ending, kind in known if Image.MIME.get(kind, "").startswith("image/")}


def ending(name: str) -> str:
    """Return the ending of a name, in small letters.

    >>> ending("a.b/c.PNG")
    '.png'
    """
    return PurePosixPath(name).suffix.lower()


@dataclass(frozen=True)
class Listing:
    """A folder or a zip.

    Attributes:
        names: of the images, in order, with the folders inside before them.
        others: kinds of all other files.
        open: opens a file by its name.
    """

    names: Sequence[str]
    others: dict[str, str]
    open: Open

    def left_out(self, but: Sequence[str] = ()) -> str:
        """Count the other files by their kinds, with an example of each.

        Args:
            but: names that are not left out.
        """
        kinds: dict[str, list[str]] = defaultdict(list)
        for name in sorted(self.others.keys() - set(but)):
            kinds[self.others[name]].append(name)
        return ", ".join(f"{len(names)} {kind} ({names[0]})" for kind, names in sorted(kinds.items()))


def listing(path: Path) -> Listing:
    """Look into a folder, and the folders inside it, or into a zip.

    Raises:
        InputError: there is no such thing, a folder that cannot be looked into, an image by another name, or two names
            that are one where case does not count.
    """
    entries, open_ = (list(_below(path)), _opener(path)) if path.is_dir() else _zipped(path)
    kinds = [(name, kind or _kind(path, name, open_)) for name, kind in _with_hidden(entries)]
    names = sorted(name for name, kind in kinds if not kind)
    _refuse_twins(path, names)
    return Listing(names, {name: kind for name, kind in kinds if kind}, open_)


def _opener(path: Path) -> Open:
    return lambda name: (path / name).open("rb")


def _below(path: Path) -> Iterator[Entry]:
    """Find everything below a folder; no link to another folder is followed."""
    for parent, folders, files in os.walk(path, onerror=_refuse):
        here = Path(parent)
        for folder in (here / name for name in folders):
            if folder.is_symlink():
                yield folder.relative_to(path).as_posix(), "link to a folder"
        for file in (here / name for name in files):
            what = "" if file.is_file() else "link to nothing" if file.is_symlink() else "special file"
            yield file.relative_to(path).as_posix(), what


def _refuse(error: OSError) -> NoReturn:
    raise InputError(f"{error.filename}: {error.strerror}, so what is there cannot be counted") from error


def _zipped(path: Path) -> tuple[list[Entry], Open]:
    """Find everything in a zip."""
    try:
        archive = ZipFile(path)
    except FileNotFoundError:
        raise InputError(f"{path}: no such folder or zip") from None
    except UNREADABLE as error:
        raise InputError(f"{path}: neither a folder nor a readable zip") from error
    return [(entry.filename, "") for entry in archive.infolist() if not entry.is_dir()], _unpacker(archive)


def _unpacker(archive: ZipFile) -> Open:
    """Return what opens a file of a zip, unless it becomes larger than an image can be."""

    def open_(name: str) -> Any:
        if (size := archive.getinfo(name).file_size) > LARGEST:
            raise InputError(f"{size} bytes, and at most {LARGEST} are read")
        return archive.open(name)

    return open_


def _with_hidden(entries: Iterable[Entry]) -> Iterator[Entry]:
    for name, kind in entries:
        hidden = any(part.startswith(".") or part == _MACOS for part in PurePosixPath(name).parts)
        yield name, "hidden" if hidden else kind


def _kind(path: Path, name: str, open_: Open) -> str:
    """Return what a file is; empty for an image."""
    if ending(name) in endings():
        return ""
    try:
        with open_(name) as file:
            Image.open(file, formats=FORMATS)
    except UNREADABLE:
        return ending(name) or "without ending"
    raise InputError(f"{path / name}: an image whose name does not end like one; rename it, or move it away")


def _refuse_twins(path: Path, names: Sequence[str]) -> None:
    """Refuse names that some systems take for one, and a name that a zip has twice: one would be read twice."""
    for folded, count in Counter(name.casefold() for name in names).items():
        if count > 1:
            twins = " and ".join(name for name in names if name.casefold() == folded)
            raise InputError(f"{path}: {twins} are one name where case does not count; rename one")
