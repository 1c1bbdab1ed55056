"""The log environment: the only disk on the path of an acknowledgement.

The member's loop queues batches; the log thread takes whatever waits, makes one transaction with one sync of it, and
wakes the loop once with all their ids. A member with nothing queued may commit on the loop itself (`persist_now`),
which saves two hand-overs between threads. Compaction runs on the log thread in small transactions between batches.

What need not be synced for its own sake (a commit index, what peers hold) waits on the loop for the next batch or, at
the latest, for a timer; so it wakes no thread.
"""

import asyncio
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import replace
from queue import Empty, SimpleQueue
from typing import Final, final

from kvraft import clock
from kvraft.raft.configuration import Configuration
from kvraft.raft.effects import HardState, Persist
from kvraft.raft.entries import Entry
from kvraft.raft.restored import LogPosition, Restored
from kvraft.storage import codec, failpoints, log_tables
from kvraft.storage.errors import CorruptStorageError
from kvraft.storage.interfaces import EnvironmentFile
from kvraft.storage.log_sizes import LogSizes
from kvraft.storage.log_tables import LogChange
from kvraft.storage.measures import Measures, seconds_since
from kvraft.storage.writer import FailureLatch

LAZY_DELAY_S: Final = 0.5
"""How long a commit index or a peer's index may wait for a batch to ride on."""
COMPACTION_GROUPS: Final = 256
"""Groups removed in one transaction: a few milliseconds."""

Job = Callable[[], None]


