"""Zips that anybody may have packed: kilobytes of one can become terabytes."""

import zlib
from pathlib import Path
from zipfile import ZIP_STORED, BadZipFile, LargeZipFile, ZipFile, ZipInfo

from amed_lightning.config import InputError

MOST_PACKED, NEVER_MUCH = 10, 1 << 20
"""How many times its packed size a file of numbers may have, from so many bytes on: they hardly pack."""
UNREADABLE = (BadZipFile, LargeZipFile, EOFError, KeyError, OSError, RuntimeError, ValueError, zlib.error)
"""What zipfile raises for archives that are damaged or of a kind that it does not know."""


def require_plausible(archive: Path, entry: ZipInfo) -> None:
    """Refuse a zipped file of numbers that becomes far larger than it is packed.

    Args:
        archive: for messages.
        entry: the file.

    Raises:
        InputError: it does.
    """
    if entry.file_size > max(NEVER_MUCH, MOST_PACKED * entry.compress_size):
        raise InputError(
            f"{archive}: its {entry.filename!r:.80} would become {entry.file_size} bytes of {entry.compress_size}, "
            "which numbers never do"
        )


def require_stored(path: Path) -> None:
    """Refuse a zip whose files are packed, where what writes such zips packs none.

    Raises:
        InputError: one is.
        BadZipFile: it is no zip.
    """
    with ZipFile(path) as archive:
        for entry in archive.infolist():
            if entry.compress_type != ZIP_STORED or entry.file_size != entry.compress_size:
                raise InputError(f"{path}: its {entry.filename!r:.80} is packed, which torch.save never does")
