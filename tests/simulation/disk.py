"""The disk of one server: a log and a state environment that keep what was synced, and lose the rest in a crash.

The two follow the contract of design decision 3: batches of the log become durable whole and in order; the state is
always exactly the state at its position, and its position is never beyond the durable log or the commit index.
"""

import itertools
import random as random_module
from bisect import bisect_left
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final, final

from kvraft.keyspace.state_records import StateChanges, StateImage
from kvraft.raft.configuration import Configuration
from kvraft.raft.effects import HardState, Persist, Rebuilding
from kvraft.raft.entries import Entry, EntryKind
from kvraft.raft.restored import LogPosition, Restored
from tests.simulation.scheduler import Scheduler

_SLOW_FLUSHES: Final = 0.5
"""Of the flushes on a slow disk. The others are quick beside a slow log."""


@final
class EntryList:
    """Consecutive entries behind a base position."""

    def __init__(self, base: LogPosition) -> None:
        self.base = base
        self.entries: list[Entry] = []

    @property
    def last_index(self) -> int:
        """Index of the last entry; the base's when there is none."""
        return self.base.index + len(self.entries)

    @property
    def last(self) -> LogPosition:
        """The end of the log."""
        if not self.entries:
            return self.base
        entry = self.entries[-1]
        return LogPosition(entry.index, entry.term, entry.chain_hash, entry.clock_ms)

    def hash_at(self, index: int) -> bytes | None:
        """The chain hash at an index; None if it is not held (the base's own is)."""
        if index == self.base.index:
            return self.base.chain_hash
        offset = index - self.base.index - 1
        return self.entries[offset].chain_hash if 0 <= offset < len(self.entries) else None

    def entry_at(self, index: int) -> Entry | None:
        """The entry at an index, if it is held."""
        offset = index - self.base.index - 1
        return self.entries[offset] if 0 <= offset < len(self.entries) else None

    def write(self, truncate_from: int, entries: list[Entry]) -> None:
        """Truncate, then append: one batch."""
        if truncate_from:
            del self.entries[max(truncate_from - self.base.index - 1, 0) :]
        self.entries.extend(entries)

    def drop_through(self, index: int) -> None:
        """Compact: entries up to `index` go, the base moves there."""
        entry = self.entry_at(index)
        if entry is None:
            return
        del self.entries[: index - self.base.index]
        self.base = LogPosition(entry.index, entry.term, entry.chain_hash, entry.clock_ms)

    def reset(self, base: LogPosition) -> None:
        """An empty log behind `base`."""
        self.base = base
        self.entries = []


@final
@dataclass(slots=True)
class StoredState:
    """The durable content of the state environment: tables of byte pairs, exactly as of `position`."""

    position: LogPosition
    configuration: Configuration
    meta: bytes = b""
    nodes: dict[bytes, bytes] = field(default_factory=dict)
    history: dict[bytes, bytes] = field(default_factory=dict)
    """Ascending, as a table is."""
    accounts: dict[bytes, bytes] = field(default_factory=dict)

    def store(self, flush: "StateFlush") -> None:
        """One synced transaction."""
        changes = flush.changes
        for node_id in changes.removed_nodes:
            self.nodes.pop(node_id, None)
        self.nodes.update(changes.nodes)
        self.history.update(changes.history)
        floor = changes.history_floor.to_bytes(8, "big")
        for key in [*itertools.takewhile(lambda key: key < floor, self.history)]:
            del self.history[key]
        self.accounts.update(changes.accounts)
        for key in changes.removed_accounts:
            self.accounts.pop(key, None)
        self.meta = changes.meta
        self.position = flush.position
        self.configuration = flush.configuration

    def image(self) -> StateImage:
        """What a starting or switching keyspace loads."""
        nodes, history, accounts = (iter(sorted(table.items())) for table in (self.nodes, self.history, self.accounts))
        return StateImage(self.meta, nodes, history, accounts)

    def copy(self) -> "StoredState":
        """A snapshot: later flushes do not change it."""
        tables = dict(self.nodes), dict(self.history), dict(self.accounts)
        return StoredState(self.position, self.configuration, self.meta, *tables)


@final
@dataclass(slots=True, frozen=True)
class StateFlush:
    """What one write behind brings to the state environment."""

    position: LogPosition
    configuration: Configuration
    changes: StateChanges


