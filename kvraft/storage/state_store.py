"""The state environment: written behind the log, and always exactly the state at its applied index."""

import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Final, final

from kvraft import clock, heap, logs
from kvraft.founding import Identity
from kvraft.keyspace.state_records import StateChanges, StateImage
from kvraft.raft.messages import InstallSnapshot
from kvraft.raft.restored import LogPosition, SnapshotFile
from kvraft.records import BackupCopy, BackupFacts, BackupRefused
from kvraft.storage import codec, failpoints, state_tables
from kvraft.storage.backup_spool import BackupSpool
from kvraft.storage.errors import CorruptStorageError
from kvraft.storage.interfaces import Directory, Jobs, OpenFile, Transaction
from kvraft.storage.log_store import LogStore
from kvraft.storage.measures import seconds_since
from kvraft.storage.spool import ACCOUNT, HISTORY, NODE, Record, Spool, SpoolHeader, read_spool, write_spool
from kvraft.storage.state_tables import StateFile, StateHead
from kvraft.storage.writer import FailureLatch, StorageThread

BACKUP_WORK_NS: Final = 250_000
BACKUP_REST: Final = 6
"""A copy for a backup has time: after each quarter of a millisecond of work its thread rests for so many times as long
as it took. While it works it takes turns with the thread that answers clients, of whose wish for the interpreter it
hears only after half a millisecond (`GIL_SWITCH_INTERVAL_S`); and on a machine without a core to spare, everything that
it does is taken from those who write. 100 MB are a second of CPU."""

log = logs.get(__name__)


