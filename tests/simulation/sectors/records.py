"""Tables of sorted records in leaves of a page each, changed by copying: what a transaction sees."""

import struct
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from typing import Final, Self, final

from tests.simulation.sectors.device import PAGE_BYTES

HEAD: Final = struct.Struct("<QHHI")
"""Page number, kind, records or 0, bytes in use."""
LEAF: Final = 2
OVERFLOW: Final = 4
ROOM: Final = PAGE_BYTES - HEAD.size
INLINE_MAX: Final = 1000
"""Longer values stand on pages of their own."""
_RECORD: Final = struct.Struct("<HI")
_BIG: Final = 1 << 31
_REFERENCE: Final = struct.Struct("<Q")


class StructureError(Exception):
    """A page is not what the tree says it is. LMDB answers with `lmdb.Error`, or with worse."""


@final
class Big:
    """A value on overflow pages."""

    __slots__ = ("content", "length", "pages")

    def __init__(self, length: int, pages: list[int], content: bytes | None) -> None:
        self.length = length
        self.pages = pages
        """Empty until it is written."""
        self.content = content
        """None until it is read."""


@final
class Leaf:
    """A page of records. Once committed it changes no more, but may forget what it read."""

    __slots__ = ("keys", "page", "size", "values")

    def __init__(self, page: int, keys: list[bytes] | None, values: list[bytes | Big], size: int) -> None:
        self.page = page
        """0 until it is written."""
        self.keys = keys
        """None until it is read."""
        self.values = values
        self.size = size

    def encode(self) -> bytes:
        """The page. Its number and those of its overflow pages are known."""
        assert self.keys is not None
        parts = [HEAD.pack(self.page, LEAF, len(self.keys), self.size)]
        for key, value in zip(self.keys, self.values, strict=True):
            if isinstance(value, Big):
                parts += (_RECORD.pack(len(key), value.length | _BIG), key, _REFERENCE.pack(value.pages[0]))
            else:
                parts += (_RECORD.pack(len(key), len(value)), key, value)
        return b"".join(parts).ljust(PAGE_BYTES, b"\0")

    def decode(self, content: bytes) -> None:
        """Fill the leaf from its page.

        Raises:
            StructureError: it is another page, or none.
        """
        number, kind, count, self.size = HEAD.unpack_from(content)
        if number != self.page or kind != LEAF or self.size > ROOM:
            raise StructureError(f"page {self.page} is no leaf")
        at, end = HEAD.size, HEAD.size + self.size
        keys: list[bytes] = []
        values: list[bytes | Big] = []
        for _ in range(count):
            if at + _RECORD.size > end:
                raise StructureError(f"page {self.page} ends inside a record")
            key_length, length = _RECORD.unpack_from(content, at)
            at += _RECORD.size
            key = content[at : at + key_length]
            at += key_length
            if keys and key <= keys[-1]:
                raise StructureError(f"page {self.page} is not in order")
            keys.append(key)
            if length & _BIG:
                values.append(Big(length & ~_BIG, [_REFERENCE.unpack_from(content, at)[0]], None))
                at += _REFERENCE.size
            else:
                values.append(content[at : at + length])
                at += length
            if at > end:
                raise StructureError(f"page {self.page} ends inside a record")
        if at != end:
            raise StructureError(f"page {self.page} has bytes behind its records")
        self.keys, self.values = keys, values


@final
class Tree:
    """One table: leaves in order, with the first key of each."""

    __slots__ = ("entries", "firsts", "leaves")

    def __init__(self, firsts: list[bytes], leaves: list[Leaf], entries: int) -> None:
        self.firsts = firsts
        self.leaves = leaves
        self.entries = entries

    def copy(self) -> "Tree":
        """For a transaction that will change it."""
        return Tree(self.firsts.copy(), self.leaves.copy(), self.entries)


def cost(key: bytes, value: bytes | Big) -> int:
    """Bytes in a leaf."""
    return _RECORD.size + len(key) + (_REFERENCE.size if isinstance(value, Big) else len(value))


