"""What goes into the core: `Raft.step(inputs, now_ms)` takes a list of these."""

from dataclasses import dataclass
from typing import final

from kvraft.raft.configuration import Configuration
from kvraft.raft.entries import ZERO_HASH
from kvraft.raft.messages import Message


@final
@dataclass(slots=True)
class Received:
    """A message arrived from a server whose identity the transport has checked."""

    from_server: int
    message: Message


@final
@dataclass(slots=True)
class Propose:
    """Append a COMMAND. Answered in the same step by `Effects.accepted` or `Effects.refused`."""

    token: int
    """The caller's name for the proposal; returned, never stored."""
    payload: bytes


@final
@dataclass(slots=True)
class ProposeConfiguration:
    """Change the voters or learners by one server (thesis section 4.1)."""

    token: int
    configuration: Configuration
    """The voters and learners to have. Who was removed the core knows itself; what stands here of it is not read."""


@final
@dataclass(slots=True)
class ReadRequest:
    """A linearizable read wants to know its read index. Answered by `reads_ready` or `reads_failed`."""

    read_id: int
    """Fresh for every attempt; above 0 and growing within one run of a member."""


@final
@dataclass(slots=True)
class LogCompacted:
    """Entries up to `index` are covered by the durable state and left the log store."""

    index: int
    term: int = 0
    """Term, chain hash and clock of the last entry dropped: the first entry still held is sent with them. Left out, a
    follower that lacks exactly that entry may need a snapshot."""
    chain_hash: bytes = ZERO_HASH
    clock_ms: int = 0


@final
@dataclass(slots=True)
class SnapshotInstalled:
    """The snapshot of `Effects.install` replaced state and log durably. Entries beyond it are gone."""

    last_included_index: int


@final
@dataclass(slots=True)
class SnapshotSent:
    """A snapshot transfer that `Effects.send_snapshots` asked for has ended."""

    server: int
    last_included_index: int
    """What was sent; 0 if the transfer failed."""


@final
@dataclass(slots=True)
class PeerConnected:
    """Messages can go to a server and come from it again."""

    server: int
    reaches_majority: bool
    """Whether this server is connected with so many voters now that together they are a majority."""
    higher_ids: int = 0
    """How many of those have a higher id than this server."""


@final
@dataclass(slots=True)
class PeerDisconnected:
    """The connection from a server's process broke; if it is the leader, its lease on this server is void."""

    server: int


@final
@dataclass(slots=True)
class PeerUnreachable:
    """Something sent to `server` was dropped; the leader stops sending optimistically."""

    server: int


@final
@dataclass(slots=True)
class TransferLeadership:
    """Hand leadership to `to_server`, or with 0 to the most up-to-date follower."""

    to_server: int


Input = (
    Received
    | Propose
    | ProposeConfiguration
    | ReadRequest
    | LogCompacted
    | SnapshotInstalled
    | SnapshotSent
    | PeerConnected
    | PeerDisconnected
    | PeerUnreachable
    | TransferLeadership
)
