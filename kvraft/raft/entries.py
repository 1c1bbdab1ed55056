"""Log entries: what Raft replicates, and the one byte form they have on the wire and on disk.

An entry is encoded once, by the leader that appends it.
Those bytes (`record`) travel to the followers, into the log environment and into the chain hash unchanged, so no
member can store something else than what was hashed.
"""

import enum
import hashlib
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, final

HASH_BYTES: Final = 16
"""Length of a chain hash: long enough that two different histories never meet by accident."""

ZERO_HASH: Final = bytes(HASH_BYTES)
"""The chain hash before the first entry (index 0)."""

_HEADER: Final = struct.Struct("<BQQQ")
HEADER_BYTES: Final = _HEADER.size
_BEHIND_HASH: Final = struct.Struct(f"<{HASH_BYTES}xBQQQ")


class EntryKind(enum.IntEnum):
    """Who the payload is for."""

    NOOP = 0
    """Empty; appended by a new leader so that it can commit (paper section 8)."""
    COMMAND = 1
    """For the keyspace; the core never looks inside."""
    CONFIGURATION = 2
    """A `Configuration`, for the core itself (section 6)."""


@final
@dataclass(slots=True)
class Entry:
    """One position of the log. Never modified once made."""

    index: int
    """Log position. Starts at 1; 0 indicates no entry."""
    term: int
    """Term of the leader that appended it. Starts at 1."""
    kind: EntryKind
    clock_ms: int
    """Log clock in milliseconds at the append; never less than the previous entry's."""
    chain_hash: bytes
    """`chain(hash of the previous entry, record)`; `HASH_BYTES` long."""
    record: bytes
    """Header and payload, as hashed, sent and stored."""

    @property
    def payload(self) -> bytes:
        """What the entry carries, without the header."""
        return self.record[HEADER_BYTES:]


_KINDS: Final = {int(kind): kind for kind in EntryKind}
"""Asking the enumeration itself costs as much as all the rest of an entry."""


def chain(previous_hash: bytes, record: bytes) -> bytes:
    """The hash that binds a record to everything before it: equal hashes mean equal histories."""
    digest = hashlib.blake2b(previous_hash, digest_size=HASH_BYTES)
    digest.update(record)
    return digest.digest()


def make_entry(previous_hash: bytes, index: int, term: int, kind: EntryKind, clock_ms: int, payload: bytes) -> Entry:
    """A new entry behind the one whose chain hash is `previous_hash`."""
    record = _HEADER.pack(kind, index, term, clock_ms) + payload
    return Entry(index, term, kind, clock_ms, chain(previous_hash, record), record)


def entry_from_record(chain_hash: bytes, record: bytes) -> Entry:
    """The entry that `record` encodes. The chain hash is taken as given; who receives it checks it.

    Raises:
        ValueError: the record is shorter than a header, or its kind or index is impossible.
    """
    if len(record) < HEADER_BYTES or len(chain_hash) != HASH_BYTES:
        message = f"entry record of {len(record)} bytes with a hash of {len(chain_hash)} bytes"
        raise ValueError(message)
    kind, index, term, clock_ms = _HEADER.unpack_from(record)
    if index == 0 or term == 0:
        message = f"entry record with index {index} and term {term}"
        raise ValueError(message)
    return Entry(index, term, EntryKind(kind), clock_ms, chain_hash, record)


def entries_from_wire(chained: Iterable[bytes]) -> list[Entry]:
    """Entries from their chain hash and record in one piece each, as they travel: `entry_from_record` for many.

    Raises:
        ValueError: one of them is shorter than hash and header, or its kind, index or term is impossible.
    """
    kinds, unpack = _KINDS, _BEHIND_HASH.unpack_from
    entries = []
    try:
        for data in chained:
            kind, index, term, clock_ms = unpack(data)
            if index == 0 or term == 0:
                message = f"entry record with index {index} and term {term}"
                raise ValueError(message)
            entries.append(Entry(index, term, kinds[kind], clock_ms, data[:HASH_BYTES], data[HASH_BYTES:]))
    except struct.error:
        message = f"entry of {len(data)} bytes, hash included"
        raise ValueError(message) from None
    except KeyError:
        message = f"entry record of kind {kind}"
        raise ValueError(message) from None
    return entries