class Pages:
    """Where leaves and overflow values are read from."""

    def load(self, leaf: Leaf) -> list[bytes]:
        """The keys of a leaf, read if need be."""
        raise NotImplementedError

    def load_big(self, big: Big) -> bytes:
        """The value on overflow pages."""
        raise NotImplementedError


@final
class SectorTransaction:
    """LMDB's transaction, as far as kvraft uses it."""

    def __init__(self, pages: Pages, trees: dict[bytes, Tree], commit: Callable[["SectorTransaction"], None]) -> None:
        self._pages = pages
        self.trees = trees
        self._own: set[bytes] = set()
        """Tables that this transaction has copied."""
        self.freed: list[int] = []
        """Pages of the last commit that this transaction no longer uses."""
        self._commit = commit

    def commit(self) -> None:
        self._commit(self)

    def get(self, key: bytes, *, db: bytes = b"") -> bytes | None:
        place, slot, found = self._find(self.trees[db], key)
        return self.value(self.trees[db].leaves[place], slot) if found else None

    def value(self, leaf: Leaf, slot: int) -> bytes:
        """A record's value, read if need be."""
        self._pages.load(leaf)
        value = leaf.values[slot]
        return self._pages.load_big(value) if isinstance(value, Big) else value

    def put(self, key: bytes, value: bytes, *, append: bool = False, db: bytes = b"") -> bool:
        tree = self._writable(db)
        held: bytes | Big = Big(len(value), [], bytes(value)) if len(value) > INLINE_MAX else bytes(value)
        key = bytes(key)
        if not tree.leaves:
            tree.leaves.append(Leaf(0, [key], [held], cost(key, held)))
            tree.firsts.append(key)
            tree.entries = 1
            return True
        place, slot, found = self._find(tree, key)
        if append:
            keys = self._pages.load(tree.leaves[-1])
            if key <= keys[-1]:
                return False
        leaf = self._own_leaf(tree, place)
        assert leaf.keys is not None
        if found:
            self._release(leaf.values[slot])
            leaf.size += cost(key, held) - cost(key, leaf.values[slot])
            leaf.values[slot] = held
        else:
            leaf.keys.insert(slot, key)
            leaf.values.insert(slot, held)
            leaf.size += cost(key, held)
            tree.entries += 1
        if leaf.size > ROOM:
            self._split(tree, place, at_end=slot == len(leaf.keys) - 1)
        tree.firsts[place] = leaf.keys[0]
        return True

    def delete(self, key: bytes, *, db: bytes = b"") -> bool:
        tree = self._writable(db)
        place, slot, found = self._find(tree, key)
        if found:
            self.delete_at(tree, place, slot)
        return found

    def delete_at(self, tree: Tree, place: int, slot: int) -> None:
        """Remove a record; a leaf without records goes."""
        leaf = self._own_leaf(tree, place)
        assert leaf.keys is not None
        self._release(leaf.values[slot])
        leaf.size -= cost(leaf.keys[slot], leaf.values[slot])
        del leaf.keys[slot], leaf.values[slot]
        tree.entries -= 1
        if leaf.keys:
            tree.firsts[place] = leaf.keys[0]
        else:
            del tree.leaves[place], tree.firsts[place]

    def stat(self, db: bytes = b"") -> dict[str, int]:
        return {"entries": self.trees[db].entries}

    def cursor(self, db: bytes = b"") -> "SectorCursor":
        return SectorCursor(self, self._pages, db)

    def _find(self, tree: Tree, key: bytes) -> tuple[int, int, bool]:
        """(leaf, where in it the key is or would be, whether it is there)."""
        if not tree.leaves:
            return 0, 0, False
        place = max(bisect_right(tree.firsts, key) - 1, 0)
        keys = self._pages.load(tree.leaves[place])
        slot = bisect_left(keys, key)
        return place, slot, slot < len(keys) and keys[slot] == key

    def _writable(self, db: bytes) -> Tree:
        if db not in self._own:
            if not self._own:
                self.trees = dict(self.trees)
            self._own.add(db)
            self.trees[db] = self.trees[db].copy()
        return self.trees[db]

    def _own_leaf(self, tree: Tree, place: int) -> Leaf:
        leaf = tree.leaves[place]
        keys = self._pages.load(leaf)
        if leaf.page:
            self.freed.append(leaf.page)
            leaf = tree.leaves[place] = Leaf(0, keys.copy(), leaf.values.copy(), leaf.size)
        return leaf

    def _release(self, value: bytes | Big) -> None:
        if isinstance(value, Big):
            self._pages.load_big(value)
            self.freed += value.pages

    def _split(self, tree: Tree, place: int, *, at_end: bool) -> None:
        leaf = tree.leaves[place]
        assert leaf.keys is not None
        sizes = [cost(key, value) for key, value in zip(leaf.keys, leaf.values, strict=True)]
        at, left = len(sizes), leaf.size
        while at > 1 and (left > ROOM if at_end else 2 * left > leaf.size):
            at -= 1
            left -= sizes[at]
        keys, values = leaf.keys[at:], leaf.values[at:]
        del leaf.keys[at:], leaf.values[at:]
        tree.leaves.insert(place + 1, Leaf(0, keys, values, leaf.size - left))
        tree.firsts.insert(place + 1, keys[0])
        leaf.size = left


