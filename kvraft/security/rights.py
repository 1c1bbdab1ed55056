"""What patterns of keys allow. Pure (etcd v3.4 api/v2auth/auth.go, HasKeyAccess and HasRecursiveAccess).

A pattern that ends with `*` is the beginning of every key that it allows, byte by byte: `/a*` allows `/ab`. Any other
is one key. What is asked for is the key as it stands in the path of the request, with the slash at its end if there is
one.
"""

from collections.abc import Iterable
from typing import final


@final
class Rights:
    """What somebody may read and write."""

    __slots__ = ("_read", "_write", "is_root")

    def __init__(self, read: Iterable[str] = (), write: Iterable[str] = (), *, is_root: bool = False) -> None:
        self.is_root = is_root
        """Whether he may do everything, also what is not about keys."""
        self._read = _split(read)
        self._write = _split(write)

    def allows(self, key: bytes, *, write: bool, recursive: bool) -> bool:
        """Whether the key, or with `recursive` everything below it too, may be read, or written."""
        if self.is_root:
            return True
        keys, beginnings = self._write if write else self._read
        return key.startswith(beginnings) or (not recursive and key in keys)


def _split(patterns: Iterable[str]) -> tuple[frozenset[bytes], tuple[bytes, ...]]:
    """Patterns as whole keys and beginnings. An empty one, which makes etcd panic, allows nothing."""
    encoded = [pattern.encode() for pattern in patterns]
    keys = frozenset(pattern for pattern in encoded if pattern and not pattern.endswith(b"*"))
    return keys, tuple({pattern[:-1] for pattern in encoded if pattern.endswith(b"*")})
