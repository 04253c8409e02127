"""Weights that are not ours: the right file, or none.

A file is right if its SHA-256 is the one that the configuration pins; else the one its name promises (PyTorch's hub
writes the first digits into it, ``<name>-6726825d.pth``); else, for a file that nobody knows, the one it had when it
was first used, which is kept beside it in ``<file>.sha256``.
"""

import re
import sys
from http.client import HTTPException
from pathlib import Path
from urllib.parse import urlparse

import torch

from amed_lightning.config import InputError, file_digest, write_atomically

NAMED_DIGEST = re.compile(r"-([0-9a-f]{8,64})\.[^.]+$")


def checked_digest(path: Path, sha256: str | None = None) -> str:
    """Return the SHA-256 of a file of weights after comparing it.

    Args:
        path: of the file.
        sha256: what the file must have, or its first digits; None to go by its name or its first use.

    Raises:
        InputError: no such file, another digest, or a first use that cannot be recorded.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    record = path.with_name(f"{path.name}.sha256")
    named = NAMED_DIGEST.search(path.name)
    expected = sha256 or (named and named[1]) or (record.is_file() and record.read_text().strip())
    actual = file_digest(path)
    if not expected:
        _record(record, actual)
    elif not actual.startswith(expected.lower()):
        raise InputError(
            f"{path}: its SHA-256 is {actual} and should be {expected}; the file is damaged or another one"
        )
    return actual


def _record(record: Path, sha256: str) -> None:
    """Keep the digest of a file that is used for the first time."""
    try:
        write_atomically(record, f"{sha256}\n".encode())
    except OSError as error:
        raise InputError(f"{record}: cannot be written; pin the weights with the option sha256: {sha256}") from error


def downloaded(address: str, sha256: str) -> Path:
    """Return a released file from PyTorch's cache, fetching it first if it is not there.

    Args:
        address: of the release.
        sha256: of the file.

    Raises:
        InputError: it is not in the cache and cannot be fetched.
    """
    path = Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(address).path).name
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(address, str(path), sha256, progress=sys.stderr.isatty())
        except (OSError, HTTPException, RuntimeError) as error:
            raise InputError(
                f"{path}: not there, and {address} cannot be fetched ({error}); put the file there by hand, "
                "or name a copy with the option path"
            ) from error
    return path
