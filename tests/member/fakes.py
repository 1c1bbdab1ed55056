"""What surrounds a single file of the member in its tests."""

from collections.abc import Callable, Mapping, Sequence
from typing import cast, final

from kvraft.keyspace.command_codec import encode_command
from kvraft.keyspace.commands import Command
from kvraft.keyspace.keyspace import Keyspace
from kvraft.member.applier import Applier
from kvraft.member.failure import Failure
from kvraft.member.interfaces import Frame, TransportEvents
from kvraft.member.waiters import REQUEST_ID_BYTES, Waiters
from kvraft.raft.configuration import Configuration
from kvraft.raft.core import Raft
from kvraft.raft.effects import Effects, Persist, Role
from kvraft.raft.entries import ZERO_HASH, Entry, EntryKind, make_entry
from kvraft.raft.inputs import Input
from kvraft.raft.restored import LogPosition, SnapshotFile
from kvraft.transport.handshake import PROTOCOL_VERSION_MAX


def log_of(*payloads: bytes | None, term: int = 1, after: Entry | None = None) -> list[Entry]:
    """Consecutive entries: a COMMAND for bytes, a NOOP for None."""
    entries: list[Entry] = []
    for payload in payloads:
        index, chain_hash = (after.index, after.chain_hash) if after is not None else (0, ZERO_HASH)
        kind = EntryKind.NOOP if payload is None else EntryKind.COMMAND
        after = make_entry(chain_hash, index + 1, term, kind, (index + 1) * 10, payload or b"")
        entries.append(after)
    return entries


def payload_of(command: Command) -> bytes:
    """A command as another member's client sent it."""
    return bytes(REQUEST_ID_BYTES) + encode_command(command)


@final
class RecordingTransport:
    """Keeps what is sent; everybody is connected unless taken out."""

    def __init__(self) -> None:
        self.sent: list[tuple[int, Frame]] = []
        self.connected = {1, 2, 3}
        self.protocols: dict[int, int] = {}
        self.peers: dict[int, tuple[str, ...]] = {}
        self.snapshots: list[tuple[int, SnapshotFile, Callable[[bool], None]]] = []

    async def start(self, events: TransportEvents) -> None:
        """There is nobody to listen to."""

    def set_peers(self, peers: Mapping[int, Sequence[str]]) -> None:
        self.peers = {member_id: tuple(urls) for member_id, urls in peers.items()}

    def send(self, to_member: int, frames: Sequence[Frame]) -> None:
        self.sent += [(to_member, frame) for frame in frames]

    def is_connected(self, member_id: int) -> bool:
        return member_id in self.connected

    def newest_protocol(self, member_id: int) -> int:
        return self.protocols.get(member_id, PROTOCOL_VERSION_MAX)

    def send_snapshot(self, to_member: int, term: int, snapshot: SnapshotFile, done: Callable[[bool], None]) -> None:
        self.snapshots.append((to_member, snapshot, done))

    async def stop(self) -> None:
        """There is nothing to close."""

    def take(self) -> list[tuple[int, Frame]]:
        """What was sent since the last call."""
        sent, self.sent = self.sent, []
        return sent


@final
class ScriptedRaft:
    """A core whose effects a test decides, and which keeps what it was given."""

    def __init__(self, role: Role = Role.FOLLOWER, term: int = 1, leader_id: int = 0) -> None:
        self.role, self.current_term, self.leader_id = role, term, leader_id
        self.commit_index = 0
        self.is_rebuilding = False
        self.unanswered: list[int] = []
        self.lost_as_well: list[int] = []
        self.last_log_index = 0
        self.last_applied = 0
        self.entries: list[Entry] = []
        self.founding = b""
        self.configuration = self.committed_configuration = Configuration.of((1, 2, 3))
        self.durable_index = 0
        self.durable_position = LogPosition()
        self.commits = False
        """What it says when batches are durable."""
        self.durable_batch = 0
        self.first_log_index = 1
        self.next_deadline_ms = 1 << 60
        self.progress: dict[int, object] = {}
        self.given: list[Input] = []
        self.steps = 0
        self.effects: list[Effects] = []

    def step(self, inputs: Sequence[Input], now_ms: int) -> Effects:
        self.given += inputs
        self.steps += 1
        return self.effects.pop(0) if self.effects else Effects()

    def entries_behind(self, index: int, bytes_max: int) -> Sequence[Entry]:
        return [entry for entry in self.entries if entry.index > index]

    def persisted(self, batch_id: int) -> bool:
        self.durable_batch = batch_id
        return self.commits and self.role is Role.LEADER

    def applied(self, index: int) -> bool:
        return self.commit_index > index

    @property
    def core(self) -> Raft:
        """For what wants the real one."""
        return cast("Raft", self)


@final
class ManualLog:
    """A log whose batches become durable when the test says so. `persist_now` works while nothing is queued."""

    def __init__(self, journal: list[str]) -> None:
        self.queued: list[Persist] = []
        self.last = LogPosition()
        self.commit_takes: Callable[[], None] = lambda: None
        """Called within `persist_now`."""
        self._journal = journal

    def restored(self) -> "ManualLog":
        """Only `last` of it is looked at."""
        return self

    def persist(self, batch: Persist) -> None:
        self.queued.append(batch)
        self._journal.append(f"queue {batch.batch_id}")

    def persist_now(self, batch: Persist) -> bool:
        if self.queued:
            self.persist(batch)
            return False
        self.commit_takes()
        self._journal.append(f"commit {batch.batch_id}")
        return True


@final
class Silence:
    """Hears everything that a part of the member tells, and remembers failures."""

    def __init__(self) -> None:
        self.failure = Failure("m1")
        self.applied: list[int] = []
        self.later_terms: list[int] = []
        self.hashes: list[int] = []
        self.installed: list[tuple[Keyspace, LogPosition]] = []

    @property
    def failures(self) -> list[str]:
        """Why the member cannot go on, if so."""
        return [self.failure.reason.result()] if self.failure.reason.done() else []

    def on_applied(self, index: int) -> None:
        self.applied.append(index)

    def on_later_term(self, term: int) -> None:
        self.later_terms.append(term)

    def on_state_hash(self, index: int, state_hash: bytes) -> None:
        self.hashes.append(index)

    def on_installed(self, keyspace: Keyspace, position: LogPosition) -> None:
        self.installed.append((keyspace, position))


def applier_of(
    keyspace: Keyspace,
    waiters: Waiters,
    heard: Silence,
    monotonic_ms: Callable[[], int] = lambda: 0,
    slice_ms: int = 10,
) -> Applier:
    """An applier at the beginning of a log, which tells `heard`."""
    applier = Applier(keyspace, LogPosition(), Configuration.of((1, 2, 3)), waiters, monotonic_ms, slice_ms)
    applier.on_applied, applier.on_later_term = heard.on_applied, heard.on_later_term
    applier.on_state_hash = heard.on_state_hash
    return applier
