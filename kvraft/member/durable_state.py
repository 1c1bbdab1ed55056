"""Keeps the state on disk behind the state in memory: flushes, compaction of the log, and snapshots both ways.

One of these at a time: each needs the state environment at rest between two transactions.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Protocol, final

from kvraft import clock, logs
from kvraft.keyspace.keyspace import Keyspace
from kvraft.member.applier import Applier
from kvraft.member.interfaces import LogStore, StateStore, Transport
from kvraft.member.raft_loop import RaftLoop
from kvraft.member.settings import MemberSettings
from kvraft.raft.configuration import Configuration
from kvraft.raft.effects import SendSnapshot
from kvraft.raft.inputs import LogCompacted, SnapshotSent
from kvraft.raft.messages import InstallSnapshot
from kvraft.raft.restored import LogPosition, SnapshotFile

log = logs.get(__name__)


class Installing(Protocol):
    """The member, as an installed snapshot concerns it."""

    def on_installed(self, keyspace: Keyspace, position: LogPosition) -> None:
        """The state on disk is the snapshot's; `keyspace` was loaded from it."""
        ...

    def fail(self, reason: str) -> None:
        """The member cannot go on."""
        ...


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
        member: Installing,
        load_keyspace: Callable[[], Awaitable[Keyspace]],
    ) -> None:
        self._applier = applier
        self._log_store = log_store
        self._state_store = state_store
        self._transport = transport
        self._loop = loop
        self._settings = settings
        self._member = member
        self._load_keyspace = load_keyspace
        self._lock = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._flushing = False
        self._flushed_commands = 0
        self._flushed_ms = clock.monotonic_ms()
        self._sending: set[int] = set()
        self._snapshot: SnapshotFile | None = None

    # -- flush and compaction -----------------------------------------------------------------------------------

    def look_around(self, now_ms: int) -> None:
        """Start a flush if enough has changed or enough time has passed."""
        if self._flushing or self._applier.position.index <= self._state_store.position.index:
            return
        commands = self._applier.applied_commands - self._flushed_commands
        if (
            commands >= self._settings.flush_commands_max
            or now_ms - self._flushed_ms >= self._settings.flush_interval_ms
        ):
            self._start(self._flush())

    async def final_flush(self) -> None:
        """Before a clean stop: the next start then replays nothing."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._applier.position.index > self._state_store.position.index:
            await self._flush()

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
        await flushed
        applier.keyspace.mark_durable(pending.etcd_index)
        self._flushed_commands = commands
        self._flushed_ms = clock.monotonic_ms()
        self._compact(position)

    def _compact(self, durable: LogPosition) -> None:
        """Drop entries that the state covers, all but a margin for followers that are a little behind."""
        keep = min(self._settings.catch_up_entries, self._settings.snapshot_count)
        first_index = self._loop.raft.first_log_index
        last_dropped = durable.index - keep
        if durable.index - first_index < self._settings.snapshot_count or last_dropped < first_index:
            return
        entries = self._log_store.slice(last_dropped, last_dropped, 1)
        if not entries:
            return
        entry = entries[0]
        self._log_store.compact(LogPosition(entry.index, entry.term, entry.chain_hash, entry.clock_ms))
        self._loop.put(LogCompacted(entry.index, entry.term, entry.chain_hash, entry.clock_ms))
        log.info("log compacted", index=entry.index)

    # -- snapshots out ------------------------------------------------------------------------------------------

    def send_snapshot(self, wanted: SendSnapshot) -> None:
        """Stream the state to a follower that needs entries which the log no longer holds."""
        if wanted.to_server not in self._sending:
            self._sending.add(wanted.to_server)
            self._start(self._send_snapshot(wanted))

    async def _send_snapshot(self, wanted: SendSnapshot) -> None:
        sent_index = 0
        try:
            snapshot = await self._fresh_snapshot()
            done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
            self._transport.send_snapshot(wanted.to_server, wanted.term, snapshot, done.set_result)
            if await done:
                sent_index = snapshot.position.index
        finally:
            self._sending.discard(wanted.to_server)
            self._loop.put(SnapshotSent(wanted.to_server, sent_index))
        log.info("snapshot sent" if sent_index else "snapshot transfer failed", index=sent_index)

    async def _fresh_snapshot(self) -> SnapshotFile:
        """A spool file of the state as it is now; the last one if nothing changed or it still joins up with the log."""
        async with self._lock:
            snapshot = self._snapshot
            if snapshot is not None and snapshot.position.index >= self._loop.raft.first_log_index - 1:
                return snapshot
            await self._flush_locked()
            spooled: asyncio.Future[SnapshotFile] = asyncio.get_running_loop().create_future()
            self._state_store.spool_snapshot(spooled.set_result)
            self._snapshot = await spooled
            return self._snapshot

    # -- snapshots in -------------------------------------------------------------------------------------------

    def install(self, snapshot: InstallSnapshot) -> None:
        """Replace state and log by a received snapshot."""
        self._start(self._install(snapshot))

    async def _install(self, snapshot: InstallSnapshot) -> None:
        async with self._lock:
            log.info("installing snapshot", index=snapshot.last_included_index, term=snapshot.last_included_term)
            installed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._state_store.install_snapshot(snapshot, lambda: installed.set_result(None))
            await installed
            keyspace = await self._load_keyspace()
            self._snapshot = None
            self._applier.configuration = Configuration.decode(self._state_store.configuration)
            self._member.on_installed(keyspace, self._state_store.position)
        log.info("snapshot installed", index=snapshot.last_included_index)

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._on_done)

    def _on_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._member.fail(f"keeping the state on disk failed: {error!r}")
