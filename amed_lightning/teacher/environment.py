"""A shard's records in LMDB: written in one transaction, mapped into memory to be read.

Keys are seeds, big-endian, so that records lie in the order of their seeds and pages can be filled one after another.
"""

import errno
import math
import mmap
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from weakref import WeakValueDictionary

import lmdb

ENGINE = 0
"""LMDB's file format; lmdb 3 also writes another that older readers refuse."""
PAGE, PAGE_HEADER, ENTRY_BYTES = mmap.PAGESIZE, 16, 16
"""LMDB's page, its header, and what an entry takes in it beside the value: a header and the key."""
_OPENED: WeakValueDictionary[Path, lmdb.Environment] = WeakValueDictionary()


def key_of(seed: int) -> bytes:
    """Return the key of a seed's record."""
    return seed.to_bytes(8, "big")


def file_bytes(count: int, record_bytes: int) -> int:
    """Return the size of a file of so many records.

    LMDB gives large records pages of their own, to which an entry in a shared page points, and fills pages with small
    ones. To these come two pages of its own and the root of the tree.
    """
    room = PAGE - PAGE_HEADER
    entry, own_pages = ENTRY_BYTES + record_bytes, 0
    if entry > room // 2 - 2:
        entry, own_pages = ENTRY_BYTES + 8, count * math.ceil((PAGE_HEADER + record_bytes) / PAGE)
    shared_pages = math.ceil(count / (room // (entry + entry % 2 + 2)))
    return (own_pages + shared_pages + 3) * PAGE


def write(folder: Path, seeds: range, records: Iterable[bytes], record_bytes: int) -> None:
    """Write the record of each seed and wait for the disk.

    Args:
        folder: is there and empty.
        seeds: in order.
        records: one for each.
        record_bytes: size of each.

    Raises:
        OSError: the system refuses, as where the disk is full.
    """
    space = 2 * file_bytes(len(seeds), record_bytes)
    try:
        with lmdb.open(str(folder), map_size=space, sync=False, lock=False, lib_version=ENGINE) as environment:
            with environment.begin(write=True) as transaction:
                for seed, record in zip(seeds, records, strict=True):
                    transaction.put(key_of(seed), record, append=True)
            environment.sync(True)
    except lmdb.Error as error:  # its message ends with the system's
        code = next((code for code in errno.errorcode if str(error).endswith(os.strerror(code))), None)
        if code is None:
            raise
        if code == errno.EIO and shutil.disk_usage(folder).free < space:  # what it says where half a page was written
            code = errno.ENOSPC
        raise OSError(code, os.strerror(code), str(folder)) from error


def reading(folder: Path) -> lmdb.Transaction:
    """Open a file for reading.

    LMDB allows this once per process, so transactions share what is open; it closes with the last of them.
    """
    real = folder.resolve()
    environment = _OPENED.get(real)
    if environment is None:
        environment = lmdb.open(str(real), readonly=True, lock=False, meminit=False)
        _OPENED[real] = environment
    return environment.begin(buffers=True)