@final
class SectorCursor:
    """LMDB's cursor, as far as kvraft uses it. Of its own transaction's changes it follows only its own deletions."""

    def __init__(self, transaction: SectorTransaction, pages: Pages, db: bytes) -> None:
        self._transaction = transaction
        self._pages = pages
        self._db = db
        self._place = 0
        self._slot = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        """Nothing is held."""

    @property
    def _tree(self) -> Tree:
        return self._transaction.trees[self._db]

    def _leaf_keys(self) -> list[bytes]:
        return self._pages.load(self._tree.leaves[self._place])

    def first(self) -> bool:
        self._place = self._slot = 0
        return bool(self._tree.leaves)

    def last(self) -> bool:
        if not self._tree.leaves:
            return False
        self._place = len(self._tree.leaves) - 1
        self._slot = len(self._leaf_keys()) - 1
        return True

    def next(self) -> bool:
        self._slot += 1
        return self._settle()

    def prev(self) -> bool:
        if self._slot:
            self._slot -= 1
            return True
        if not self._place:
            return False
        self._place -= 1
        self._slot = len(self._leaf_keys()) - 1
        return True

    def _settle(self) -> bool:
        """Behind the end of a leaf stands the next one."""
        if self._place < len(self._tree.leaves) and self._slot >= len(self._leaf_keys()):
            self._place, self._slot = self._place + 1, 0
        return self._place < len(self._tree.leaves)

    def set_range(self, key: bytes) -> bool:
        self._place, self._slot, _ = self._transaction._find(self._tree, key)
        return self._settle()

    def set_key(self, key: bytes) -> bool:
        self._place, self._slot, found = self._transaction._find(self._tree, key)
        return found

    def key(self) -> bytes:
        return self._leaf_keys()[self._slot]

    def item(self) -> tuple[bytes, bytes]:
        return self.key(), self._transaction.value(self._tree.leaves[self._place], self._slot)

    def __iter__(self) -> Iterator[tuple[bytes, bytes]]:
        more = self.first()
        while more:
            yield self.item()
            more = self.next()

    def delete(self) -> bool:
        """Remove the record and stand on the next one. False if there was none; not, if there is no next one."""
        tree = self._transaction._writable(self._db)
        if self._place >= len(tree.leaves):
            return False
        leaves = len(tree.leaves)
        self._transaction.delete_at(tree, self._place, self._slot)
        if len(tree.leaves) < leaves:
            self._slot = 0
        self._settle()
        return True

    def putmulti(self, items: list[tuple[bytes, bytes]], *, append: bool = False) -> tuple[int, int]:
        added = sum(self._transaction.put(key, value, append=append, db=self._db) for key, value in items)
        return len(items), added
