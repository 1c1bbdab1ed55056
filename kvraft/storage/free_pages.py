"""Which pages of an LMDB file are free, read from its list of them. Bytes in, page numbers out.

LMDB keeps that list in a tree of its own, whose root stands in the meta page: the number of a transaction, and which
pages it gave up. What transaction n gave up is used by nothing that n wrote, but by readers that began before n.
py-lmdb has no door to this tree, so it is read from the file, in the form of LMDB 0.9 for 64 bits (mdb.c: MDB_page,
MDB_node, MDB_meta, and midl.h).
"""

import struct
from array import array
from collections.abc import Callable, Iterator
from typing import Final, final

from kvraft.storage.codec import REMEDY
from kvraft.storage.commit_marks import META_BYTES, META_TAIL
from kvraft.storage.errors import CorruptStorageError

_PAGE: Final = struct.Struct("<QHHHH")
"""Page number, padding, flags, end of the slots; the last field is where nodes begin, or the half of a page count."""
_SLOT: Final = struct.Struct("<H")
_NODE: Final = struct.Struct("<HHHH")
"""Size of the data, low and high (in a branch with the flags: the page below), flags, size of the key."""
_NUMBER: Final = struct.Struct("<Q")
_ROOT_OFFSET: Final = 80
"""Where a meta page names the root of the list; the root of the other tables stands 48 bytes further."""
_BRANCH: Final = 0x01
_LEAF: Final = 0x02
_OVERFLOW: Final = 0x04
_ELSEWHERE: Final = 0x01
"""A node whose data lies on pages of its own."""
_NO_PAGE: Final = (1 << 64) - 1
_PAGES_MAX: Final = 100_000
"""More than any such tree has: its records are short, or elsewhere."""
FIRST_PAGE: Final = 2
"""The two before it are the meta pages."""

Read = Callable[[int, int], bytes]
"""(offset, length) to bytes of the file."""


def free_pages(read: Read, page_bytes: int, meta_page: bytes, given_up_by: int, where: str) -> list[int]:
    """The pages that were given up by transactions up to `given_up_by`, ascending.

    Args:
        read: the file, which nobody may change meanwhile.
        page_bytes: the length of a page.
        meta_page: the beginning of the newest one.
        given_up_by: not beyond the oldest reader's transaction, or what it reads counts as free.
        where: for messages.

    Raises:
        CorruptStorageError: the list is not one.
    """
    last_page, _ = META_TAIL.unpack_from(meta_page, META_BYTES - META_TAIL.size)
    (root,) = _NUMBER.unpack_from(meta_page, _ROOT_OFFSET)
    pages = array("Q")
    try:
        if root != _NO_PAGE:
            for transaction_id, record in _Tree(read, page_bytes, last_page).records(root):
                if transaction_id <= given_up_by:
                    pages.frombytes(_listed(record))
    except (struct.error, ValueError, OverflowError, OSError, RecursionError) as error:
        raise CorruptStorageError(f"{where}: the list of free pages cannot be read ({error}); {REMEDY}") from error
    found = sorted(pages)
    if found and not (found[0] >= FIRST_PAGE and found[-1] <= last_page and len(set(found)) == len(found)):
        raise CorruptStorageError(f"{where}: the list of free pages names what it cannot; {REMEDY}")
    return found


def runs(pages: list[int], pages_min: int) -> Iterator[tuple[int, int]]:
    """First page and length of each run of at least so many neighbours."""
    first = previous = -1
    for page in (*pages, -1):
        if page != previous + 1:
            if first >= 0 and previous + 1 - first >= pages_min:
                yield first, previous + 1 - first
            first = page
        previous = page


@final
class _Tree:
    """LMDB's list of free pages. Whatever stands in the file, reading it comes to an end."""

    def __init__(self, read: Read, page_bytes: int, last_page: int) -> None:
        self._read = read
        self._page_bytes = page_bytes
        self._record_bytes_max = _NUMBER.size * (last_page + 1)
        self._seen: set[int] = set()

    def records(self, page: int) -> Iterator[tuple[int, bytes]]:
        """(transaction, its list) from the tree below a page."""
        if page in self._seen or len(self._seen) > _PAGES_MAX:
            raise ValueError(f"page {page} is no part of a tree")
        self._seen.add(page)
        content = self._read(page * self._page_bytes, self._page_bytes)
        number, _, flags, end, _ = _PAGE.unpack_from(content)
        if number != page or flags not in {_BRANCH, _LEAF}:
            raise ValueError(f"page {page} is none of its tree")
        for slot in range(_PAGE.size, end, _SLOT.size):
            (at,) = _SLOT.unpack_from(content, slot)
            low, high, node_flags, key_bytes = _NODE.unpack_from(content, at)
            at += _NODE.size
            if flags == _BRANCH:
                yield from self.records(low | high << 16 | node_flags << 32)
                continue
            (transaction_id,) = _NUMBER.unpack_from(content, at)
            at += key_bytes
            size = low | high << 16
            if node_flags & _ELSEWHERE:
                (elsewhere,) = _NUMBER.unpack_from(content, at)
                yield transaction_id, self._elsewhere(elsewhere, size)
            else:
                yield transaction_id, content[at : at + size]

    def _elsewhere(self, page: int, size: int) -> bytes:
        if size > self._record_bytes_max:
            raise ValueError(f"a list of {size} bytes")
        data = self._read(page * self._page_bytes, _PAGE.size + size)
        number, _, flags, _, _ = _PAGE.unpack_from(data)
        if number != page or flags != _OVERFLOW:
            raise ValueError(f"page {page} holds no list")
        return data[_PAGE.size :]


def _listed(record: bytes) -> bytes:
    """The numbers behind their count."""
    (count,) = _NUMBER.unpack_from(record)
    numbers = record[_NUMBER.size : _NUMBER.size * (count + 1)]
    if len(numbers) != _NUMBER.size * count:
        raise ValueError("a record is cut off")
    return numbers
