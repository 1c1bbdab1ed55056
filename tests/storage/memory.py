"""The two stores without a disk: the same contract, for tests of whole members in one turn of an event loop.

`MemoryDisk` plays the disk: what a sync has reached. Writes wait in the store until the event loop comes round, as they
wait for the storage threads on LMDB; `MemoryStorage.crash` loses them.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, final

from kvraft.keyspace.state_records import StateChanges, StateImage
from kvraft.raft.configuration import Configuration
from kvraft.raft.effects import HardState, Persist
from kvraft.raft.entries import Entry, EntryKind
from kvraft.raft.messages import InstallSnapshot
from kvraft.raft.restored import LogPosition, Restored, SnapshotFile
from kvraft.records import BackupCopy, BackupFacts, BackupRefused
from kvraft.storage import codec
from kvraft.storage.backup_spool import BackupSpool
from kvraft.storage.errors import CorruptStorageError, StorageError
from kvraft.storage.log_tables import LogChange, refuse_forgetting
from kvraft.storage.spool import ACCOUNT, HISTORY, NODE, Record, Spool, SpoolHeader, read_spool, write_spool
from kvraft.storage.writer import FailureLatch

SPOOL_CLUSTER_ID: Final = 0
"""A memory store does not know its cluster."""


@final
@dataclass(slots=True)
class MemoryDisk:
    """What survives a crash of the process."""

    configurations: tuple[tuple[int, Configuration], ...]
    """The one in force at `base`, then that of each CONFIGURATION entry."""
    hard_state: HardState = field(default_factory=lambda: HardState(0, 0, 0))
    base: LogPosition = field(default_factory=LogPosition)
    entries: list[Entry] = field(default_factory=list)
    """Everything behind `base`."""
    peers: dict[int, int] = field(default_factory=dict)
    position: LogPosition = field(default_factory=LogPosition)
    configuration: bytes = b""
    keyspace: bytes = b""
    nodes: dict[bytes, bytes] = field(default_factory=dict)
    accounts: dict[bytes, bytes] = field(default_factory=dict)
    history: dict[int, bytes] = field(default_factory=dict)
    history_floor: int = 0
    error: Exception | None = None
    """What the next write meets, as a test wants it."""

    @staticmethod
    def empty(configuration: Configuration) -> "MemoryDisk":
        """A new member's disk, in a cluster that starts with this configuration."""
        return MemoryDisk(((0, configuration),))

    @property
    def last(self) -> LogPosition:
        """The end of the durable log."""
        return codec.position_of(self.entries[-1]) if self.entries else self.base

    def check(self) -> None:
        """Meet the error that a test has planted."""
        if self.error is not None:
            raise self.error

    def write_log(self, change: LogChange) -> None:
        """Apply merged batches."""
        self.check()
        if change.truncate_from and change.truncate_from <= self.last.index:
            assert change.truncate_from > self.base.index, "what a snapshot covers is committed and never removed"
            del self.entries[change.truncate_from - self.base.index - 1 :]
            self.configurations = tuple(held for held in self.configurations if held[0] < change.truncate_from)
        for entry in change.entries:
            assert entry.index == self.last.index + 1, f"entry {entry.index} does not follow {self.last.index}"
            self.entries.append(entry)
            if entry.kind is EntryKind.CONFIGURATION:
                self.configurations += ((entry.index, Configuration.decode(entry.payload)),)
        if change.hard_state is not None:
            refuse_forgetting(self.hard_state, change.hard_state)
            self.hard_state = change.hard_state
        self.peers |= change.peers

    def move_base(self, base: LogPosition) -> None:
        """Forget the entries up to `base`."""
        assert base.index <= self.last.index, "only durable entries are compacted"
        in_force = [configuration for index, configuration in self.configurations if index <= base.index][-1]
        later = tuple(held for held in self.configurations if held[0] > base.index)
        self.configurations = ((base.index, in_force), *later)
        self.entries = [entry for entry in self.entries if entry.index > base.index]
        self.base = base

    def restored(self) -> Restored:
        """What a member that starts on this disk remembers."""
        last, hard_state = self.last, self.hard_state
        commit_index = min(max(hard_state.commit_index, self.position.index), last.index)
        hard_state = replace(hard_state, commit_index=commit_index)
        return Restored(hard_state, self.base, last, self.configurations, self.position.index)


