"""What comes out of the core: the caller carries out one `Effects` after each step, in the order of its fields."""

import enum
from dataclasses import dataclass
from typing import final

from kvraft.raft.configuration import Configuration
from kvraft.raft.entries import Entry
from kvraft.raft.messages import InstallSnapshot, Message


class Role(enum.StrEnum):
    """The roles of section 5.1, and the one that PreVote adds."""

    FOLLOWER = "follower"
    PRE_CANDIDATE = "pre-candidate"
    CANDIDATE = "candidate"
    LEADER = "leader"


class ProposalRefusalReason(enum.StrEnum):
    """Why a proposal did not enter the log. It certainly did not: proposing it again is safe."""

    NOT_LEADER = "not leader"
    TRANSFERRING = "leadership is being transferred"
    TOO_MANY = "too many requests"
    """The limit on uncommitted bytes is reached (back-pressure)."""
    CONFIGURATION = "configuration change not allowed now"
    REMOVED = "a removed server never returns: add it under a new id"


@final
@dataclass(slots=True, frozen=True)
class Rebuilding:
    """This server lost its disk and does not hold yet what it may have acknowledged (`rebuild`)."""

    asking: bool
    """It has not heard from everybody, and promises nothing."""
    last_log_term: int = 0
    last_log_index: int = 0
    """The floor: it speaks for a log that ends here at least."""


@final
@dataclass(slots=True, unsafe_hash=True)
class HardState:
    """What a server must remember across a crash (Figure 2, persistent state), and the commit index as a hint.

    Never modified once made.
    """

    current_term: int
    voted_for: int
    """Server id, 0 for none."""
    commit_index: int
    """Replay may go this far after a restart. A change of it alone never forces a sync."""
    rebuilding: Rebuilding | None = None
    """None for a server that never lost its disk, or has everything back."""


@final
@dataclass(slots=True)
class Persist:
    """One durable transaction. Call `Raft.persisted(batch_id)` when it is on disk; batches become durable in order."""

    batch_id: int
    """Grows by one a batch within one run."""
    hard_state: HardState | None
    """None if term, vote and commit index stand as stored before. Always stored with the entries when given."""
    truncate_from: int
    """Remove entries from this index on before appending; 0: remove nothing."""
    entries: list[Entry]
    must_sync: bool
    """False when only the commit index moved: it rides on a later batch, and nobody is told when."""


@final
@dataclass(slots=True)
class Outgoing:
    to_server: int
    message: Message
    after_batch: int = 0
    """Leaves once batches up to this one are durable; 0: may leave now, beside the disk."""


@final
@dataclass(slots=True)
class Accepted:
    """The proposal stands in the leader's log at (index, term); it is not committed yet."""

    token: int
    index: int
    term: int


@final
@dataclass(slots=True)
class ProposalRefused:
    token: int
    reason: ProposalRefusalReason


@final
@dataclass(slots=True)
class ReadReady:
    read_id: int
    read_index: int
    """Answer the read once this index is applied."""


@final
@dataclass(slots=True)
class SendSnapshot:
    """`to_server` needs entries that the log no longer holds: stream it a snapshot, then feed `SnapshotSent`."""

    to_server: int
    term: int


@final
@dataclass(slots=True)
class RoleChange:
    """Role, term or known leader changed in this step."""

    role: Role
    term: int
    leader_id: int
    """0 while unknown."""


@final
@dataclass(slots=True)
class Divergence:
    """Equal (index, term) with different chain hashes, or another thing that correct servers never do.

    The member must stop: going on would serve or spread a history that contradicts a peer's.
    """

    index: int
    detail: str


@final
@dataclass(slots=True, init=False)
class Effects:
    """The caller's duties after a step.

    `persist` and those of `messages` that name no batch start side by side; each of the others leaves when the batch
    that it names is durable. `committed` goes to the applier in order, never twice.
    """

    persist: Persist | None
    messages: list[Outgoing]
    committed: list[Entry]
    """Consecutive; bounded in bytes a step (the rest comes with later steps, see `Raft.next_deadline_ms`)."""
    accepted: list[Accepted]
    refused: list[ProposalRefused]
    reads_ready: list[ReadReady]
    reads_failed: list[int]
    """Read ids without an answer (leader lost or unknown); retry with a fresh id."""
    send_snapshots: list[SendSnapshot]
    install: InstallSnapshot | None
    """Replace state and log by this spooled snapshot, durably, then feed `SnapshotInstalled`."""
    configuration: Configuration | None
    """The configuration in force, when this step changed it."""
    role_change: RoleChange | None
    divergence: Divergence | None
    corrupt_from: list[int]
    """Servers of which an entry arrived that does not fit its own hash. It was dropped as if lost; count and log it."""

    def __init__(self, persist: Persist | None = None, messages: list[Outgoing] | None = None) -> None:
        """Nothing to do beside what is given. Every step makes one, and default factories take twice as long."""
        self.persist = persist
        self.messages = [] if messages is None else messages
        self.committed = []
        self.accepted = []
        self.refused = []
        self.reads_ready = []
        self.reads_failed = []
        self.send_snapshots = []
        self.install = None
        self.configuration = None
        self.role_change = None
        self.divergence = None
        self.corrupt_from = []
