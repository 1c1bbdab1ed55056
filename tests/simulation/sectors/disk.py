"""A server's disk with the product's storage on sectors, and the record-level model beside it as the oracle.

Every operation is done by `kvraft.storage` on the device first and by the model only if that succeeded; what a restart
recovers must be what the model holds. An operation that a power cut interrupted may be there or not, as a whole.
"""

import random as random_module
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Final, Never, TypeVar, final

from kvraft.keyspace.keyspace import Keyspace
from kvraft.keyspace.records import RecordError
from kvraft.raft.configuration import Configuration
from kvraft.raft.effects import Persist
from kvraft.raft.entries import Entry
from kvraft.raft.messages import InstallSnapshot
from kvraft.raft.restored import LogPosition, Restored
from kvraft.storage import codec
from kvraft.storage.errors import CorruptStorageError, StorageError
from kvraft.storage.spool import ACCOUNT, HISTORY, NODE, SpoolHeader
from tests.simulation.checkers import Violation
from tests.simulation.disk import SimulatedDisk, StateFlush, StoredState
from tests.simulation.scheduler import DiskStopError, Scheduler
from tests.simulation.sectors.device import FaultPlan, PowerCut
from tests.simulation.sectors.records import StructureError
from tests.simulation.sectors.volume import CLUSTER_ID, Stores, VirtualLoop, Volume

T = TypeVar("T")

POWER_CUT: Final = "its power was cut"
DAMAGED: Final = "it found damage"
DISK_FAILED: Final = "its disk failed"

FORGETFUL: Final = frozenset({"lie", "astray"})
"""A sync that stored nothing, or a page less, may leave a whole older commit, because LMDB writes to the same few pages
again and again. The product does not notice that alone; its peers do, if the log has become shorter. They are no part
of this simulator, so such a server stops here.
"""

_OPERATIONS_BEFORE_DEATH: Final = 16
"""A commit takes about eight."""


