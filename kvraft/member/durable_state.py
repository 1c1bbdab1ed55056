"""Keeps the state on disk behind the state in memory: flushes, compaction of the log, and snapshots both ways.

One of these at a time: each needs the state environment at rest between two transactions.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import TypeVar, final

from kvraft import clock, logs
from kvraft.keyspace.keyspace import Keyspace
from kvraft.member.applier import Applier
from kvraft.member.failure import Failure
from kvraft.member.flush_turns import FlushTurns
from kvraft.member.interfaces import LogStore, StateStore, Transport
from kvraft.member.log_room import LogRoom
from kvraft.member.raft_loop import RaftLoop
from kvraft.member.settings import MemberSettings
from kvraft.raft.configuration import Configuration
from kvraft.raft.effects import SendSnapshot
from kvraft.raft.inputs import LogCompacted, SnapshotSent
from kvraft.raft.messages import InstallSnapshot
from kvraft.raft.restored import LogPosition, SnapshotFile
from kvraft.records import BackupCopy, BackupFacts, BackupRefused

T = TypeVar("T")

log = logs.get(__name__)


@final
class DurableState:
    """Owner of the state store."""

    def __init__(
        self,
        applier: Applier,
        log_store: LogStore,
        state_store: StateStore,
        transport: Transport,
        loop: RaftLoop,
        settings: MemberSettings,
        on_installed: Callable[[Keyspace, LogPosition], None],
        failure: Failure,
        load_keyspace: Callable[[], Awaitable[Keyspace]],
        has_room: Callable[[int], bool],
        turns: FlushTurns,
    ) -> None:
        self._applier = applier
        self._log_store = log_store
        self._state_store = state_store
        self._transport = transport
        self._loop = loop
        self._settings = settings
        self._on_installed = on_installed
        """The state on disk is a snapshot's, from which this keyspace was loaded."""
        self._failure = failure
        self._load_keyspace = load_keyspace
        self._has_room = has_room
        """Whether so many bytes more fit on the disk beside all that is owed."""
        self._turns = turns
        self._lock = asyncio.Lock()
        self._tasks: set[asyncio.Task[object]] = set()
        self._transfers: dict[int, asyncio.Task[None]] = {}
        """Snapshots on their way out, by receiver."""
        self._flushing = False
        self.is_installing = False
        """Whether a snapshot of the leader is taking the place of the state."""
        self._held_back_bytes = 0
        """How much the log may hold beyond its limit until the next flush is worth its sync: what followers still need
        cannot be dropped by it."""
        self._snapshot: SnapshotFile | None = None
        self._room = LogRoom(loop.raft, log_store, settings, has_room)

    # -- flush and compaction -----------------------------------------------------------------------------------

    def look_around(self, now_ms: int) -> None:
        """Start a flush if it is this member's turn, or too much is held."""
        applied, flushed = self._applier.position, self._state_store.position
        if self._flushing or applied.index <= flushed.index:
            return
        if (
            self._turns.is_due(flushed, applied, self._applier.configuration.servers, now_ms)
            or self._applier.keyspace.unflushed_bytes >= self._settings.flush_bytes_max
            or self._log_store.held_bytes() > self._settings.log_bytes_max + self._held_back_bytes
        ):
            self._start(self._flush())

    def give_back(self, *, idle: bool) -> None:
        """Give back what is held for nothing: freed memory, and of an idle member free pages of its files."""
        if idle:
            self._log_store.give_back()
        self._state_store.give_back(idle=idle)

    async def final_flush(self) -> None:
        """Before a clean stop: the next start then replays nothing.

        A flush or an install that is under way is waited for: its work on the disk would go on without it.
        """
        for transfer in list(self._transfers.values()):
            transfer.cancel()
        while self._tasks:
            await asyncio.wait(self._tasks)
        if not self._failure.reason.done() and self._applier.position.index > self._state_store.position.index:
            try:
                await self._flush()
            except asyncio.CancelledError:
                if not self._failure.reason.done():
                    raise

    async def _flush(self) -> None:
        self._flushing = True
        try:
            async with self._lock:
                await self._flush_locked()
        finally:
            self._flushing = False

    async def _flush_locked(self) -> None:
        applier = self._applier
        position, configuration = applier.position, applier.configuration.encode()
        if position.index == self._state_store.position.index:
            return
        commands = applier.applied_commands
        pending = applier.keyspace.begin_changes()
        while True:
            if not pending.encode_some():
                break
            await asyncio.sleep(0)  # the loop has its turn between two slices
        flushed: asyncio.Future[LogPosition] = asyncio.get_running_loop().create_future()
        self._state_store.flush(position, configuration, pending.changes, flushed.set_result)
        await self._unless_failed(flushed)
        applier.keyspace.mark_durable(pending.etcd_index)
        applier.flushed_commands = commands
        self._turns.flushed(clock.monotonic_ms())
        self._compact(position)
        limit = self._settings.log_bytes_max
        held = self._log_store.held_bytes()
        self._held_back_bytes = held - limit + limit // 4 if held > limit else 0

    def _compact(self, durable: LogPosition) -> None:
        """Drop entries that the state covers, all but a margin for followers that are a little behind."""
        snapshot_count = self._settings.snapshot_count
        keep = min(self._settings.catch_up_entries, snapshot_count)
        first_index = self._loop.raft.first_log_index
        crowded = self._log_store.held_bytes() > self._settings.log_bytes_max
        if durable.index - first_index < snapshot_count and not crowded:
            return
        last_dropped = durable.index - keep
        if crowded:  # large values: few entries are many bytes, and the margin is smaller
            last_dropped = max(last_dropped, self._log_store.index_leaving(self._settings.log_bytes_max // 2))
        last_dropped = min(last_dropped, self._room.needed_from(durable.index, clock.monotonic_ms()))
        if last_dropped < first_index:
            return
        entries = self._log_store.slice(last_dropped, last_dropped, 1)
        if not entries:
            return
        entry = entries[0]
        self._log_store.compact(LogPosition(entry.index, entry.term, entry.chain_hash, entry.clock_ms))
        self._loop.add(LogCompacted(entry.index, entry.term, entry.chain_hash, entry.clock_ms))
        log.info("log compacted", index=entry.index)

    # -- snapshots out ------------------------------------------------------------------------------------------

    def send_snapshot(self, wanted: SendSnapshot) -> None:
        """Stream the state to a follower that needs entries which the log no longer holds."""
        if wanted.to_server not in self._transfers:
            self._room.snapshot_wanted(wanted.to_server)
            self._transfers[wanted.to_server] = self._start(self._send_snapshot(wanted))

    async def _send_snapshot(self, wanted: SendSnapshot) -> None:
        sent_index = 0
        try:
            snapshot = await self._fresh_snapshot()
            if snapshot is None:
                return
            self._room.snapshot_leaves(wanted.to_server, snapshot.position.index)
            done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
            self._transport.send_snapshot(
                wanted.to_server, wanted.term, snapshot, lambda sent: None if done.done() else done.set_result(sent)
            )
            if await self._unless_failed(done):
                sent_index = snapshot.position.index
                self._room.snapshot_sent(wanted.to_server)
        finally:
            del self._transfers[wanted.to_server]
            self._loop.put(SnapshotSent(wanted.to_server, sent_index))
        log.info("snapshot sent" if sent_index else "snapshot transfer failed", index=sent_index)

    async def _fresh_snapshot(self) -> SnapshotFile | None:
        """A spool file of the state as it is now; the last one if nothing changed or it still joins up with the log.

        None if the disk has no room for it: the follower asks again, and a full disk would stop this member as well.

        Making one is a task of its own: a stop gives transfers up, but must not cut off the flush that one has begun.
        """
        return await asyncio.shield(self._start(self._make_snapshot()))

    async def _make_snapshot(self) -> SnapshotFile | None:
        async with self._lock:
            snapshot = self._snapshot
            if snapshot is not None and snapshot.position.index >= self._loop.raft.first_log_index - 1:
                return snapshot
            await self._flush_locked()
            if not self._has_room(self._state_store.size_bytes()):
                log.error("no room on the disk for a snapshot", needed_bytes=self._state_store.size_bytes())
                return None
            spooled: asyncio.Future[SnapshotFile] = asyncio.get_running_loop().create_future()
            self._state_store.spool_snapshot(spooled.set_result)
            snapshot = self._snapshot = await self._unless_failed(spooled)
            return snapshot

    # -- copies for backups -------------------------------------------------------------------------------------

    def copy_for_backup(
        self, facts: Callable[[], BackupFacts], is_wanted: Callable[[], bool]
    ) -> "asyncio.Task[BackupCopy | BackupRefused]":
        """A file with everything that is applied now. `facts` is asked when it begins."""
        return self._start(self._copy_for_backup(facts, is_wanted))

    async def _copy_for_backup(
        self, facts: Callable[[], BackupFacts], is_wanted: Callable[[], bool]
    ) -> BackupCopy | BackupRefused:
        async with self._lock:
            asked = facts()
            await self._flush_locked()
            if not self._state_store.position.index:
                return BackupRefused("this member holds nothing yet: ask another one")
            size_bytes = self._state_store.size_bytes()
            if not self._has_room(size_bytes):
                return _no_room(size_bytes)
            copied: asyncio.Future[BackupCopy | BackupRefused] = asyncio.get_running_loop().create_future()
            self._state_store.spool_backup(asked, is_wanted, copied.set_result)
            return await self._unless_failed(copied)

    # -- snapshots in -------------------------------------------------------------------------------------------

    def install(self, snapshot: InstallSnapshot) -> None:
        """Replace state and log by a received snapshot."""
        self._start(self._install(snapshot))

    async def _install(self, snapshot: InstallSnapshot) -> None:
        self.is_installing = True
        try:
            await self._install_in_turn(snapshot)
        except asyncio.CancelledError:
            if not self._failure.reason.done():  # The core appends nothing before it hears the end of this.
                self._failure.tell("internal error: putting a snapshot in place was cut off")
            raise
        finally:
            self.is_installing = False

    async def _install_in_turn(self, snapshot: InstallSnapshot) -> None:
        async with self._lock:
            log.info("installing snapshot", index=snapshot.last_included_index, term=snapshot.last_included_term)
            installed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._state_store.install_snapshot(snapshot, lambda: installed.set_result(None))
            await self._unless_failed(installed)
            keyspace = await self._load_keyspace()
            self._snapshot = None
            self._applier.configuration = Configuration.decode(self._state_store.configuration)
            self._on_installed(keyspace, self._state_store.position)
        log.info("snapshot installed", index=snapshot.last_included_index)

    async def _unless_failed(self, outcome: asyncio.Future[T]) -> T:
        """Wait for what storage or transport will say; if the member fails meanwhile, they may never say it."""
        await asyncio.wait((outcome, self._failure.reason), return_when=asyncio.FIRST_COMPLETED)
        if not outcome.done():
            raise asyncio.CancelledError
        return outcome.result()

    def _start(self, work: Coroutine[None, None, T]) -> asyncio.Task[T]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._on_done)
        return task

    def _on_done(self, task: asyncio.Task[T]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            cause = error if isinstance(error, Exception) else None
            self._failure.tell(f"keeping the state on disk failed: {error!r}", cause)


def _no_room(copy_bytes: int) -> BackupRefused:
    return BackupRefused(
        f"this member's disk has no room for a copy of about {copy_bytes} bytes: free some, or ask another member",
        is_room=True,
    )
