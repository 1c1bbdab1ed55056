"""Harnesses over both implementations, entries to store, and the check that a directory is on a real disk."""

import asyncio
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from kvraft.founding import Identity
from kvraft.keyspace.state_records import StateChanges
from kvraft.member.interfaces import LogStore, StateStore
from kvraft.raft.configuration import Configuration
from kvraft.raft.effects import HardState, Persist
from kvraft.raft.entries import Entry, EntryKind, make_entry
from kvraft.raft.messages import InstallSnapshot
from kvraft.raft.restored import LogPosition, SnapshotFile
from kvraft.storage.codec import HARD_STATE_KEY, encode_hard_state, number_key, position_of
from kvraft.storage.errors import StorageError, StorageFailedError
from kvraft.storage.lmdb_file import LmdbFile, Supply
from kvraft.storage.opening import Storage, open_storage
from kvraft.storage.spool import Spool
from tests.storage.memory import MemoryDisk, MemoryStorage, open_memory

IDENTITY = Identity(0xC1, 0xA1, "n1")
CONFIGURATION = Configuration.of([0xA1, 0xA2, 0xA3])
ORIGIN = LogPosition()
WAIT_S = 20.0
SMALL_MAP_BYTES = 1 << 30
NO_SUPPLY = Supply(spare_bytes=-(1 << 60), hole_bytes_min=1, more_freed_bytes_min=-(1 << 62))
"""Every free page becomes a hole whenever there is an occasion."""

T = TypeVar("T")


def refuse_tmpfs(path: Path) -> None:
    """Durability on a file system in memory would prove nothing."""
    device = path.resolve().stat().st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.split()
        if fields[2] == wanted:
            kind = fields[fields.index("-") + 1]
            assert kind not in {"tmpfs", "ramfs"}, f"{path} is on {kind}: set --basetemp to a directory on a disk"
            return


def vote(data_path: Path) -> None:
    """The least that a member can have promised, on a directory that nobody uses."""
    log = LmdbFile(data_path / "log", SMALL_MAP_BYTES, 0, create=False, examine=True)
    with log.writing() as transaction:
        transaction.put(HARD_STATE_KEY, encode_hard_state(HardState(1, 0xA2, 0)))
        log.commit(transaction, 0)
    log.close()


def entries_after(
    position: LogPosition, count: int, *, term: int = 1, payload: bytes = b"x", kind: EntryKind = EntryKind.COMMAND
) -> list[Entry]:
    """A chain of entries behind a position."""
    made = []
    for _ in range(count):
        body = payload if kind is not EntryKind.COMMAND else payload + b"%d" % (position.index + 1)
        clock_ms = position.clock_ms + 1
        entry = make_entry(position.chain_hash, position.index + 1, max(term, position.term), kind, clock_ms, body)
        made.append(entry)
        position = position_of(entry)
    return made


def batch(
    batch_id: int,
    entries: Sequence[Entry] = (),
    *,
    hard_state: HardState | None = None,
    truncate_from: int = 0,
    must_sync: bool = True,
) -> Persist:
    """A batch, most of it left out."""
    return Persist(batch_id, hard_state, truncate_from, list(entries), must_sync)


def changes(
    nodes: dict[int, bytes],
    history: dict[int, bytes] | None = None,
    *,
    removed: Sequence[int] = (),
    floor: int = 0,
    meta: bytes = b"meta",
    accounts: dict[int, bytes] | None = None,
    removed_accounts: Sequence[int] = (),
) -> StateChanges:
    """A flush with readable ids."""
    return StateChanges(
        [(number_key(node), record) for node, record in nodes.items()],
        [number_key(node) for node in removed],
        [(number_key(index), record) for index, record in sorted((history or {}).items())],
        floor,
        meta,
        [(number_key(key), record) for key, record in (accounts or {}).items()],
        [number_key(key) for key in removed_accounts],
    )


def read(snapshot: SnapshotFile) -> bytes:
    """The bytes of a finished snapshot."""
    return Path(snapshot.path).read_bytes()


class AnyStorage(Protocol):
    """What both implementations open."""

    @property
    def log(self) -> LogStore: ...

    @property
    def state(self) -> StateStore: ...

    @property
    def fresh(self) -> bool: ...

    def start(
        self,
        loop: asyncio.AbstractEventLoop,
        on_persisted: Callable[[int], None],
        on_failure: Callable[[StorageError], None],
    ) -> None: ...

    def close(self) -> None: ...


