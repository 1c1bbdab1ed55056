"""One environment on a device, by LMDB's protocol: satisfies `EnvironmentFile` of kvraft's storage.

A commit writes each changed leaf to a page that neither of the last two commits uses, then the root that names all
leaves, syncs, and writes the meta page whose turn it is; then the watermark. A start takes the newer meta page. What it
makes of meta pages and watermark is the product's own code.
"""

import contextlib
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, final

from kvraft.storage import commit_marks, failpoints
from kvraft.storage.codec import REMEDY
from kvraft.storage.errors import CorruptStorageError
from tests.simulation.sectors.device import PAGE_BYTES, Device
from tests.simulation.sectors.records import HEAD, OVERFLOW, Big, Leaf, Pages, SectorTransaction, StructureError, Tree

_ROOT_OFFSET: Final = 128
"""Where LMDB's meta page names the root."""
_NEXT: Final = struct.Struct("<Q")
_CHUNK: Final = PAGE_BYTES - HEAD.size - _NEXT.size
_TABLE: Final = struct.Struct("<HI")
_LEAF: Final = struct.Struct("<QH")


@final
class SectorFile(Pages):
    """An open environment."""

    def __init__(self, path: Path, device: Device, *, create: bool) -> None:
        """Open what is on the device.

        Raises:
            CorruptStorageError: it is damaged, or older than its watermark.
        """
        self.path: Final = path
        self._device: Final = device
        self._trees: dict[bytes, Tree] = {b"": Tree([], [], 0)}
        self._transaction_id = 0
        self._root_pages: list[int] = []
        self._free: list[int] = []
        """Pages that neither of the last two commits uses."""
        self._freed: list[int] = []
        """Pages of the commit before the last one."""
        if create:
            for page in (0, 1):
                device.write_meta(page, _meta_page(page, 0, 1, 0))
            device.write_watermark(commit_marks.encode_watermark(0, 0, device.read(0), device.read(1)))
            device.sync_watermark()
        else:
            self._open()
        self._version = device.version

    def _open(self) -> None:
        device, where = self._device, str(self.path)
        try:
            first, second = device.read(0), device.read(1)
            pages = commit_marks.last_page_of(where, first, second, PAGE_BYTES) + 1
            newest, oldest = sorted((first, second), key=_commit_of, reverse=True)
            self._transaction_id = _commit_of(newest)
            watermark = device.read_watermark()
            commit_marks.check_watermark(where, watermark, self._transaction_id, newest)
            root = _NEXT.unpack_from(newest, _ROOT_OFFSET)[0]
            if root:
                self._root_pages = [root]
                self._read_root(self._read_chain(self._root_pages, None))
            # The structure is examined as a whole, as `lmdb_file` has it done.
            used = {0, 1, *self._root_pages}
            for tree in self._trees.values():
                for leaf, first_key in zip(tree.leaves, tree.firsts, strict=True):
                    if self.load(leaf)[:1] != [first_key]:
                        raise StructureError(f"page {leaf.page} is not what its root says")
                    used.update(_pages_of(leaf, self))
            if max(used) >= pages:
                raise StructureError("a page stands behind the end")
            # No root stands where that of the commit before last stood: the watermark relies on it.
            self._freed = [page for page in _NEXT.unpack_from(oldest, _ROOT_OFFSET) if page and page not in used]
            self._free = [page for page in range(pages - 1, 1, -1) if page not in used and page not in self._freed]
        except (StructureError, struct.error, OSError) as error:
            raise CorruptStorageError(f"{where} cannot be read: {error}; {REMEDY}") from error

    # What the stores call.

    def database(self, name: bytes) -> bytes:
        """A named table."""
        self._trees.setdefault(name, Tree([], [], 0))
        return name

    @contextlib.contextmanager
    def reading(self) -> Iterator[SectorTransaction]:
        """A read transaction.

        Raises:
            CorruptStorageError: a page cannot be read, or is not what it should be.
        """
        self._notice()
        try:
            yield SectorTransaction(self, self._trees, _refuse)
        except (StructureError, struct.error, OSError) as error:
            raise CorruptStorageError(f"{self.path} cannot be read: {error}; {REMEDY}") from error

    @contextlib.contextmanager
    def writing(self) -> Iterator[SectorTransaction]:
        """A write transaction. Without a commit nothing of it stays."""
        self._notice()
        yield SectorTransaction(self, self._trees, self._commit)

    def commit(self, transaction: SectorTransaction, label: int) -> None:
        """Commit, then move the watermark."""
        transaction.commit()
        failpoints.hit("commit.before_watermark")
        number = self._transaction_id
        meta, before = self._device.read(number & 1), self._device.read(1 - (number & 1))
        self._device.write_watermark(commit_marks.encode_watermark(number, label, meta, before))

    def size_bytes(self) -> int:
        """The length of the file."""
        return self._device.pages * PAGE_BYTES

    def capacity_bytes(self) -> int:
        return 1 << 30

    def used_bytes(self) -> int:
        """Pages in use in the unnamed table."""
        return sum(len(_pages_of(leaf, self)) for leaf in self._trees[b""].leaves) * PAGE_BYTES

    def give_back(self, *, idle: bool) -> int:
        """A device has as many pages as it has."""
        return 0

    def close(self) -> None:
        """The device stays."""

    @classmethod
    def examine(cls, device: Device) -> "SectorFile":
        """What a start would find on a device. Raises CorruptStorageError."""
        return cls(Path("device"), device, create=False)

    def live_pages(self) -> list[int]:
        """The pages that the last commit reaches, for faults that are to hit something."""
        pages = list(self._root_pages)
        for tree in self._trees.values():
            for leaf in tree.leaves:
                pages.append(leaf.page)
                for value in leaf.values:
                    if isinstance(value, Big):
                        pages += value.pages
        return pages

    # Reading.

    def _notice(self) -> None:
        """Forget what was read before something happened to the device."""
        if self._version != self._device.version:
            self._version = self._device.version
            for tree in self._trees.values():
                for leaf in tree.leaves:
                    leaf.keys = None

    def load(self, leaf: Leaf) -> list[bytes]:
        keys = leaf.keys
        if keys is None:
            leaf.decode(self._device.read(leaf.page))
            keys = leaf.keys
            assert keys is not None
        return keys

    def load_big(self, big: Big) -> bytes:
        if big.content is None:
            del big.pages[1:]
            big.content = self._read_chain(big.pages, big.length)
        return big.content

    def _read_chain(self, pages: list[int], length: int | None) -> bytes:
        """The content of linked pages, the first of which is in `pages`; the others are added to it."""
        parts = []
        page = pages[0]
        while True:
            content = self._device.read(page)
            number, kind, _, used = HEAD.unpack_from(content)
            if number != page or kind != OVERFLOW or used > _CHUNK or len(pages) > self._device.pages:
                raise StructureError(f"page {page} is no overflow page")
            start = HEAD.size + _NEXT.size
            parts.append(content[start : start + used])
            page = _NEXT.unpack_from(content, HEAD.size)[0]
            if not page:
                break
            pages.append(page)
        value = b"".join(parts)
        if length is not None and len(value) != length:
            raise StructureError(f"value on page {pages[0]} has {len(value)} bytes, not {length}")
        return value

    def _read_root(self, content: bytes) -> None:
        at = 0
        while at < len(content):
            name_length, count = _TABLE.unpack_from(content, at)
            at += _TABLE.size
            name = content[at : at + name_length]
            at += name_length
            tree = self._trees[name] = Tree([], [], 0)
            for _ in range(count):
                page, key_length = _LEAF.unpack_from(content, at)
                at += _LEAF.size
                tree.firsts.append(content[at : at + key_length])
                at += key_length
                if page >= self._device.pages:
                    raise StructureError(f"page {page} stands behind the end")
                leaf = Leaf(page, None, [], 0)
                tree.leaves.append(leaf)
                tree.entries += len(self.load(leaf))

    # Writing.

    def _commit(self, transaction: SectorTransaction) -> None:
        available, pages = self._free.copy(), self._device.pages
        fresh = pages

        def take() -> int:
            nonlocal fresh
            if available:
                return available.pop()
            fresh += 1
            return fresh - 1

        write = self._device.write
        parts = []
        written: list[tuple[Leaf, int]] = []
        for name, tree in transaction.trees.items():
            parts.append(_TABLE.pack(len(name), len(tree.leaves)) + name)
            for leaf, first in zip(tree.leaves, tree.firsts, strict=True):
                if not leaf.page:
                    leaf.page = take()
                    for value in leaf.values:
                        if isinstance(value, Big) and not value.pages:
                            assert value.content is not None
                            value.pages = self._write_chain(value.content, take)
                    written.append((leaf, leaf.page))
                    write(leaf.page, leaf.encode())
                parts.append(_LEAF.pack(leaf.page, len(first)) + first)
        root_pages = self._write_chain(b"".join(parts), take)
        self._device.sync()
        number = self._transaction_id + 1
        self._device.write_meta(number & 1, _meta_page(number & 1, number, max(fresh, pages) - 1, root_pages[0]))
        self._transaction_id = number
        self._free = available + self._freed
        self._freed = transaction.freed + self._root_pages
        self._trees, self._root_pages = transaction.trees, root_pages

    def _write_chain(self, content: bytes, take: Callable[[], int]) -> list[int]:
        pages = [take() for _ in range(max(-(-len(content) // _CHUNK), 1))]
        for place, page in enumerate(pages):
            chunk = content[place * _CHUNK : (place + 1) * _CHUNK]
            following = pages[place + 1] if place + 1 < len(pages) else 0
            head = HEAD.pack(page, OVERFLOW, 0, len(chunk)) + _NEXT.pack(following)
            self._device.write(page, (head + chunk).ljust(PAGE_BYTES, b"\0"))
        return pages


def _meta_page(page: int, transaction_id: int, last_page: int, root: int) -> bytes:
    """The 152 bytes that LMDB writes; of its tables only the root stands there."""
    marks = commit_marks
    head = marks.META_HEAD.pack(page, 0, marks.META_FLAG, 0, 0, marks.META_MAGIC, 1)
    body = (head.ljust(marks.PAGE_BYTES_OFFSET, b"\0") + PAGE_BYTES.to_bytes(4, "little")).ljust(_ROOT_OFFSET, b"\0")
    return body + _NEXT.pack(root) + marks.META_TAIL.pack(last_page, transaction_id)


def _commit_of(meta: bytes) -> int:
    return int(commit_marks.META_TAIL.unpack_from(meta, commit_marks.META_BYTES - commit_marks.META_TAIL.size)[1])


def _pages_of(leaf: Leaf, pages: Pages) -> list[int]:
    found = [leaf.page]
    pages.load(leaf)
    for value in leaf.values:
        if isinstance(value, Big):
            pages.load_big(value)
            found += value.pages
    return found


def _refuse(_transaction: SectorTransaction) -> None:
    raise AssertionError("a read transaction commits nothing")
