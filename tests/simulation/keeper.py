"""The part of a simulated server that keeps its state: expiry, write behind, compaction, snapshots out and in."""

from typing import TYPE_CHECKING, Final

from kvraft.keyspace.commands import Sync
from kvraft.raft.configuration import Configuration
from kvraft.raft.effects import Role
from kvraft.raft.entries import Entry, EntryKind
from kvraft.raft.inputs import LogCompacted, SnapshotInstalled, SnapshotSent
from kvraft.raft.messages import InstallSnapshot
from kvraft.raft.restored import LogPosition
from tests.simulation.disk import StateFlush, StoredState
from tests.simulation.frames import SnapshotStream
from tests.simulation.model import Result

if TYPE_CHECKING:
    from tests.simulation.member import SimulatedMember

_EXPIRY_CHECK_US: Final = 100_000
_SYNC_RETRY_MS: Final = 500
_SCRUB_INTERVAL_MS: Final = 500
_SCRUB_ENTRIES: Final = 50
"""The whole of a run's log is verified again and again, within seconds each time."""


class Keeper:
    """One run of one server's state. A restart makes a new one."""

    def __init__(self, member: "SimulatedMember", configurations: tuple[tuple[int, Configuration], ...]) -> None:
        self._member = member
        self._context = member.context
        self._boot = member.boots
        self.configurations = list(configurations)
        """(index, configuration) of the log as this server sees it, the one in force at its base first."""
        self._sync_again_ms = 0
        self._scrub_again_ms = 0
        self._spooled: dict[str, StoredState] = {}
        self._context.scheduler.after(_EXPIRY_CHECK_US, self._check_expiry)
        self._context.scheduler.after(self._context.options.flush_ms * 1000, self._flush_tick)

    @property
    def _alive(self) -> bool:
        return self._boot == self._member.boots and self._member.up

    @property
    def configuration(self) -> Configuration:
        """The latest configuration in the log, committed or not."""
        return self.configurations[-1][1]

    @property
    def configuration_index(self) -> int:
        """Where it stands."""
        return self.configurations[-1][0]

    def wrote(self, truncate_from: int, entries: list[Entry]) -> None:
        """Follow the configurations in the log."""
        if truncate_from:
            kept = [pair for pair in self.configurations if pair[0] < truncate_from]
            self.configurations = kept or self.configurations[:1]
        for entry in entries:
            if entry.kind is EntryKind.CONFIGURATION:
                self.configurations.append((entry.index, Configuration.decode(entry.payload)))

    def _check_expiry(self) -> None:
        if not self._alive:
            return
        member = self._member
        core, machine = member.core, member.machine
        assert core is not None
        assert machine is not None
        now_ms = member.clock.now_ms()
        if core.role is Role.LEADER and not member.paused and now_ms >= self._sync_again_ms:
            deadline_ms = machine.next_deadline_ms()
            if deadline_ms is not None and self.is_due(deadline_ms, core.log_clock_ms(now_ms)):
                self._sync_again_ms = now_ms + _SYNC_RETRY_MS
                member.desk.submit(Sync(), _ignore_answer, _ignore_failure)
        self._context.scheduler.after(_EXPIRY_CHECK_US, self._check_expiry)

    def is_due(self, deadline_ms: int, log_clock_ms: int) -> bool:
        """Whether something expires now."""
        return deadline_ms <= log_clock_ms

    # Write behind and compaction.

    def _flush_tick(self) -> None:
        if self._alive:
            self._scrub_if_due()
            self.flush()
            self._context.scheduler.after(self._context.options.flush_ms * 1000, self._flush_tick)

    def _scrub_if_due(self) -> None:
        now_ms = self._context.scheduler.now_ms
        if now_ms >= self._scrub_again_ms:
            self._scrub_again_ms = now_ms + _SCRUB_INTERVAL_MS
            self._member.disk.scrub(_SCRUB_ENTRIES)

    def flush(self) -> None:
        """Write the applied state behind, if it moved and the durable log covers it."""
        member = self._member
        if not self._alive or member.paused or member.installing or member.disk.flushing:
            return
        position = member.position
        if position.index == member.disk.state.position.index or not member.disk.holds(position):
            return
        machine = member.machine
        assert machine is not None
        etcd_index = machine.etcd_index
        changes = machine.take_changes()
        in_force = [configuration for at, configuration in self.configurations if at <= position.index][-1]

        def flushed(at: LogPosition) -> None:
            machine.changes_stored(etcd_index)
            self.compact(at.index - self._context.options.snapshot_entries)

        member.disk.flush_state(StateFlush(position, in_force, changes), flushed)

    def compact(self, index: int) -> None:
        """Drop the log up to `index`, as far as the durable state covers it."""
        member = self._member
        index = min(index, member.disk.state.position.index)
        if not self._alive or member.installing or not member.disk.log.base.index < index <= member.disk.log.last_index:
            return
        member.disk.compact(index)
        member.log.drop_through(index)
        self._context.reach("log compacted")
        if index == member.disk.log.last_index:
            self._context.reach("log compacted to nothing")
        base = member.disk.log.base
        member.put(LogCompacted(base.index, base.term, base.chain_hash, base.clock_ms), soon=False)

    # Snapshots.

    def send_snapshot(self, to_server: int, term: int) -> None:
        """Stream the durable state to a follower; the core asked for it."""
        member, context = self._member, self._context
        state = member.disk.state
        position = state.position
        if position.index == 0 or member.installing:
            member.put(SnapshotSent(to_server, 0))
            return
        message = InstallSnapshot(
            term=term,
            last_included_index=position.index,
            last_included_term=position.term,
            last_included_hash=position.chain_hash,
            configuration=state.configuration,
            snapshot_id=f"{member.server_id}-{member.boots}-{position.index}-{context.scheduler.now_us}",
            last_included_clock_ms=position.clock_ms,
        )
        context.reached["snapshot sent"] += 1
        member.note(22, position.index, f"-> {to_server} snapshot {position.index}")
        context.network.send(member.server_id, to_server, SnapshotStream(message, member.disk.snapshot()))
        delay_us = 2 * (context.options.latency_us + context.options.jitter_us) + 1000
        context.scheduler.after(delay_us, self._snapshot_sent, to_server, position.index)

    def _snapshot_sent(self, to_server: int, index: int) -> None:
        """The stream ended; whether all of it arrived is known only as far as the link is whole."""
        if self._alive:
            broken = not self._context.network.carries(self._member.server_id, to_server)
            if broken:
                self._context.reach("snapshot lost on its way")
            self._member.put(SnapshotSent(to_server, 0 if broken else index))

    def spool(self, stream: SnapshotStream) -> None:
        """A snapshot has arrived whole."""
        if self._spooled:
            self._context.reach("snapshot superseded before its install")
        self._spooled[stream.message.snapshot_id] = stream.state

    def install(self, message: InstallSnapshot) -> None:
        """Put a spooled snapshot in place, as the core says."""
        member = self._member
        state = self._spooled[message.snapshot_id]
        self._spooled.clear()
        self._context.checkers.installing(member.server_id, message, state.position)
        self._context.reached["snapshot installed"] += 1
        member.note(23, message.last_included_index, f"installs snapshot {message.last_included_index}")
        member.begin_install()
        member.disk.install(state, self._installed)

    def _installed(self) -> None:
        state = self._member.disk.state
        self.configurations = [(state.position.index, state.configuration)]
        self._member.end_install(state)
        self._member.put(SnapshotInstalled(state.position.index))


def _ignore_answer(_index: int, _result: Result) -> None:
    """Nobody waits for a sync."""


def _ignore_failure(_certain: bool) -> None:
    """The next check proposes another."""