@final
class StateStore:
    """See `StateStore` in the member's interfaces. Methods are for the loop's thread."""

    def __init__(
        self,
        directory: Directory,
        identity: Identity,
        state: StateFile,
        log: LogStore,
        latch: FailureLatch,
        open_file: OpenFile,
        spool: Spool,
    ) -> None:
        self._directory: Final = directory
        self._identity: Final = identity
        self._state = state
        """What the loop reads."""
        self._written = state
        """What the state thread writes; after an install it is ahead of `_state` by one turn of the loop."""
        self._log: Final = log
        self._latch: Final = latch
        self._open_file: Final = open_file
        self._thread: Jobs | None = None
        with state.file.reading() as transaction:
            self._head = state_tables.read_head(transaction, state.where)
        self._floor = self._head.history_floor
        """The state thread's, which may be ahead of `_head` by a flush."""
        self.spool: Final = spool
        self._closing = threading.Event()
        self._backups = BackupSpool(spool.directory / "backups")

    def start(self, thread: Jobs | None = None) -> None:
        """Begin to write, on a thread of its own unless one is given. The latch knows the loop."""
        self._thread = thread or StorageThread("kvraft-state", self._latch)

    @property
    def position(self) -> LogPosition:
        """Where the log stood at the last durable flush."""
        return self._head.position

    @property
    def configuration(self) -> bytes:
        """`Configuration.encode()` in force at `position`; empty for a new store."""
        return self._head.configuration

    def load(self) -> StateImage:
        """The stored state. The iterators raise CorruptStorageError; each holds a read transaction until its end."""
        history = state_tables.iterate_history(self._state, self._head.history_floor)
        keyed = ((codec.number_key(etcd_index), record) for etcd_index, record in history)
        nodes = state_tables.iterate_records(self._state, self._state.nodes)
        accounts = state_tables.iterate_records(self._state, self._state.accounts)
        return StateImage(self._head.keyspace, nodes, keyed, accounts)

    def flush(
        self, position: LogPosition, configuration: bytes, changes: StateChanges, done: Callable[[LogPosition], None]
    ) -> None:
        """Store everything in one synced transaction on the state thread; see `StateStore`."""
        self._submit("writing the state", lambda: self._flush(position, configuration, changes, done))

    def history_slice(self, first_etcd_index: int, bytes_max: int) -> Sequence[tuple[int, bytes]]:
        """Durable history records from an etcd_index on, cut after `bytes_max` but never before the first."""
        return state_tables.history_slice(self._state, first_etcd_index, self._head.history_floor, bytes_max)

    def spool_snapshot(self, done: Callable[[SnapshotFile], None]) -> None:
        """Copy the durable state to a spool file on the state thread."""
        self._submit("writing a snapshot", lambda: self._spool(done))

    def backups(self) -> list[BackupCopy]:
        """The copies that an earlier process has left, the oldest first."""
        return self._backups.held()

    def spool_backup(
        self, facts: BackupFacts, is_wanted: Callable[[], bool], done: Callable[[BackupCopy | BackupRefused], None]
    ) -> None:
        """Copy the durable state to a file for a backup on the state thread; see `StateStore`."""
        self._submit("writing a backup", lambda: self._spool_backup(facts, is_wanted, done))

    def install_snapshot(self, snapshot: InstallSnapshot, done: Callable[[], None]) -> None:
        """Replace state and log; see `StateStore`."""
        self._submit("installing a snapshot", lambda: self._install(snapshot, done))

    def size_bytes(self) -> int:
        """How much the state is; its file may take more of the disk."""
        return self._state.file.used_bytes()

    def give_back(self, *, idle: bool) -> None:
        """Give freed memory back to the system, on the state thread; if nobody writes, free pages as well."""
        self._submit("giving back", lambda: self._give_back(idle=idle))

    def beside(self, doing: str, job: Callable[[], None]) -> None:
        """Do something else that waits for the disk on the state thread, in its turn. `doing` is for its failure."""
        self._submit(doing, job)

    def close(self) -> None:
        """Finish what is queued and close the environment. The log is closed after this."""
        self._closing.set()
        if self._thread is not None:
            self._thread.finish()
        self._written.file.close()
        self._state.file.close()

    def _submit(self, doing: str, job: Callable[[], None]) -> None:
        assert self._thread is not None, "started"
        self._thread.submit(doing, job)

    def _flush(
        self, position: LogPosition, configuration: bytes, changes: StateChanges, done: Callable[[LogPosition], None]
    ) -> None:
        if not self._log.wait_durable(position):
            return
        self._floor = max(changes.history_floor, self._floor)
        head = StateHead(position, configuration, changes.meta, self._floor)
        file = self._written.file
        with file.writing() as transaction:
            state_tables.write_changes(transaction, self._written, changes)
            state_tables.write_head(transaction, head)
            failpoints.hit("state.before_commit")
            started_ns = clock.monotonic_ns()
            file.commit(transaction, position.index)
            self._log.measures.state_commit(seconds_since(started_ns))
        failpoints.hit("state.after_commit")

        def flushed(head: StateHead) -> None:
            self._head = head
            done(head.position)

        self._latch.tell(flushed, head)
        file.give_back(idle=False)

    def _give_back(self, *, idle: bool) -> None:
        if idle:
            self._written.file.give_back(idle=True)
        heap.give_back()

    def _spool(self, done: Callable[[SnapshotFile], None]) -> None:
        state = self._written
        started_ns = clock.monotonic_ns()
        with state.file.reading() as transaction:
            header, records = self._copied(state, transaction, with_history=True)
            snapshot = write_spool(self.spool.directory, header, records)
        self._log.measures.spool(seconds_since(started_ns))
        self._latch.tell(done, snapshot)

    def _copied(
        self, state: StateFile, transaction: Transaction, *, with_history: bool
    ) -> tuple[SpoolHeader, Iterator[Record]]:
        """The state as a transaction sees it; without the history, its newest chunk, which no state is without."""
        head = state_tables.read_head(transaction, state.where)
        nodes, chunks, accounts = state_tables.counts(transaction, state)
        floor, first = head.history_floor, b""
        with transaction.cursor(db=state.history) as cursor:
            if not with_history and cursor.last():
                chunks, first = 1, cursor.key()
                floor = max(floor, codec.number_of_key(first))
        header = SpoolHeader(
            self._identity.cluster_id,
            head.position,
            head.configuration,
            head.keyspace,
            floor,
            nodes,
            chunks,
            accounts,
        )

        def records() -> Iterator[Record]:
            # In the order in which a keyspace loads them.
            for table, database, begin in (
                (NODE, state.nodes, b""),
                (ACCOUNT, state.accounts, b""),
                (HISTORY, state.history, first),
            ):
                with transaction.cursor(db=database) as cursor:
                    if begin:
                        cursor.set_key(begin)
                    for key, stored in cursor:
                        codec.unseal(key, stored, state.where)
                        yield table, key, stored

        return header, records()

    def _spool_backup(
        self, facts: BackupFacts, is_wanted: Callable[[], bool], done: Callable[[BackupCopy | BackupRefused], None]
    ) -> None:
        """A disk that is full refuses it, and ends nothing: no part of the member's own data is written here."""
        state = self._written
        started_ns = clock.monotonic_ns()
        outcome: BackupCopy | BackupRefused
        try:
            with state.file.reading() as transaction:
                header, records = self._copied(state, transaction, with_history=facts.with_history)
                outcome = self._backups.write(facts, header, _resting(records, is_wanted, self._closing))
        except _UnwantedError:
            outcome = BackupRefused("nobody waits for it any more")
        except OSError as error:
            log.warning("no backup: the disk refused it", directory=self._backups.directory, error=error)
            outcome = BackupRefused(f"this member's disk could not hold a copy: {error.strerror}", is_room=True)
        self._log.measures.spool(seconds_since(started_ns))
        self._latch.tell(done, outcome)

    def _install(self, snapshot: InstallSnapshot, done: Callable[[], None]) -> None:
        path = self.spool.path_of(snapshot.snapshot_id)
        header, records = read_spool(path)
        position = header.position
        wanted = (snapshot.last_included_index, snapshot.last_included_term, snapshot.last_included_hash)
        if (position.index, position.term, position.chain_hash) != wanted:
            raise CorruptStorageError(f"snapshot {path} ends at index {position.index}, not {wanted[0]}")
        if header.cluster_id != self._identity.cluster_id:
            raise CorruptStorageError(f"snapshot {path} is of cluster {header.cluster_id:x}")
        self._replace(header, records, snapshot, done)

    def _replace(
        self, header: SpoolHeader, records: Iterator[Record], snapshot: InstallSnapshot, done: Callable[[], None]
    ) -> None:
        """Put a snapshot's records in the place of the state, and its position in the place of the log."""
        position = header.position
        generation = self._generation() + 1
        beside = self._build(generation, header, records)
        failpoints.hit("install.state_built")
        self._log.switch_state(position, snapshot.configuration, generation)
        self._floor, self._written = header.history_floor, beside
        head = StateHead(position, header.configuration, header.keyspace, header.history_floor)

        def switched(beside: StateFile) -> None:
            replaced, self._state, self._head = self._state, beside, head
            self._submit("removing the replaced state", lambda: self._remove(replaced, generation, snapshot))
            done()

        self._latch.tell(switched, beside)

    def _remove(self, replaced: StateFile, generation: int, snapshot: InstallSnapshot) -> None:
        """Not on the loop: to give back a large file takes the file system a while."""
        replaced.file.close()
        failpoints.hit("install.before_cleanup")
        self._directory.remove_other_states(generation)
        self.spool.remove(snapshot.snapshot_id)

    def _generation(self) -> int:
        return int(self._written.file.path.name.removeprefix("state-"))

    def _build(self, generation: int, header: SpoolHeader, records: Iterator[Record]) -> StateFile:
        """The snapshot's state in an environment of its own, synced, used by nobody yet."""
        path = self._directory.state_path(generation)
        if path.exists():  # an earlier attempt of this process ended before its switch
            shutil.rmtree(path)
        file = self._open_file(path, state_tables.DATABASES, True)
        state = state_tables.open_tables(file)
        state_tables.create_state(state, self._identity)
        state_tables.fill(state, records)
        state_tables.check_counts(state, (header.nodes, header.history_chunks, header.accounts))
        with file.writing() as transaction:
            head = StateHead(header.position, header.configuration, header.keyspace, header.history_floor)
            state_tables.write_head(transaction, head)
            file.commit(transaction, header.position.index)
        return state


class _UnwantedError(Exception):
    """A copy was given up while it was made."""


def _resting(records: Iterator[Record], is_wanted: Callable[[], bool], closing: threading.Event) -> Iterator[Record]:
    """The records, with time for others between them."""
    began_ns = clock.monotonic_ns()
    for count, record in enumerate(records):
        yield record
        worked_ns = clock.monotonic_ns() - began_ns if count % 16 == 0 else 0
        if worked_ns > BACKUP_WORK_NS:
            if not is_wanted() or closing.wait(worked_ns * BACKUP_REST / 1e9):
                raise _UnwantedError
            began_ns = clock.monotonic_ns()
