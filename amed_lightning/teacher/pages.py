"""A look at an LMDB file before LMDB maps it: every number in it that leads somewhere leads into the file.

LMDB follows page numbers and offsets wherever they lead; one that is damaged, or somebody's, leads beyond the end of
the file and ends the process. The format is that of LMDB 0.9 on a little-endian machine of 64 bits: two meta pages, of
which the later counts, and a tree of branches and leaves, where a large record has pages of its own.
"""

import mmap
import struct
from collections.abc import Iterator
from pathlib import Path

HEADER = struct.Struct("<QHHHH")
"""Of a page: its number, nothing, its kind, and where its list of nodes ends and where its nodes begin."""
_META = struct.Struct("<IIQQ IHH4QQ IHH4QQ QQ")
"""Magic number, version, address and size of the map; two tables; the last page and the transaction.

A table is the size of a page (in the first), flags, depth, four counts, and the page of the root.
"""
NODE = struct.Struct("<HHHH")
"""Of a record: two halves of its size, flags, and the size of its key; of a branch, three parts of a page's number."""
_NUMBER = struct.Struct("<Q")
BRANCH, LEAF, OVERFLOW, META_PAGE = 1, 2, 4, 8
MAGIC, VERSION = 0xBEEFC0DE, 1
_WHOLE_KEYS = 8
"""The flag that LMDB gives its list of free pages, which is the first table."""
_OWN_PAGES = 1
"""The flag of a record that has pages of its own."""
NONE = 2**64 - 1
_MOST_DEEP = 32


def require_sound(path: Path) -> None:
    """Follow everything that a file says.

    Args:
        path: of an LMDB file.

    Raises:
        ValueError: something leads out of the file, or is not as LMDB writes it.
    """
    size = path.stat().st_size
    if size < 2 * mmap.PAGESIZE or size % mmap.PAGESIZE:
        raise ValueError(f"{size} bytes are no LMDB file")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        try:
            _follow(content)
        except struct.error as error:
            raise ValueError("a record reaches beyond the file") from error


def _follow(content: mmap.mmap) -> None:
    """Follow the tree of the later meta page, level by level."""
    pages, seen = len(content) // mmap.PAGESIZE, set()
    level = [] if (root := max(_meta(content, number) for number in range(2))[1]) == NONE else [root]
    for _ in range(_MOST_DEEP):
        if not level:
            return
        for page in level:
            if not 2 <= page < pages or page in seen:
                raise ValueError(f"page {page} of {pages} is not where a page can be, or is there twice")
            seen.add(page)
        level = [below for page in level for below in _below(content, page)]
    raise ValueError("pages lead to pages without end")


def _meta(content: mmap.mmap, page: int) -> tuple[int, int]:
    """Return the transaction of a meta page, and the root of its records.

    Raises:
        ValueError: it is not as LMDB writes it.
    """
    at = page * mmap.PAGESIZE
    _, _, kind, _, _ = HEADER.unpack_from(content, at)
    magic, version, _, _, *tables, last, transaction = _META.unpack_from(content, at + HEADER.size)
    page_size, free_flags, flags, root = tables[0], tables[1], tables[9], tables[15]
    if (kind, magic, version, page_size) != (META_PAGE, MAGIC, VERSION, mmap.PAGESIZE):
        raise ValueError(f"meta page {page} is damaged")
    if (free_flags, flags) != (_WHOLE_KEYS, 0) or (last + 1) * mmap.PAGESIZE > len(content):
        raise ValueError(f"meta page {page} says what is not so")
    return transaction, root


def _below(content: mmap.mmap, page: int) -> Iterator[int]:
    """Check a page's nodes, and yield the pages that a branch leads to.

    Raises:
        ValueError: a node reaches out of its page, or its record out of the file.
    """
    at = page * mmap.PAGESIZE
    number, _, kind, lower, upper = HEADER.unpack_from(content, at)
    if number != page or kind not in (BRANCH, LEAF) or lower % 2 or not HEADER.size <= lower <= upper <= mmap.PAGESIZE:
        raise ValueError(f"page {page} is damaged")
    for (offset,) in struct.iter_unpack("<H", content[at + HEADER.size : at + lower]):
        low, high, flags, key = NODE.unpack_from(content, at + offset)
        value, end = offset + NODE.size + key, mmap.PAGESIZE
        if not upper <= offset or value > end:
            raise ValueError(f"page {page} has a node beyond it")
        if kind == BRANCH:
            yield low | high << 16 | flags << 32
        elif flags == _OWN_PAGES and value + _NUMBER.size <= end:
            (first,) = _NUMBER.unpack_from(content, at + value)
            _require_own_pages(content, first, low | high << 16)
        elif flags or value + (low | high << 16) > end:
            raise ValueError(f"page {page} has a record beyond it")


def _require_own_pages(content: mmap.mmap, first: int, size: int) -> None:
    """Check the pages of a large record."""
    if first * mmap.PAGESIZE + HEADER.size + size > len(content):
        raise ValueError(f"a record of {size} bytes reaches beyond the file")
    number, _, kind, *_ = HEADER.unpack_from(content, first * mmap.PAGESIZE)
    if (number, kind) != (first, OVERFLOW):
        raise ValueError(f"page {first} is not that of a record")
