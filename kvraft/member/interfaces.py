"""What a member needs from disk and network. Storage and transport satisfy these structurally; tests pass fakes.

Every callback is called on the member's event loop.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from kvraft.founding import Founder
from kvraft.keyspace.state_records import StateChanges, StateImage
from kvraft.peer_frames import ForwardedCommand, ForwardRefused, Frame, MatchIndices, StateHash, TransportEvents
from kvraft.raft.effects import Persist
from kvraft.raft.messages import InstallSnapshot
from kvraft.raft.restored import LogPosition, LogReader, Restored, SnapshotFile
from kvraft.records import BackupCopy, BackupFacts, BackupRefused

__all__ = (
    "ForwardRefused",
    "ForwardedCommand",
    "Frame",
    "LogStore",
    "MatchIndices",
    "SnapshotFile",
    "StateHash",
    "StateStore",
    "Transport",
    "TransportEvents",
)


class LogStore(LogReader, Protocol):
    """The log environment: entries, hard state, and what this member remembers of its peers.

    Any error on the durable path is handed to `on_failure`, once; nothing is acknowledged after it.
    """

    def restored(self) -> Restored:
        """What the environment held when it was opened, verified."""
        ...

    def persist(self, batch: Persist) -> None:
        """Queue a batch for the log thread. Waiting batches are merged into one sync; `on_persisted` names the last.

        A batch without `must_sync` rides on a later one, and has no answer of its own.
        """
        ...

    def persist_now(self, batch: Persist) -> bool:
        """Make the batch durable before returning, when nothing is queued; otherwise queue it and return False.

        One without `must_sync` is always queued.
        """
        ...

    def compact(self, position: LogPosition) -> None:
        """Drop entries up to `position`, in the background and in bounded transactions."""
        ...

    def scrub(self, after: LogPosition | None, entries_max: int) -> LogPosition | None:
        """Verify the next old entries; returns where to go on, None to begin anew. Raises for a damaged one."""
        ...

    def held_bytes(self) -> int:
        """About how many bytes the entries between base and end have; costs nothing."""
        ...

    def capacity_bytes(self) -> int:
        """How long its file can become, whatever the disk has."""
        ...

    def index_leaving(self, bytes_max: int) -> int:
        """Compacting up to this index leaves about `bytes_max`."""
        ...

    def peer_seen(self, member_id: int) -> int | None:
        """The highest index that this peer has acknowledged or shown; None if it was never seen."""
        ...

    def remember_peer(self, member_id: int, index: int) -> None:
        """Remember that the peer exists and holds `index`, durably within a second; the highest index given counts.

        The caller gives no index above its commit index: what is not committed may rightly vanish from a peer.
        """
        ...

    def give_back(self) -> None:
        """Nobody writes: the disk gets back what the log has taken of it and does not need, by and by."""
        ...

    def close(self) -> None:
        """Finish what is queued and release the directory."""
        ...


class StateStore(Protocol):
    """The state environment: keyspace and history, written behind, always exactly the state at its applied index."""

    @property
    def position(self) -> LogPosition:
        """Where the log stood at the last durable flush (index, term, chain hash, log clock)."""
        ...

    @property
    def configuration(self) -> bytes:
        """`Configuration.encode()` in force at `position`; empty for a new store."""
        ...

    def load(self) -> StateImage:
        """The stored state, records verified as they are read."""
        ...

    def flush(
        self, position: LogPosition, configuration: bytes, changes: StateChanges, done: Callable[[LogPosition], None]
    ) -> None:
        """Store changes, position and configuration in one synced transaction on the state thread, then call `done`.

        It waits for the log: the state on disk never gets ahead of this member's own durable entries.
        """
        ...

    def history_slice(self, first_etcd_index: int, bytes_max: int) -> Sequence[tuple[int, bytes]]:
        """Durable history records from an etcd_index on, cut after `bytes_max`."""
        ...

    def size_bytes(self) -> int:
        """How large the state is; a snapshot of it takes no more of the disk."""
        ...

    def give_back(self, *, idle: bool) -> None:
        """The system gets back memory that was freed; if nobody writes, also what the file has taken without need."""
        ...

    def spool_snapshot(self, done: Callable[[SnapshotFile], None]) -> None:
        """Copy the durable state to a checksummed spool file, on the state thread."""
        ...

    def backups(self) -> Sequence[BackupCopy]:
        """The copies for backups that an earlier process of this member has left, the oldest first."""
        ...

    def spool_backup(
        self, facts: BackupFacts, is_wanted: Callable[[], bool], done: Callable[[BackupCopy | BackupRefused], None]
    ) -> None:
        """Copy the durable state to a file, without haste, on the state thread; given up once it `is_wanted` no more.

        What the disk refuses is refused and ends nothing else.
        """
        ...

    def beside(self, doing: str, job: Callable[[], None]) -> None:
        """Do something else that waits for the disk on the state thread, in its turn."""
        ...

    def install_snapshot(self, snapshot: InstallSnapshot, done: Callable[[], None]) -> None:
        """Replace the stored state by a spooled snapshot and the log by an empty one behind it, then call `done`.

        The new state is built beside the old one; one transaction of the log resets the log and switches to it.
        A batch that is queued later must continue from the snapshot's position.
        """
        ...

    def close(self) -> None:
        """Finish what is queued and close the environment."""
        ...


class Transport(Protocol):
    """Sessions with the peers. Never blocks, never raises for a peer's fault."""

    async def start(self, events: TransportEvents) -> None:
        """Listen and begin to connect."""
        ...

    def send(self, to_member: int, frames: Sequence[Frame]) -> None:
        """Queue frames; what does not fit the bounded queue is dropped and reported by `on_dropped`."""
        ...

    def set_peers(self, peers: Mapping[int, Sequence[str]]) -> None:
        """The other members with their peer URLs, from now on. Who was removed is told; one without URLs may come."""
        ...

    def is_connected(self, member_id: int) -> bool:
        """Whether frames sent now have a session to leave on."""
        ...

    def newest_protocol(self, member_id: int) -> int:
        """The newest protocol version that a peer has said that it speaks; 0 if it has not been heard yet."""
        ...

    def send_snapshot(self, to_member: int, term: int, snapshot: SnapshotFile, done: Callable[[bool], None]) -> None:
        """Stream a spool file to a peer, resuming what it already has; `done(False)` if it failed."""
        ...

    async def stop(self) -> None:
        """Close streams and the listener."""
        ...


class IdentityStore(Protocol):
    """What a data directory says of its member to a start that has read nothing else. No call waits for the disk."""

    def keep_members(self, members: Sequence[Founder], /) -> None:
        """These are the members of the day."""
        ...

    def forget_replaced(self) -> None:
        """The member in whose place this one came is removed: later starts have nothing to do with it."""
        ...
