"""Values that cross between rooms which do not know each other.

The member or its storage fills them in, and the HTTP API shows them.
"""

from dataclasses import dataclass
from typing import final

from kvraft.keyspace.answers import Answer


@final
@dataclass(slots=True)
class Written:
    """A write as its client sees it once the receiving member has applied it."""

    event: Answer
    """What the keyspace answered: an event or an error to whatever a client can ask."""
    etcd_index: int
    """The store's index right after this write (`X-Etcd-Index` of a success is the event's own)."""
    raft_index: int
    raft_term: int


@final
@dataclass(slots=True)
class MemberRecord:
    """A member's public record, as /v2/members shows it."""

    member_id: int
    name: str
    """A founder's from the beginning; empty only for one that was added later and has not started yet."""
    peer_urls: tuple[str, ...]
    client_urls: tuple[str, ...]


@final
@dataclass(slots=True, frozen=True)
class BackupFacts:
    """What a backup says of itself beside the state."""

    member_id: int
    """Who took it."""
    name: str
    taken_ns: int
    """Unix nanoseconds, by that member's clock."""
    clock_ms: int
    """The log clock then, from which TTLs count on; the position's own is that of the last entry."""
    with_history: bool
    """Whether all of the watch history is in it. Otherwise its newest events are."""


@final
@dataclass(slots=True, frozen=True)
class BackupCopy:
    """A finished copy of the state, as a file that clients may fetch. Equal ids mean equal bytes."""

    copy_id: str
    path: str
    size_bytes: int


@final
@dataclass(slots=True, frozen=True)
class BackupRefused:
    """Why a member makes no copy now."""

    reason: str
    """One sentence for the operator: what is in the way, and what to do."""
    is_room: bool = False
    """Whether it is the disk."""
