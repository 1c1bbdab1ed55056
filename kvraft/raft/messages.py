"""What servers send each other: the paper's RPCs as one-way messages, a small class for each.

Every message carries the sender's `term` first. Who sent it is in the envelope (`inputs.Received`, `effects.Outgoing`).
"""

from dataclasses import dataclass
from typing import final

from kvraft.raft.configuration import Configuration
from kvraft.raft.entries import Entry


@final
@dataclass(slots=True)
class RequestPreVote:
    """Would you vote for me in `term + 1`? Changes no state anywhere (thesis section 9.6)."""

    term: int
    """The sender's current term; the election it asks about would be in `term + 1`."""
    last_log_index: int
    last_log_term: int


@final
@dataclass(slots=True)
class RequestPreVoteReply:
    term: int
    """The replier's current term."""
    prospective_term: int
    """The term that was asked about, so that old replies are not counted."""
    granted: bool


@final
@dataclass(slots=True)
class RequestVote:
    """RequestVote RPC (section 5.2)."""

    term: int
    last_log_index: int
    last_log_term: int
    leadership_transfer: bool
    """Sent because the leader asked for it (TimeoutNow): no live lease stands against it (thesis section 4.2.3)."""


@final
@dataclass(slots=True)
class RequestVoteReply:
    term: int
    granted: bool


@final
@dataclass(slots=True)
class AppendEntries:
    """AppendEntries RPC (section 5.3), with the chain hash of the previous entry beside its term."""

    term: int
    prev_log_index: int
    prev_log_term: int
    prev_log_hash: bytes
    entries: list[Entry]
    leader_commit: int
    clock_ms: int
    """The leader's log clock when it was sent."""
    notice: bool = False
    """Only tells a commit index, without entries: not answered, unless the logs do not agree."""


@final
@dataclass(slots=True)
class AppendEntriesReply:
    """Acknowledges durable entries, or refuses and says where to go on."""

    term: int
    success: bool
    match_index: int
    """On success: every entry up to here is durable and equals the leader's. On refusal: that `prev_log_index`."""
    hint_index: int
    """On refusal: the last index at or below which the logs may agree. 0 on success."""
    hint_term: int
    """On refusal: this server's term at `hint_index` (0 if none), so a whole term is skipped at once."""


@final
@dataclass(slots=True)
class Heartbeat:
    """Keeps the leader's authority and carries what must not wait behind entries."""

    term: int
    leader_commit: int
    """Already limited to what the receiver is known to hold (its match index)."""
    clock_ms: int
    read_id: int
    """The latest ReadIndex round that wants confirmation; 0 if none. Grows: a reply confirms all earlier rounds."""


@final
@dataclass(slots=True)
class HeartbeatReply:
    term: int
    read_id: int
    last_log_index: int
    """Last durable index, so that a stalled or restarted follower is fed at once."""


@final
@dataclass(slots=True)
class ReadIndexRequest:
    """A follower asks the leader for a read index (thesis section 6.4)."""

    term: int
    read_id: int
    """Chosen by the follower; never used twice."""


@final
@dataclass(slots=True)
class ReadIndexReply:
    term: int
    read_id: int
    read_index: int
    """What must be applied before the read is answered. 0: refused, ask again."""


@final
@dataclass(slots=True)
class InstallSnapshot:
    """A snapshot from the leader of `term` that has arrived whole and verified in the receiver's spool.

    The bytes travel outside the core (transport/snapshot_stream.py); this is its metadata.
    """

    term: int
    last_included_index: int
    last_included_term: int
    last_included_hash: bytes
    configuration: Configuration
    snapshot_id: str
    """Name under which the receiver's member finds the spooled bytes. Opaque to the core."""
    last_included_clock_ms: int = 0
    """Log clock of the last included entry, from which a later leader's clock goes on."""


@final
@dataclass(slots=True)
class TimeoutNow:
    """The leader asks the receiver to campaign at once (thesis section 3.10)."""

    term: int


@final
@dataclass(slots=True)
class RebuildRequest:
    """The sender lost its disk, and wants to know what it may have promised (`rebuild`)."""

    term: int
    nonce: int
    """Chosen at random when the sender started, so that answers to an earlier run are not counted."""


@final
@dataclass(slots=True)
class RebuildReply:
    term: int
    """The replier's current term, durable."""
    nonce: int
    last_log_index: int
    """The end of the log that the replier has."""
    last_log_term: int
    blank: bool
    """The replier lost its own disk and knows nothing; the numbers are 0."""
    configurations: tuple[Configuration, ...] = ()
    """Those of the replier's log, from the one that it knows to be committed on: who else is to be asked."""


Message = (
    RequestPreVote
    | RequestPreVoteReply
    | RequestVote
    | RequestVoteReply
    | AppendEntries
    | AppendEntriesReply
    | Heartbeat
    | HeartbeatReply
    | ReadIndexRequest
    | ReadIndexReply
    | InstallSnapshot
    | TimeoutNow
    | RebuildRequest
    | RebuildReply
)