@final
class MemoryLogStore:
    """See `LogStore` in the member's interfaces."""

    def __init__(self, disk: MemoryDisk, latch: FailureLatch) -> None:
        self._disk: Final = disk
        self._latch: Final = latch
        self._restored: Final = disk.restored()
        self._peers = dict(disk.peers)
        self._changed_peers: dict[int, int] = {}
        self._waiting: list[Persist] = []
        self._unanswered = 0
        """The last batch that is queued; 0: none."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._on_persisted: Callable[[int], None] | None = None
        self._sync_scheduled = False
        self.crashed = False

    def start(self, loop: asyncio.AbstractEventLoop, on_persisted: Callable[[int], None]) -> None:
        """Begin to write."""
        self._loop = loop
        self._on_persisted = on_persisted

    def restored(self) -> Restored:
        """What the disk held when it was opened."""
        return self._restored

    def term_at(self, index: int) -> int:
        """The term of the durable entry at `index`; 0 if the log does not hold it."""
        at = index - self._disk.base.index - 1
        return self._disk.entries[at].term if 0 <= at < len(self._disk.entries) else 0

    def slice(self, first: int, last: int, bytes_max: int) -> list[Entry]:
        """Durable entries; see `LogReader`."""
        base = self._disk.base.index
        if first <= base:
            return []
        taken: list[Entry] = []
        size = 0
        for entry in self._disk.entries[first - base - 1 : last - base]:
            size += len(entry.record)
            if taken and size > bytes_max:
                break
            taken.append(entry)
        return taken

    def persist(self, batch: Persist) -> None:
        """Queue a batch for the next sync; see `LogStore`."""
        if self._latch.failure is None:
            self._waiting.append(batch)
            if batch.must_sync:
                self._unanswered = batch.batch_id
            self._schedule_sync()

    def persist_now(self, batch: Persist) -> bool:
        """Sync at once if nothing is queued; see `LogStore`."""
        if self._latch.failure is not None:
            return False
        if self._unanswered or not batch.must_sync:
            self.persist(batch)
            return False
        self._waiting.append(batch)
        return self._write()

    def compact(self, position: LogPosition) -> None:
        """Entries up to `position` are gone at once."""
        if position.index > self._disk.base.index and self._latch.failure is None:
            self._disk.move_base(position)

    def held_bytes(self) -> int:
        """Bytes of the durable entries."""
        return sum(len(entry.record) for entry in self._disk.entries)

    def capacity_bytes(self) -> int:
        """Memory is taken to suffice."""
        return 1 << 40

    def index_leaving(self, bytes_max: int) -> int:
        """Compacting up to this index leaves at most `bytes_max`."""
        for entry in reversed(self._disk.entries):
            bytes_max -= len(entry.record)
            if bytes_max < 0:
                return entry.index
        return self._disk.base.index

    def scrub(self, after: LogPosition | None, entries_max: int) -> LogPosition | None:
        """Memory keeps no bytes that could go bad: always at the end."""
        assert entries_max > 0
        assert after is None, "nobody was told to go on"
        return None

    def peer_seen(self, member_id: int) -> int | None:
        """The highest index that was remembered for this peer; None if it was never seen."""
        return self._peers.get(member_id)

    def remember_peer(self, member_id: int, index: int) -> None:
        """Durable with the next sync. A lower index than the one remembered changes nothing."""
        known = self._peers.get(member_id)
        if known is None or index > known:
            self._peers[member_id] = self._changed_peers[member_id] = index
            if self._loop is not None:
                self._schedule_sync()

    def close(self) -> None:
        """Finish what is queued."""
        if not self.crashed and self._loop is not None:
            self._sync()

    def give_back(self) -> None:
        """It holds nothing for nothing."""

    @property
    def is_queued(self) -> bool:
        """Whether batches wait for the next sync."""
        return bool(self._waiting)

    def durable(self, position: LogPosition) -> bool:
        """Whether the log on the disk goes through `position`."""
        base, entries = self._disk.base, self._disk.entries
        at = position.index - base.index - 1
        if at < 0:
            return at < -1 or position.chain_hash == base.chain_hash
        return at < len(entries) and position.chain_hash == entries[at].chain_hash

    def _schedule_sync(self) -> None:
        assert self._loop is not None, "started"
        if not self._sync_scheduled:
            self._sync_scheduled = True
            self._loop.call_soon(self._sync)

    def _sync(self) -> None:
        self._sync_scheduled = False
        if self.crashed or self._latch.failure is not None or not self._write():
            return
        batch_id, self._unanswered = self._unanswered, 0
        assert self._on_persisted is not None
        if batch_id:
            self._on_persisted(batch_id)

    def _write(self) -> bool:
        change = LogChange(peers=self._changed_peers)
        batches, self._waiting, self._changed_peers = self._waiting, [], {}
        try:
            for batch in batches:
                change.add(batch)
            self._disk.write_log(change)
        except Exception as error:  # noqa: BLE001 -- whatever a test has planted
            self._latch.report("writing the log", error)
            return False
        return True


@final
class MemoryStateStore:
    """See `StateStore` in the member's interfaces. Snapshots are real files, since the transport streams files."""

    def __init__(self, disk: MemoryDisk, log: MemoryLogStore, latch: FailureLatch, spool_directory: Path) -> None:
        self._disk: Final = disk
        self._log: Final = log
        self._latch: Final = latch
        self._loop: asyncio.AbstractEventLoop | None = None
        self._jobs: list[Callable[[], bool]] = []
        self.spool: Final = Spool(spool_directory)
        self.crashed = False

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to write."""
        self._loop = loop

    @property
    def position(self) -> LogPosition:
        """Where the log stood at the last flush."""
        return self._disk.position

    @property
    def configuration(self) -> bytes:
        """`Configuration.encode()` in force at `position`; empty for a new store."""
        return self._disk.configuration

    def size_bytes(self) -> int:
        """Nothing: this memory has no end."""
        return 0

    def give_back(self, *, idle: bool) -> None:
        """It holds nothing for nothing, idle or not."""

    def load(self) -> StateImage:
        """The stored state."""
        disk = self._disk
        history = ((codec.number_key(index), record) for index, record in sorted(disk.history.items()))
        accounts = iter(sorted(disk.accounts.items()))
        return StateImage(disk.keyspace, iter(sorted(disk.nodes.items())), history, accounts)

    def flush(
        self, position: LogPosition, configuration: bytes, changes: StateChanges, done: Callable[[LogPosition], None]
    ) -> None:
        """Store the changes when the loop comes round and the log is durable up to `position`."""

        def job() -> bool:
            if not self._log.durable(position):
                return False
            disk = self._disk
            disk.check()
            disk.nodes |= dict(changes.nodes)
            for key in changes.removed_nodes:
                disk.nodes.pop(key, None)
            disk.history |= {int.from_bytes(key, "big"): record for key, record in changes.history}
            disk.history_floor = max(disk.history_floor, changes.history_floor)
            disk.history = {index: record for index, record in disk.history.items() if index >= disk.history_floor}
            disk.accounts |= dict(changes.accounts)
            for key in changes.removed_accounts:
                disk.accounts.pop(key, None)
            disk.position, disk.configuration, disk.keyspace = position, configuration, changes.meta
            done(position)
            return True

        self._submit(job)

    def history_slice(self, first_etcd_index: int, bytes_max: int) -> Sequence[tuple[int, bytes]]:
        """Durable history records from an etcd_index on, cut after `bytes_max` but never before the first."""
        records: list[tuple[int, bytes]] = []
        size = 0
        for index, record in sorted(self._disk.history.items()):
            if index < first_etcd_index:
                continue
            size += len(record)
            if records and size > bytes_max:
                break
            records.append((index, record))
        return records

    def spool_snapshot(self, done: Callable[[SnapshotFile], None]) -> None:
        """Copy the state to a spool file."""

        def job() -> bool:
            done(write_spool(self.spool.directory, *self._copied()))
            return True

        self._submit(job)

    def backups(self) -> list[BackupCopy]:
        """What is in the spool directory."""
        return BackupSpool(self.spool.directory / "backups").held()

    def spool_backup(
        self, facts: BackupFacts, is_wanted: Callable[[], bool], done: Callable[[BackupCopy | BackupRefused], None]
    ) -> None:
        """Copy the state to a file for a backup; with all of the history, always."""

        def job() -> bool:
            header, records = self._copied()
            if is_wanted():
                done(BackupSpool(self.spool.directory / "backups").write(facts, header, records))
            else:
                done(BackupRefused("nobody waits for it any more"))
            return True

        self._submit(job)

    def beside(self, doing: str, job: Callable[[], None]) -> None:
        """Do something else in its turn."""
        del doing

        def done() -> bool:
            job()
            return True

        self._submit(done)

    def _copied(self) -> tuple[SpoolHeader, list[Record]]:
        disk = self._disk
        chunks = codec.encode_history(
            [(codec.number_key(index), record) for index, record in sorted(disk.history.items())]
        )
        header = SpoolHeader(
            SPOOL_CLUSTER_ID,
            disk.position,
            disk.configuration,
            disk.keyspace,
            disk.history_floor,
            len(disk.nodes),
            len(chunks),
            len(disk.accounts),
        )
        nodes = [(NODE, key, codec.seal(key, record)) for key, record in sorted(disk.nodes.items())]
        accounts = [(ACCOUNT, key, codec.seal(key, record)) for key, record in sorted(disk.accounts.items())]
        return header, [*nodes, *accounts, *((HISTORY, key, stored) for key, stored in chunks)]

    def install_snapshot(self, snapshot: InstallSnapshot, done: Callable[[], None]) -> None:
        """Replace state and log, behind the batches that are queued, as the log thread does it."""

        def job() -> bool:
            if self._log.is_queued:
                return False
            path = self.spool.path_of(snapshot.snapshot_id)
            header, records = read_spool(path)
            position = header.position
            wanted = (snapshot.last_included_index, snapshot.last_included_term, snapshot.last_included_hash)
            if (position.index, position.term, position.chain_hash) != wanted:
                raise CorruptStorageError(f"snapshot {path} ends at index {position.index}, not {wanted[0]}")
            nodes: dict[bytes, bytes] = {}
            history: dict[int, bytes] = {}
            accounts: dict[bytes, bytes] = {}
            for table, key, stored in records:
                if table == NODE:
                    nodes[key] = codec.unseal(key, stored, str(path))
                elif table == ACCOUNT:
                    accounts[key] = codec.unseal(key, stored, str(path))
                else:
                    history |= dict(codec.decode_history(key, stored, str(path)))
            disk = self._disk
            disk.nodes, disk.history, disk.history_floor = nodes, history, header.history_floor
            disk.accounts = accounts
            disk.position, disk.configuration, disk.keyspace = position, header.configuration, header.keyspace
            disk.base, disk.entries = position, []
            disk.configurations = ((position.index, snapshot.configuration),)
            self.spool.remove(snapshot.snapshot_id)
            done()
            return True

        self._submit(job)

    def close(self) -> None:
        """Finish what is queued."""
        if not self.crashed and self._jobs:
            self._run()

    def _submit(self, job: Callable[[], bool]) -> None:
        assert self._loop is not None, "started"
        if self._latch.failure is None:
            self._jobs.append(job)
            self._loop.call_soon(self._run)

    def _run(self) -> None:
        while self._jobs and not self.crashed and self._latch.failure is None:
            try:
                finished = self._jobs[0]()
            except Exception as error:  # noqa: BLE001 -- whatever a test has planted
                self._latch.report("writing the state", error)
                return
            if not finished:  # the log comes first
                assert self._loop is not None
                self._loop.call_soon(self._run)
                return
            del self._jobs[0]


@final
@dataclass(slots=True, frozen=True)
class MemoryStorage:
    """As `opening.Storage`, on a `MemoryDisk`."""

    log: MemoryLogStore
    state: MemoryStateStore
    latch: FailureLatch
    fresh: bool

    def start(
        self,
        loop: asyncio.AbstractEventLoop,
        on_persisted: Callable[[int], None],
        on_failure: Callable[[StorageError], None],
    ) -> None:
        """See `opening.Storage.start`."""
        self.latch.bind(loop, on_failure)
        self.log.start(loop, on_persisted)
        self.state.start(loop)

    def crash(self) -> None:
        """Lose everything that the disk has not got. The storage is dead; open another one on the same disk."""
        self.log.crashed = self.state.crashed = True

    def close(self) -> None:
        """Finish what is queued."""
        self.log.close()
        self.state.close()


def open_memory(disk: MemoryDisk, spool_directory: Path) -> MemoryStorage:
    """The stores of a member whose disk is `disk`; snapshots are files in `spool_directory`."""
    latch = FailureLatch()
    log = MemoryLogStore(disk, latch)
    state = MemoryStateStore(disk, log, latch, spool_directory)
    return MemoryStorage(log, state, latch, disk.restored().last.index == 0)