@final
class LogStore:
    """See `LogStore` in the member's interfaces. Methods are for the loop's thread unless they say otherwise."""

    def __init__(
        self, file: EnvironmentFile, restored: Restored, peers: Mapping[int, int], latch: FailureLatch
    ) -> None:
        self._file: Final = file
        self._where: Final = str(file.path)
        self._restored: Final = restored
        self._latch: Final = latch
        self._shape = restored
        """What is on disk now. Replaced as a whole, so that readers see a consistent one."""
        self.measures: Final = Measures()
        """Of this store and of the state's, which stands beside it."""
        self._peers = dict(peers)
        self._changed_peers: dict[int, int] = {}
        self._lazy_hard_state: HardState | None = None
        self._lazy_timer: asyncio.TimerHandle | None = None
        self._base_index = self._shape.base.index
        self._sizes = LogSizes(self._base_index, self._shape.last.index, file.used_bytes())
        self._handed_over = 0
        """How many batches and lazy changes the log thread has, or has done without the loop knowing."""
        self._queue: SimpleQueue[LogChange | Persist | Job | None] = SimpleQueue()
        self._writing = threading.Lock()
        self._durable_moved = threading.Condition()
        self._durable_waiters = 0
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._on_persisted: Callable[[int], None] | None = None

    def start(
        self, loop: asyncio.AbstractEventLoop, on_persisted: Callable[[int], None], *, own_thread: bool = True
    ) -> None:
        """Begin to write. `on_persisted(batch_id)` on the loop, in order, answers all batches up to that one.

        Without `own_thread` nothing is written but when the caller does `work_off` (as virtual time wants it).
        """
        self._loop = loop
        self._on_persisted = on_persisted
        if own_thread:
            self._thread = threading.Thread(target=self._run, name="kvraft-log", daemon=True)
            self._thread.start()
        if self._base_index:  # a crash may have interrupted the removal of what was compacted
            self._queue.put(self._remove_compacted)

    def restored(self) -> Restored:
        """What the environment held when it was opened, verified."""
        return self._restored

    def term_at(self, index: int) -> int:
        """The term of the durable entry at `index`; 0 if the log does not hold it."""
        entries = self.slice(index, index, 0)
        return entries[0].term if entries else 0

    def slice(self, first: int, last: int, bytes_max: int) -> list[Entry]:
        """Durable entries; see `LogReader`. Raises CorruptStorageError."""
        if first <= self._base_index:
            return []
        with self._file.reading() as transaction:
            return log_tables.read_entries(transaction, first, last, bytes_max, self._where)

    def persist(self, batch: Persist) -> None:
        """Queue a batch; see `LogStore`."""
        if self._latch.failure is not None:
            return
        if batch.must_sync:
            self._hand_over(self._with_lazy(batch))
        else:
            self._defer(batch)

    def persist_now(self, batch: Persist) -> bool:
        """Commit on this thread if nothing is queued or being written; see `LogStore`."""
        if self._latch.failure is not None:
            return False
        if self._handed_over or not batch.must_sync or not self._writing.acquire(blocking=False):
            self.persist(batch)
            return False
        try:
            change = LogChange()
            change.add(self._with_lazy(batch))
            self._commit(change)
        except Exception as error:  # noqa: BLE001 -- whatever it is, the batch is not known to be durable
            self._latch.report("writing the log", error)
            return False
        finally:
            self._writing.release()
        return True

    def compact(self, position: LogPosition) -> None:
        """Entries up to `position` are gone for readers at once; the log thread removes them from disk by and by."""
        if position.index <= self._base_index or self._latch.failure is not None:
            return
        self._base_index = position.index
        self._sizes.forget(position.index)
        self._queue.put(lambda: self._move_base(position))

    def peer_seen(self, member_id: int) -> int | None:
        """The highest index that was remembered for this peer; None if it was never seen."""
        return self._peers.get(member_id)

    def remember_peer(self, member_id: int, index: int) -> None:
        """Durable within a second. A lower index than the one remembered changes nothing."""
        known = self._peers.get(member_id)
        if known is None or index > known:
            self._peers[member_id] = index
            self._changed_peers[member_id] = index
            self._arm_lazy_timer()

    def scrub(self, after: LogPosition | None, entries_max: int) -> LogPosition | None:
        """Verify the next slice of the log's older part.

        Args:
            after: what the previous call returned; None to begin at the base.
            entries_max: bounds the time it takes.

        Returns:
            Where to go on; None when all that the start has left unverified is verified, or was compacted meanwhile.

        Raises:
            CorruptStorageError: the member must stop.
        """
        base = self._shape.base
        after = base if after is None else after
        last = min(after.index + entries_max, self._restored.applied_index)
        if after.index < base.index or after.index >= last or base.index != self._base_index:
            return None
        try:
            with self._file.reading() as transaction:
                for position, _ in log_tables.verify_chain(transaction, after, last, self._where):
                    after = position
        except CorruptStorageError:
            if base.index != self._base_index:  # a snapshot has replaced the log meanwhile
                return None
            raise
        return after

    def give_back(self) -> None:
        """Nobody writes: give the disk what the log has too much of it. On the log thread, by and by."""
        self._queue.put(self._give_back)

    def size_bytes(self) -> int:
        """What the environment's file takes of the disk."""
        return self._file.size_bytes()

    def capacity_bytes(self) -> int:
        """How long the environment's file can become."""
        return self._file.capacity_bytes()

    def close(self) -> None:
        """Finish what is queued, and close the environment."""
        if self._lazy_timer is not None:
            self._lazy_timer.cancel()
        if self._thread is not None:
            self._write_lazy()
            self._queue.put(None)
            self._thread.join()
        self._file.close()

    def holds(self, position: LogPosition) -> bool:
        """Whether the log on disk goes through `position`: its number says nothing of an entry. Any thread may ask.

        A disk whose truncation is still queued holds that index, and others beyond it, in a term that lost.
        """
        shape = self._shape
        if position.index <= shape.base.index:
            return position.index < shape.base.index or position.chain_hash == shape.base.chain_hash
        if position.index >= shape.last.index:
            return position.chain_hash == shape.last.chain_hash
        held = self.slice(position.index, position.index, 0)
        return bool(held) and held[0].chain_hash == position.chain_hash

    def wait_durable(self, position: LogPosition) -> bool:
        """Wait until the disk holds the log up to `position`; False if writing failed first. For the state thread."""
        with self._durable_moved:
            self._durable_waiters += 1
            try:
                while not self.holds(position) and self._latch.failure is None:
                    self._durable_moved.wait(0.1)  # bounded, so that a failure between two commits is seen as well
            finally:
                self._durable_waiters -= 1
        return self._latch.failure is None

    def switch_state(self, position: LogPosition, configuration: Configuration, generation: int) -> None:
        """Empty the log behind `position` and put another state into force, in one transaction. For the state thread.

        It returns when that is durable.

        Raises:
            StorageError: it is not known to be.
        """
        done: Future[None] = Future()

        def job() -> None:
            try:
                self._write_switch(position, configuration, generation)
            except BaseException as error:
                done.set_exception(error)
                raise
            done.set_result(None)

        self._queue.put(job)
        if self._thread is None:
            self.work_off()
        while self._latch.failure is None:
            try:
                return done.result(0.1)  # bounded, because a failed log does no more jobs
            except TimeoutError:
                continue
        raise self._latch.failure

    def held_bytes(self) -> int:
        """About how many bytes the entries between base and end have, queued ones included."""
        return self._sizes.held_bytes(self._base_index)

    def index_leaving(self, bytes_max: int) -> int:
        """Compacting up to this index leaves about `bytes_max`."""
        return max(self._sizes.index_leaving(bytes_max), self._base_index)

    def _with_lazy(self, batch: Persist) -> Persist:
        self._sizes.append(batch.entries)
        if self._lazy_hard_state is not None:
            if batch.hard_state is None:
                batch = Persist(batch.batch_id, self._lazy_hard_state, batch.truncate_from, batch.entries, True)
            self._lazy_hard_state = None
        return batch

    def _hand_over(self, work: LogChange | Persist) -> None:
        self._handed_over += 1
        self._queue.put(work)

    def _defer(self, batch: Persist) -> None:
        assert not batch.entries, "entries are acknowledged, so they are synced"
        assert not batch.truncate_from
        self._lazy_hard_state = batch.hard_state or self._lazy_hard_state
        self._arm_lazy_timer()

    def _arm_lazy_timer(self) -> None:
        if self._lazy_timer is None and self._loop is not None:
            self._lazy_timer = self._loop.call_later(LAZY_DELAY_S, self._write_lazy)

    def _write_lazy(self) -> None:
        self._lazy_timer = None
        change = LogChange(hard_state=self._lazy_hard_state, peers=self._changed_peers)
        self._lazy_hard_state, self._changed_peers = None, {}
        if change.hard_state is not None or change.peers:
            # Counted like a batch: or else `persist_now` could commit a vote before this, which would then be
            # overwritten by the older hard state in here.
            self._hand_over(change)

    def _deliver(self, done: tuple[int, int]) -> None:
        """So much of what was handed over is durable, with the batches up to that one."""
        assert self._on_persisted is not None
        if self._latch.failure is not None:
            return
        count, batch_id = done
        self._handed_over -= count
        if batch_id:
            self._on_persisted(batch_id)

    def work_off(self) -> None:
        """Do what is queued on this thread, if there is no other to do it."""
        assert self._thread is None
        while not self._queue.empty():
            self._work_round()

    def _run(self) -> None:
        while not self._work_round():
            pass

    def _work_round(self) -> bool:
        """Wait for work, and do what waits by then. True if it is the last."""
        stopping = False
        batches: list[LogChange | Persist] = []
        jobs: list[Job] = []
        work = self._queue.get()
        while True:
            if isinstance(work, Persist | LogChange):
                batches.append(work)
            elif work is None:
                stopping = True
            else:
                jobs.append(work)
                break
            try:
                work = self._queue.get_nowait()
            except Empty:
                break
        self._work(batches, jobs)
        return stopping

    def _work(self, batches: list[LogChange | Persist], jobs: list[Job]) -> None:
        """Commit the batches as one, then do the job that came behind them."""
        if self._latch.failure is not None:
            return
        try:
            change = LogChange()
            for batch in batches:
                if isinstance(batch, Persist):
                    change.add(batch)
                else:
                    change.add_lazy(batch)
            with self._writing:
                if batches:
                    self._commit(change)
            if batches:
                self._latch.tell(self._deliver, (len(batches), change.batch_id))
            for job in jobs:
                with self._writing:
                    job()
        except Exception as error:  # noqa: BLE001 -- whatever it is, nothing written after it could be trusted
            self._latch.report("writing the log", error)

    def _commit(self, change: LogChange) -> None:
        with self._file.writing() as transaction:
            shape = log_tables.write_change(transaction, self._shape, change, self._where)
            failpoints.hit("log.before_commit")
            started_ns = clock.monotonic_ns()
            self._file.commit(transaction, shape.last.index)
            self.measures.log_commit(seconds_since(started_ns))
        self.measures.log_bytes += sum([len(entry.record) for entry in change.entries])
        failpoints.hit("log.after_commit")
        self._shape = shape
        if self._durable_waiters:
            with self._durable_moved:
                self._durable_moved.notify_all()

    def _move_base(self, position: LogPosition) -> None:
        if position.index <= self._shape.base.index:
            return
        assert position.index <= self._shape.last.index, "only durable entries are compacted"
        with self._file.writing() as transaction:
            shape = log_tables.write_base(transaction, self._shape, position)
            self._file.commit(transaction, shape.last.index)
        self._shape = shape
        self._remove_compacted()

    def _remove_compacted(self) -> None:
        shape = self._shape
        with self._file.writing() as transaction:
            more = log_tables.remove_groups(transaction, shape.base.index, COMPACTION_GROUPS)
            failpoints.hit("log.compaction_slice")
            self._file.commit(transaction, shape.last.index)
        if more:
            self._queue.put(self._remove_compacted)
        else:
            self._file.give_back(idle=False)

    def _give_back(self) -> None:
        self._file.give_back(idle=True)

    def _write_switch(self, position: LogPosition, configuration: Configuration, generation: int) -> None:
        configurations = ((position.index, configuration),)
        self._base_index = position.index  # before the commit, so that no reader takes the gap for damage
        with self._file.writing() as transaction:
            if position.index < self._shape.last.index:
                log_tables.truncate(transaction, replace(self._shape, base=position), position.index + 1, self._where)
            transaction.put(codec.BASE_KEY, codec.encode_position(codec.BASE_KEY, position))
            transaction.put(codec.CONFIGURATIONS_KEY, codec.encode_configurations(configurations))
            transaction.put(codec.GENERATION_KEY, codec.encode_number(codec.GENERATION_KEY, generation))
            failpoints.hit("install.before_switch")
            self._file.commit(transaction, position.index)
        failpoints.hit("install.after_switch")
        self._shape = replace(self._shape, base=position, last=position, configurations=configurations)
        self._queue.put(self._remove_compacted)