class SimulatedDisk:
    """What one server has on disk, and the syncs under way. Satisfies the core's `LogReader`.

    This is the fast model: records that are kept or lost. `sectors.disk` runs the product's storage below it.
    """

    def __init__(
        self, scheduler: Scheduler, random: random_module.Random, sync_us: int, configuration: Configuration
    ) -> None:
        self._scheduler = scheduler
        self._random = random
        self._sync_us = sync_us
        self.extra_sync_us = 0
        """A slow disk takes this much longer."""
        self._founders = configuration
        self.log = EntryList(LogPosition())
        """Durable entries."""
        self.hard_state = HardState(0, 0, 0)
        self.state = StoredState(LogPosition(), configuration)
        self.configurations: list[tuple[int, Configuration]] = [(0, configuration)]
        """(index, configuration) in force at the base, then of each CONFIGURATION entry in the durable log."""
        self.on_failure: Callable[[], None] = _ignore
        """Called when a sync has failed: what it covered is not on disk, and must never be taken for it."""
        self.fails_next = False
        """The next sync fails."""
        self._pending: deque[Persist] = deque()
        self._syncing = 0
        """How many of the pending batches the running sync covers."""
        self._run = 0
        """Grows with each crash: completions of an earlier run are void."""
        self._pending_flush: StateFlush | None = None
        self.on_durable: Callable[[Persist], None] = _ignore
        """Called for each batch right after it became durable, before the next one does."""
        self.on_dropped: Callable[[EntryList, int], None] = _ignore
        """Called before a snapshot at an index replaces the log."""
        self.syncs = 0
        self.reads = 0
        """How often the core wanted entries that it no longer had in memory."""
        self.bytes_read = 0
        """What was read then."""
        self.hurt = ""
        """What was done to the bytes on it; a server that then finds damage may stop. Empty: nothing."""

    # What the core reads.

    def term_at(self, index: int) -> int:
        """The term of a durable entry; 0 if it is not held."""
        entry = self.log.entry_at(index)
        return entry.term if entry is not None else 0

    def slice(self, first: int, last: int, bytes_max: int) -> list[Entry]:
        """Durable entries `first`..`last`, cut after `bytes_max` but never before the first."""
        self.reads += 1
        taken: list[Entry] = []
        size = 0
        for index in range(first, last + 1):
            entry = self.log.entry_at(index)
            if entry is None:
                break
            size += len(entry.record)
            if taken and size > bytes_max:
                break
            taken.append(entry)
            self.bytes_read += len(entry.record)
        return taken

    def history_slice(self, first_etcd_index: int, bytes_max: int) -> list[tuple[int, bytes]]:
        """Durable history records from an etcd_index on, cut after `bytes_max`."""
        first = first_etcd_index.to_bytes(8, "big")
        taken: list[tuple[int, bytes]] = []
        size = 0
        for key, record in self.state.history.items():
            if key < first:
                continue
            size += len(record)
            if taken and size > bytes_max:
                break
            taken.append((int.from_bytes(key, "big"), record))
        return taken

    # Writing.

    def persist(self, batch: Persist) -> None:
        """Queue a batch; a sync starts when one is wanted and none runs, and covers whatever is queued by then."""
        self._pending.append(batch)
        if batch.must_sync and not self._syncing:
            self._start_sync()

    def _start_sync(self) -> None:
        self._syncing = len(self._pending)
        self.syncs += 1
        latency_us = self._sync_us + int(self._random.random() * self._sync_us)
        if self.extra_sync_us:
            latency_us += int(self._random.random() * self.extra_sync_us)
        self._scheduler.after(latency_us, self._synced, self._run)

    def _synced(self, run: int) -> None:
        if run != self._run:
            return
        if self.fails_next:
            self.fails_next = False
            self._pending.clear()  # What came later stands on what was lost.
            self.on_failure()
            return
        for _ in range(self._syncing):
            batch = self._pending.popleft()
            self._store(batch)
            self.on_durable(batch)
            if run != self._run:
                return
        self._syncing = 0
        if any(batch.must_sync for batch in self._pending):
            self._start_sync()

    def _store(self, batch: Persist) -> None:
        if batch.hard_state is not None:
            self.hard_state = batch.hard_state
        if batch.truncate_from:
            cut = bisect_left(self.configurations, batch.truncate_from, key=lambda pair: pair[0])
            del self.configurations[max(cut, 1) :]
        self.log.write(batch.truncate_from, batch.entries)
        for entry in batch.entries:
            if entry.kind is EntryKind.CONFIGURATION:
                self.configurations.append((entry.index, Configuration.decode(entry.payload)))

    def holds(self, position: LogPosition) -> bool:
        """Whether the durable log goes through `position`."""
        return self.log.hash_at(position.index) == position.chain_hash

    @property
    def flushing(self) -> bool:
        """Whether a write of the state is under way."""
        return self._pending_flush is not None

    def flush_state(self, flush: StateFlush, done: Callable[[LogPosition], None]) -> None:
        """Write the state behind; it is durable, and `done` is called, after a while."""
        assert self._pending_flush is None
        assert self.holds(flush.position), "the state must not be ahead of the durable log"
        self._pending_flush = flush
        latency_us = 2 * self._sync_us
        if self.extra_sync_us and self._random.random() < _SLOW_FLUSHES:  # the log may wait for more than its own sync
            latency_us += int(self._random.random() * self.extra_sync_us)
        self._scheduler.after(latency_us, self._flushed, self._run, flush, done)

    def _flushed(self, run: int, flush: StateFlush, done: Callable[[LogPosition], None]) -> None:
        if run != self._run or self._pending_flush is not flush:
            return
        self._pending_flush = None
        self.state.store(flush)
        done(flush.position)

    def compact(self, index: int) -> None:
        """Drop entries up to `index`, which the durable state covers."""
        assert index <= self.state.position.index, "the log must not lose what the state lacks"
        self._rebase_configurations(index)
        self.log.drop_through(index)

    def _rebase_configurations(self, index: int) -> None:
        in_force = [pair for pair in self.configurations if pair[0] <= index]
        later = [pair for pair in self.configurations if pair[0] > index]
        self.configurations = [in_force[-1], *later]

    def install(self, state: StoredState, done: Callable[[], None]) -> None:
        """Replace state, then log, by a snapshot: two durable steps with time for a crash between them."""
        self._pending_flush = None
        self._scheduler.after(4 * self._sync_us, self._install_state, self._run, state, done)

    def _install_state(self, run: int, state: StoredState, done: Callable[[], None]) -> None:
        if run == self._run:
            self.state = state.copy()
            self._install_log(run, done)

    def _install_log(self, run: int, done: Callable[[], None]) -> None:
        """The log thread works in order: batches queued before the reset become durable before it."""
        if run != self._run:
            return
        if self._pending and not self._syncing:
            self._start_sync()
        if self._pending:
            self._scheduler.after(self._sync_us, self._install_log, run, done)
            return
        self._reset_log()
        done()

    def _reset_log(self) -> None:
        self.on_dropped(self.log, self.state.position.index)
        self.log.reset(self.state.position)
        self.configurations = [(self.state.position.index, self.state.configuration)]

    # Crash and recovery.

    def snapshot(self) -> StoredState:
        """A copy of the durable state, to send or to store."""
        return self.state.copy()

    def scrub(self, entries_max: int) -> None:
        """Verify a part of the log that no start has verified."""

    def crash(self) -> int:
        """Lose what was not synced; a prefix of the waiting batches may have got through all the same.

        Returns:
            How many waiting batches were lost.
        """
        self._run += 1
        kept = self._random.randrange(len(self._pending) + 1) if self._random.random() < 0.5 else 0
        for _ in range(kept):
            batch = self._pending.popleft()
            self._store(batch)
            self.on_durable(batch)
        lost = len(self._pending)
        self._pending.clear()
        self._syncing = 0
        if self._pending_flush is not None and self._random.random() < 0.3:
            self.state.store(self._pending_flush)
        self._pending_flush = None
        return lost

    def wipe(self) -> None:
        """The disk of a server that is down is exchanged for an empty one, and the server is told that it is."""
        self.log = EntryList(LogPosition())
        self.hard_state = HardState(0, 0, 0, Rebuilding(asking=True))
        self.state = StoredState(LogPosition(), self._founders)
        self.configurations = [(0, self._founders)]

    def recover(self) -> Restored:
        """What a starting server finds. A crash between the two steps of an install is finished here."""
        position = self.state.position
        if position.index > self.log.base.index and self.log.hash_at(position.index) != position.chain_hash:
            self._reset_log()
        hard = self.hard_state
        commit_index = max(min(hard.commit_index, self.log.last_index), position.index)
        return Restored(
            hard_state=replace(hard, commit_index=commit_index),
            base=self.log.base,
            last=self.log.last,
            configurations=tuple(self.configurations),
            applied_index=position.index,
        )


def _ignore(*_arguments: object) -> None:
    """Nobody listens before the first start."""
