"""Values that cross between rooms which do not know each other: the member fills them in, the HTTP API shows them."""

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
