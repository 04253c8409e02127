"""The folder of fetched files: each there whole and checked, or not at all.

A file is used only while its SHA-256 is the expected one. Where nobody published one, it is recorded on first use in
``<name>.sha256`` beside the file, as ``sha256sum`` writes it, and expected from then on. Until its digest is right, a
file is called ``<name>.part``.

One process of a job fetches and the others wait for the file; two jobs on one machine take turns.
"""

import os
import shutil
import time
from pathlib import Path
from zipfile import ZipFile

from filelock import FileLock

from amed_lightning.config import InputError, file_digest, write_atomically
from amed_lightning.runtime.download import RemoteFile, TransferError, download, size_of
from amed_lightning.runtime.network import is_offline
from amed_lightning.runtime.zips import UNREADABLE, require_plausible

SECONDS_OF_PATIENCE = 300.0
"""A process that waits for another's transfer gives up when it stands still for so long."""
SECONDS_BETWEEN_LOOKS = 1.0
RANKS = ("SLURM_PROCID", "NODE_RANK", "LOCAL_RANK")
"""How SLURM and Lightning tell a process its number; torchrun's ``RANK`` has priority."""


def cache_folder() -> Path:
    """Return the folder of fetched files: ``AMED_CACHE``, or ``amed-lightning`` in the user's cache folder (XDG)."""
    if own := os.environ.get("AMED_CACHE"):
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "amed-lightning"


def is_first_process() -> bool:
    """Tell whether this process has no number in its job, or the first."""
    return all(os.environ.get(rank, "0") == "0" for rank in (["RANK"] if "RANK" in os.environ else RANKS))


def fetch(file: RemoteFile, folder: Path, every_process: bool = False) -> Path:
    """Return where a file lies, after fetching it if it is missing; its digest is compared in any case.

    Args:
        file: what to fetch.
        folder: where it is kept.
        every_process: let also a job's other processes fetch, for caches that are each node's own.

    Raises:
        InputError: it cannot be had, or it is another file.
    """
    path = folder / file.name
    try:
        if not path.is_file():
            if is_offline():
                raise InputError(_by_hand(file, path, "AMED_OFFLINE forbids the network"))
            if every_process or is_first_process():
                _fetch_in_turn(file, path)
                return path
            _wait_for(path)
        check(file, path)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}; AMED_CACHE names another folder") from error
    return path


def check(file: RemoteFile, path: Path) -> None:
    """Compare a file with its digest, and record the digest where none is known.

    Raises:
        InputError: it is another file.
    """
    if wrong := _mismatch(file, path, path):
        raise InputError(
            f"{path}: {wrong}; it is damaged or another file: put the right one there, or delete it to fetch"
        )


def extracted(archive: Path, member: str) -> Path:
    """Return where a file of a zip archive lies by itself, in a folder called like the archive.

    Raises:
        InputError: there is no such file in it, or it is no archive.
    """
    path = archive.with_suffix("") / member
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            with ZipFile(archive) as files, files.open(member) as source, part.open("wb") as out:
                require_plausible(archive, files.getinfo(member))
                shutil.copyfileobj(source, out)
            part.replace(path)
        except InputError:
            raise
        except UNREADABLE as error:
            raise InputError(f"{archive}: {error.args[0] if error.args else error!r}") from error
        finally:
            part.unlink(missing_ok=True)
    return path


def _mismatch(file: RemoteFile, written: Path, path: Path) -> str | None:
    """Say what is wrong with the file that is written at ``written`` and belongs at ``path``."""
    found, record = file_digest(written), path.with_name(f"{path.name}.sha256")
    if file.sha256:
        expected, source = file.sha256, "it should be"
    elif record.is_file():
        expected, source = record.read_text().partition(" ")[0], f"{record.name} recorded on first use"
    else:
        write_atomically(record, f"{found}  {path.name}\n".encode())
        return None
    return None if found == expected else f"its SHA-256 is {found}, and {source} {expected}"


def _fetch_in_turn(file: RemoteFile, path: Path) -> None:
    """Fetch a file unless another process of this machine was quicker."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f".{path.name}.lock")):
        if path.is_file():
            check(file, path)
        else:
            _fetch(file, path)


def _fetch(file: RemoteFile, path: Path) -> None:
    """Try each address until one gives the right file, and only then give it its name."""
    part, failures = _part(path), []
    for address in file.addresses:
        try:
            download(address, file, part)
        except TransferError as error:
            failures.append(f"{address}: {error}")
            continue
        if wrong := _mismatch(file, part, path):
            part.unlink()
            failures.append(f"{address}: {wrong}")
            continue
        part.replace(path)
        return
    raise InputError(_by_hand(file, path, "; ".join(failures) or "no address is known"))


def _by_hand(file: RemoteFile, path: Path, reason: str) -> str:
    origin = f" from {file.addresses[0]}" if file.addresses else ""
    return f"{file.name} is missing and was not fetched ({reason}); get it{origin} and place it at {path}"


def _part(path: Path) -> Path:
    return path.with_name(f"{path.name}.part")


def _wait_for(path: Path) -> None:
    """Wait while the first process's transfer moves on."""
    seen, since = -1, time.monotonic()
    while not path.is_file():
        if (size := size_of(_part(path))) != seen:
            seen, since = size, time.monotonic()
        if time.monotonic() - since > SECONDS_OF_PATIENCE:
            raise InputError(
                f"{path}: the job's first process has not placed it there; if the cache is each node's own, run "
                f"`amed-lightning models fetch` on every node, or let AMED_CACHE name a shared folder"
            )
        time.sleep(SECONDS_BETWEEN_LOOKS)
