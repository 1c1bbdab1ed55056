"""How a lost commit shows: the two meta pages of an LMDB file, and the watermark beside it. Bytes in, findings out.

LMDB writes its meta pages in turn, so their numbers always differ by one. The watermark holds the number of the newest
commit, what it reached, a checksum of its meta page, and one of the page before it without its number.
"""

import struct
import zlib
from typing import Final

from kvraft.storage.codec import REMEDY
from kvraft.storage.errors import CorruptStorageError

META_BYTES: Final = 152
PAGE_BYTES_OFFSET: Final = 40
"""Where a meta page says how long a page is."""
META_HEAD: Final = struct.Struct("<QHHHHII")
"""Page number, padding, flags, two offsets; magic, version."""
META_TAIL: Final = struct.Struct("<QQ")
"""Last page and transaction, at the end."""
_NUMBER_BYTES: Final = 8
"""The transaction is the last field of a meta page."""
META_MAGIC: Final = 0xBEEFC0DE
META_FLAG: Final = 0x08

_WATERMARK: Final = struct.Struct("<4sQQII")
_WATERMARK_MAGIC: Final = b"KVW2"


def last_page_of(where: str, first: bytes, second: bytes, page_bytes: int) -> int:
    """The last page of the newer commit.

    Args:
        where: for messages.
        first: the beginning of page 0.
        second: that of page 1.
        page_bytes: the length of a page.

    Raises:
        CorruptStorageError: one of the meta pages is damaged, or is not the neighbour of the other.
    """
    commits = []
    for number, page in enumerate((first, second)):
        page_number, _, flags, _, _, magic, version = META_HEAD.unpack_from(page)
        same_size = page[PAGE_BYTES_OFFSET : PAGE_BYTES_OFFSET + 4] == page_bytes.to_bytes(4, "little")
        if (page_number, flags, magic, version) != (number, META_FLAG, META_MAGIC, 1) or not same_size:
            raise CorruptStorageError(f"{where}: meta page {number} is damaged; {REMEDY}")
        last_page, transaction_id = META_TAIL.unpack_from(page, META_BYTES - META_TAIL.size)
        commits.append((transaction_id, last_page))
    (even, _), (odd, _) = commits
    if (even, odd) != (0, 0) and (abs(even - odd) != 1 or even & 1):
        raise CorruptStorageError(f"{where}: meta pages of commits {even} and {odd}; one commit is lost; {REMEDY}")
    return int(max(commits)[1])


def number_of(meta_page: bytes) -> int:
    """The transaction that wrote a meta page."""
    return int.from_bytes(meta_page[META_BYTES - _NUMBER_BYTES : META_BYTES], "little")


def encode_watermark(transaction_id: int, label: int, meta_page: bytes, before: bytes) -> bytes:
    """What stands beside the environment after a commit.

    Args:
        transaction_id: of the commit.
        label: what it reached.
        meta_page: the page that it wrote.
        before: the other one, of the commit before it.
    """
    page, numberless = zlib.crc32(meta_page[:META_BYTES]), _numberless(before)
    body = _WATERMARK.pack(_WATERMARK_MAGIC, transaction_id, label, page, numberless)
    return body + zlib.crc32(body).to_bytes(4, "little")


def check_watermark(where: str, stored: bytes, held: int, meta_page: bytes) -> None:
    """Compare the watermark with the newest commit that was found.

    Raises:
        CorruptStorageError: a later commit was acknowledged, or the meta page is not the one that was written then.
    """
    body = stored[:-4]
    if len(body) != _WATERMARK.size or zlib.crc32(body) != int.from_bytes(stored[-4:], "little"):
        raise CorruptStorageError(f"{where}/watermark is damaged, so the newest commit may be gone; {REMEDY}")
    _, acknowledged, label, checksum, before = _WATERMARK.unpack(body)
    if acknowledged > held:
        raise CorruptStorageError(
            f"{where} was rolled back: commit {acknowledged} (index {label}) was acknowledged, "
            f"the newest one found is {held}; {REMEDY}"
        )
    if acknowledged == held and checksum != zlib.crc32(meta_page[:META_BYTES]):
        raise CorruptStorageError(f"{where}: the meta page of commit {held} has changed; {REMEDY}")
    # One flipped bit can make the page before the newest pass for its successor (20 for 22, beside 21). A true
    # successor has another root: LMDB takes no page again that the commit before it has given up.
    if acknowledged + 1 == held and before == _numberless(meta_page):
        raise CorruptStorageError(f"{where}: the meta page of commit {held} is that of an older one; {REMEDY}")


def _numberless(meta_page: bytes) -> int:
    return zlib.crc32(meta_page[: META_BYTES - _NUMBER_BYTES])