class Harness:
    """One member's storage, opened, crashed and reopened, with everything that it has reported."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.persisted: list[int] = []
        self.failures: list[StorageError] = []
        self._changed = asyncio.Event()
        self.storage = self._open()

    def _open(self) -> AnyStorage:
        raise NotImplementedError

    def crash(self) -> None:
        """Stop without finishing what is queued."""
        raise NotImplementedError

    def let_lazy_timer_fire(self) -> None:
        """What waits for a batch to ride on is queued now, as if half a second had passed."""
        raise NotImplementedError

    @property
    def spool(self) -> Spool:
        raise NotImplementedError

    @property
    def log(self) -> LogStore:
        return self.storage.log

    @property
    def state(self) -> StateStore:
        return self.storage.state

    def start(self) -> None:
        self.storage.start(asyncio.get_running_loop(), self._on_persisted, self._on_failure)

    def reopen(self) -> None:
        """After `crash` or `close`. Reports of the run before are forgotten: batch ids begin anew."""
        self.persisted, self.failures = [], []
        self.storage = self._open()

    def _on_persisted(self, batch_id: int) -> None:
        """All batches up to this one are durable."""
        self.persisted.extend(range(self.persisted[-1] + 1 if self.persisted else 1, batch_id + 1))
        self._changed.set()

    def _on_failure(self, error: StorageError) -> None:
        self.failures.append(error)
        self._changed.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for reports until the condition holds."""
        async with asyncio.timeout(WAIT_S):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def persist(self, *batches: Persist) -> None:
        """Persist batches, and wait for the last one."""
        for each in batches:
            self.log.persist(each)
        await self.until(lambda: batches[-1].batch_id in self.persisted)

    async def flush(self, position: LogPosition, flushed: StateChanges) -> None:
        future: asyncio.Future[LogPosition] = asyncio.get_running_loop().create_future()
        self.state.flush(position, CONFIGURATION.encode(), flushed, future.set_result)
        async with asyncio.timeout(WAIT_S):
            assert await future == position

    async def snapshot(self) -> SnapshotFile:
        future: asyncio.Future[SnapshotFile] = asyncio.get_running_loop().create_future()
        self.state.spool_snapshot(future.set_result)
        async with asyncio.timeout(WAIT_S):
            return await future

    async def install(self, snapshot: InstallSnapshot) -> None:
        """Install, and wait for the end or the failure."""
        done = asyncio.Event()

        def installed() -> None:
            done.set()
            self._changed.set()

        self.state.install_snapshot(snapshot, installed)
        await self.until(lambda: done.is_set() or bool(self.failures))

    def stored(self) -> tuple[bytes, dict[int, bytes], dict[int, bytes]]:
        """(meta, nodes, history) as a start loads them."""
        image = self.state.load()
        nodes = {int.from_bytes(key, "big"): record for key, record in image.nodes}
        history = {int.from_bytes(key, "big"): record for key, record in image.history}
        return image.meta, nodes, history

    def stored_accounts(self) -> dict[int, bytes]:
        """Records of users and roles as a start loads them."""
        return {int.from_bytes(key, "big"): record for key, record in self.state.load().accounts}

    def all_entries(self) -> list[Entry]:
        restored = self.log.restored()
        return self.log.slice(restored.base.index + 1, restored.last.index, 1 << 40)


class LmdbHarness(Harness):
    storage: Storage

    def _open(self) -> Storage:
        return open_storage(
            self.path, IDENTITY, CONFIGURATION, log_map_bytes=SMALL_MAP_BYTES, state_map_bytes=SMALL_MAP_BYTES
        )

    def crash(self) -> None:
        self.storage.latch.failure = StorageFailedError("the process stopped here")
        self.storage.close()

    def let_lazy_timer_fire(self) -> None:
        self.storage.log._write_lazy()

    @property
    def spool(self) -> Spool:
        return self.storage.state.spool


class MemoryHarness(Harness):
    storage: MemoryStorage

    def __init__(self, path: Path) -> None:
        self.disk = MemoryDisk.empty(CONFIGURATION)
        path.mkdir(exist_ok=True)
        super().__init__(path)

    def _open(self) -> MemoryStorage:
        return open_memory(self.disk, self.path / "spool")

    def crash(self) -> None:
        self.storage.crash()

    def let_lazy_timer_fire(self) -> None:
        """It has no timer: whatever waits is written when the loop comes round."""

    @property
    def spool(self) -> Spool:
        return self.storage.state.spool


HARNESSES: dict[str, type[LmdbHarness | MemoryHarness]] = {"lmdb": LmdbHarness, "memory": MemoryHarness}