@final
class SectorDisk(SimulatedDisk):
    """See the module's words."""

    def __init__(
        self,
        scheduler: Scheduler,
        random: random_module.Random,
        sync_us: int,
        configuration: Configuration,
        server_id: int,
        reached: Callable[[str], None],
        of_device: random_module.Random,
    ) -> None:
        super().__init__(scheduler, random, sync_us, configuration)
        self.plan: Final = FaultPlan(of_device)
        self.volume: Final = Volume(self.plan, server_id, configuration)
        self._server_id: Final = server_id
        self._reached: Final = reached
        self._stores: Stores | None = None
        self._in_doubt: Callable[[], None] | None = None
        """Brings the model to where the interrupted operation would have."""
        self._power_failed = False
        """In the middle of an operation: nothing comes after it."""
        self._power_fails = False
        """With the crash to come."""
        self.swapped_with = 0
        """The server whose disk stands in the place of this one; 0: none."""
        self._told: list[int] = []
        self._scrubbed: LogPosition | None = None

    @property
    def stores(self) -> Stores:
        """What is open. Only while the server is up."""
        assert self._stores is not None
        return self._stores

    @property
    def is_open(self) -> bool:
        """Whether the server has opened its disk."""
        return self._stores is not None

    # What the server reads.

    def term_at(self, index: int) -> int:
        return self._read(partial(self.stores.log.term_at, index))

    def slice(self, first: int, last: int, bytes_max: int) -> list[Entry]:
        self.reads += 1
        return self._read(partial(self.stores.log.slice, first, last, bytes_max))

    def history_slice(self, first_etcd_index: int, bytes_max: int) -> list[tuple[int, bytes]]:
        return self._read(lambda: [*self.stores.state.history_slice(first_etcd_index, bytes_max)])

    def holds(self, position: LogPosition) -> bool:
        return self._read(lambda: self.stores.log.holds(position))

    def snapshot(self) -> StoredState:
        return self._read(self._stored_state)

    def scrub(self, entries_max: int) -> None:
        """Verify another part of what no start has verified."""
        self._scrubbed = self._read(lambda: self.stores.log.scrub(self._scrubbed, entries_max))

    def _read(self, reading: Callable[[], T]) -> T:
        try:
            return reading()
        except StorageError as error:
            self._stop_for(error)

    # Writing.

    def _synced(self, run: int) -> None:
        if run != self._run:
            return
        group = [*islice(self._pending, self._syncing)]
        if self.fails_next:
            self.fails_next = False
            self.plan.sync_fails = True
        if not self._do(partial(self._write_log, group), partial(self._now_durable, group)):
            self._pending.clear()
            self.on_failure()
            return
        for _ in group:
            self._pending.popleft()
        self._syncing = 0
        self._now_durable(group)
        if run == self._run and any(batch.must_sync for batch in self._pending):
            self._start_sync()

    def _write_log(self, group: list[Persist]) -> None:
        log = self.stores.log
        self._told.clear()
        for batch in group:
            log.persist(batch)
        log.work_off()
        unanswered = {
            batch.batch_id for batch in group if batch.must_sync and batch.batch_id > max(self._told, default=0)
        }
        if self.stores.latch.failure is None and unanswered:
            raise Violation("I13", f"server {self._server_id}: batches {sorted(unanswered)} were never answered")

    def _now_durable(self, group: list[Persist]) -> None:
        for batch in group:
            self._store(batch)
        for batch in group:
            self.on_durable(batch)

    def _flushed(self, run: int, flush: StateFlush, done: Callable[[LogPosition], None]) -> None:
        if run != self._run or self._pending_flush is not flush:
            return
        if not self._do(partial(self._write_state, flush), partial(self.state.store, flush)):
            self.on_failure()
            return
        self._pending_flush = None
        self.state.store(flush)
        done(flush.position)

    def _write_state(self, flush: StateFlush) -> None:
        self.stores.state.flush(flush.position, flush.configuration.encode(), flush.changes, _ignore)

    def compact(self, index: int) -> None:
        entry = self.log.entry_at(index)
        assert entry is not None
        if self._do(partial(self._write_base, codec.position_of(entry)), partial(super().compact, index)):
            super().compact(index)
        else:
            raise DiskStopError(self._server_id, DISK_FAILED)

    def _write_base(self, position: LogPosition) -> None:
        self.stores.log.compact(position)
        self.stores.log.work_off()

    def _install_state(self, run: int, state: StoredState, done: Callable[[], None]) -> None:
        """The product builds the state beside the old one, then waits for the log thread, as `_install_log` does."""
        if run != self._run:
            return
        if self._pending and not self._syncing:
            self._start_sync()
        if self._pending:
            self._scheduler.after(self._sync_us, self._install_state, run, state, done)
            return
        if not self._do(partial(self._replace, state), partial(self._replaced, state)):
            self.on_failure()
            return
        self._replaced(state)
        done()

    def _replaced(self, state: StoredState) -> None:
        self.state = state.copy()
        self._reset_log()

    def _replace(self, state: StoredState) -> None:
        nodes = [(NODE, key, codec.seal(key, record)) for key, record in sorted(state.nodes.items())]
        chunks = [(HISTORY, key, stored) for key, stored in codec.encode_history(sorted(state.history.items()))]
        accounts = [(ACCOUNT, key, codec.seal(key, record)) for key, record in sorted(state.accounts.items())]
        floor = min((int.from_bytes(key, "big") for key in state.history), default=0)
        position = state.position
        counts = len(nodes), len(chunks), len(accounts)
        header = SpoolHeader(CLUSTER_ID, position, state.configuration.encode(), state.meta, floor, *counts)
        snapshot = InstallSnapshot(
            0, position.index, position.term, position.chain_hash, state.configuration, "in memory", position.clock_ms
        )
        store = self.stores.state
        store._submit(
            "installing", lambda: store._replace(header, iter([*nodes, *chunks, *accounts]), snapshot, _ignore)
        )

    def _do(self, action: Callable[[], None], effect: Callable[[], None]) -> bool:
        """Carry out an operation. False if the product's storage has failed: it does nothing more.

        Args:
            action: on the device.
            effect: on the model, if it was done.

        Raises:
            DiskStopError: the power failed meanwhile.
        """
        try:
            action()
        except PowerCut:
            self._in_doubt = effect
            self._power_failed = True
            raise DiskStopError(self._server_id, POWER_CUT) from None
        failure = self.stores.latch.failure
        if failure is None:
            return True
        if isinstance(failure, CorruptStorageError) or isinstance(failure.__cause__, StructureError):
            self._found_damage(failure)
        return False

    def _work_off(self) -> None:
        """After a timer of the product's: what it has queued moves nothing that the model knows."""
        if self._stores is None:
            return
        if not self._do(self._stores.log.work_off, _ignore):
            self._pending.clear()
            self.on_failure()

    def _stop_for(self, error: StorageError) -> Never:
        self._found_damage(error)
        raise DiskStopError(self._server_id, DAMAGED) from error

    def _found_damage(self, error: StorageError) -> None:
        if not self.hurt:
            raise Violation("I15", f"server {self._server_id} takes its sound disk for damaged: {error}")
        self._reached("damage found while running")

    # Crash and recovery.

    def swap_with(self, other: "SectorDisk", mine: int, its: int) -> None:
        """Put the disks into each other's server; (0, 0) says that each is back where it belongs."""
        self.volume.swap_with(other.volume)
        self.swapped_with, other.swapped_with = its, mine

    def wipe(self) -> None:
        super().wipe()
        self.plan.disarm()
        self.volume.wipe(self._founders)
        self.hurt = ""
        self._in_doubt = None

    def cut_power(self) -> None:
        """The crash that follows is one of the machine."""
        self._power_fails = True

    def crash(self) -> int:
        self._run += 1
        self.plan.operations_to_power_cut = -1
        if self._stores is not None and self._stores.latch.failure is None and not self._power_failed:
            self._die_writing()
        lost = len(self._pending)
        self._pending.clear()
        self._syncing = 0
        self._pending_flush = None
        if self._power_failed or self._power_fails or self._random.random() < 0.5:
            if self.volume.power_cut():
                self._reached("power cut tore or lost sectors")
        else:
            self.volume.kill()
        self._stores = None
        self._power_failed = self._power_fails = False
        return lost

    def _die_writing(self) -> None:
        """Some of what waits may get through, or half through, before the end."""
        random = self._random
        group = [*islice(self._pending, random.randrange(len(self._pending) + 1))]
        flush = self._pending_flush
        self.plan.operations_to_power_cut = random.randrange(_OPERATIONS_BEFORE_DEATH)
        try:
            if group and self._do(partial(self._write_log, group), partial(self._now_durable, group)):
                for _ in group:
                    self._pending.popleft()
                self._now_durable(group)
            if flush is not None and self._do(partial(self._write_state, flush), partial(self.state.store, flush)):
                self.state.store(flush)
        except DiskStopError:
            self._reached("power cut inside a commit")
        self.plan.operations_to_power_cut = -1

    def recover(self) -> Restored:
        """Open the disk with the product's code.

        Raises:
            StorageError: it refuses the disk.
            Violation: it refuses a sound one, or accepts one that lacks what was acknowledged.
        """
        loop = VirtualLoop(self._scheduler, self._work_off)
        self._scrubbed = None
        effect = self._in_doubt
        self._in_doubt = None
        try:
            self._stores = self.volume.open(loop, self._told.append, _ignore)
            state = self._stored_state()
        except StorageError as error:
            self._stores = None
            self._in_doubt = effect
            if self.swapped_with:
                self._reached("disk of another server refused")
            elif not self.hurt:
                raise Violation("I15", f"server {self._server_id} refuses its sound disk: {error}") from error
            raise
        if self.swapped_with:
            raise Violation("I17", f"server {self._server_id} starts on the disk of server {self.swapped_with}")
        restored = self._stores.log.restored()
        difference = self._difference(restored, state)
        if difference and effect is not None:
            effect()
            difference = self._difference(restored, state)
            self._reached("commit survived the power cut inside it")
        elif effect is not None:
            self._reached("commit was undone by the power cut inside it")
        if difference and FORGETFUL.intersection(self.hurt.split(", ")):
            self._stores = None
            self._reached("disk forgot without a trace")
            raise CorruptStorageError(f"another {difference} than was stored ({self.hurt})")
        if difference:
            hurt = f" ({self.hurt})" if self.hurt else ""
            raise Violation("I16", f"server {self._server_id} starts with another {difference} than it stored{hurt}")
        hard = self.hard_state
        self.hard_state = replace(hard, commit_index=restored.hard_state.commit_index)
        return restored

    def _difference(self, restored: Restored, state: StoredState) -> str:
        """In what the recovered disk differs from the model."""
        found, held = restored.hard_state, self.hard_state
        pairs = (
            ("term or vote", (found.current_term, found.voted_for), (held.current_term, held.voted_for)),
            ("way back", found.rebuilding, held.rebuilding),
            ("base", restored.base, self.log.base),
            ("log", restored.last, self.log.last),
            ("list of configurations", _behind(restored.configurations), _behind(self.configurations)),
            ("applied index", state.position, self.state.position),
            ("keyspace", (state.meta, state.nodes), (self.state.meta, self.state.nodes)),
            ("accounts", state.accounts, self.state.accounts),
            ("history", state.history, self.state.history),
        )
        return next((name for name, mine, its in pairs if mine != its), "")

    def _stored_state(self) -> StoredState:
        """The whole state, as it is read from the device and verified, and as the keyspace takes it over."""
        store = self.stores.state
        image = store.load()
        encoded = store.configuration
        configuration = Configuration.decode(encoded) if encoded else self.state.configuration
        tables = dict(image.nodes), dict(image.history), dict(image.accounts)
        state = StoredState(store.position, configuration, image.meta, *tables)
        try:
            Keyspace(history_reader=store).load(state.image())
        except RecordError as error:
            raise CorruptStorageError(str(error)) from error
        return state


def _behind(configurations: Sequence[tuple[int, Configuration]]) -> list[object]:
    """The one in force at the base without its index, which the product sets to that of the base."""
    return [configurations[0][1], *configurations[1:]]


def _ignore(*_facts: object) -> None:
    """Nobody needs to be told."""
