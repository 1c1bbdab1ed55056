"""How the applied state crosses to disk: finished byte pairs, so that the storage thread only copies.

Keys are table-local; what the bytes mean is known to the keyspace alone. Storage adds checksums.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import final


@final
@dataclass(slots=True)
class StateChanges:
    """Everything that changed since the previous flush, each record once, as of one applied index."""

    nodes: list[tuple[bytes, bytes]] = field(default_factory=list)
    """(node id as 8 bytes big-endian, record) to write."""
    removed_nodes: list[bytes] = field(default_factory=list)
    """Node ids to remove."""
    history: list[tuple[bytes, bytes]] = field(default_factory=list)
    """(etcd_index as 8 bytes big-endian, record) to append, ascending."""
    history_floor: int = 0
    """Remove history below this etcd_index."""
    meta: bytes = b""
    """Everything else (indices, counters, members, version, state hash), one record."""
    accounts: list[tuple[bytes, bytes]] = field(default_factory=list)
    """(8 bytes, record) of users and roles to write."""
    removed_accounts: list[bytes] = field(default_factory=list)
    """Keys of such records to remove, also of some that were never written."""


@final
@dataclass(slots=True)
class StateImage:
    """A whole stored state."""

    meta: bytes
    """Empty for a new store."""
    nodes: Iterator[tuple[bytes, bytes]]
    history: Iterator[tuple[bytes, bytes]]
    """Newest last; the reader takes as much as it keeps in memory."""
    accounts: Iterator[tuple[bytes, bytes]] = field(default_factory=lambda: iter(()))
    """Users and roles, ascending by key."""
