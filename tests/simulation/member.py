"""One simulated server: a real core and a machine, with the duties that design.md lays on the core's caller.

The duties are small methods (`send_now`, `hold_until_durable`, `durable`, `apply_entry`, those of `Desk` and `Keeper`),
so that a planted bug can replace one of them.
"""

from collections import deque
from collections.abc import Callable
from typing import Final, final

from kvraft.keyspace.state_records import StateImage
from kvraft.raft.configuration import Configuration
from kvraft.raft.core import Raft
from kvraft.raft.effects import Effects, Outgoing, Persist, ProposalRefusalReason, RoleChange
from kvraft.raft.entries import Entry, EntryKind
from kvraft.raft.inputs import (
    Input,
    PeerConnected,
    PeerDisconnected,
    PeerUnreachable,
    Received,
    TransferLeadership,
)
from kvraft.raft.restored import LogPosition
from kvraft.storage.errors import StorageError
from tests.simulation.checkers import Violation
from tests.simulation.context import Clock, Context
from tests.simulation.desk import Desk, Write
from tests.simulation.disk import EntryList, SimulatedDisk, StoredState
from tests.simulation.frames import Forwarded, ForwardRefused, Frame, SnapshotStream
from tests.simulation.keeper import Keeper
from tests.simulation.ledger import Ledger
from tests.simulation.loop_held import LoopHeld
from tests.simulation.machine import Machine
from tests.simulation.model import Result
from tests.simulation.sectors.disk import SectorDisk
from tests.simulation.streams import stream

AT_BOUNDARY: Final = "at a boundary"
"""Reason of a crash that was armed."""
_NODES_INTERVAL: Final = 8
"""Every so many entries the nodes in memory are compared; the product does it every 1,024."""
_OURS: Final = (Forwarded, ForwardRefused, SnapshotStream)
"""What the member takes itself. Everything else is the core's."""


@final
class SimulatedMember:
    """A server that can crash at any moment and start again from its disk."""

    def __init__(self, context: Context, server_id: int, configuration: Configuration, ledger: Ledger) -> None:
        self.context = context
        self.ledger = ledger
        self.server_id = server_id
        options = context.options
        self.clock = Clock(context.scheduler)
        self.disk = self._new_disk(configuration)
        self.disk.on_durable = self.durable
        self.disk.on_dropped = self._log_dropped
        self.disk.on_failure = self.sync_failed
        self.up = False
        self.paused = False
        self.installing = False
        self.extra_step_us = 0
        """A starved process takes this much longer for each step."""
        self.boots = 0
        self.armed_crash = -1
        """Index into `BOUNDARIES` of the boundary at which the server will crash; -1 for none."""
        self.on_crash: Callable[[SimulatedMember, str], None] = _no_crash
        self.log = EntryList(LogPosition())
        self._random = stream(options.seed, server_id, "boots")
        self._clear()

    def _new_disk(self, configuration: Configuration) -> SimulatedDisk:
        context, options = self.context, self.context.options
        random = stream(options.seed, self.server_id, "disk")
        if not options.sectors:
            return SimulatedDisk(context.scheduler, random, options.sync_us, configuration)
        of_device = stream(options.seed, self.server_id, "sectors")
        return SectorDisk(
            context.scheduler, random, options.sync_us, configuration, self.server_id, context.reach, of_device
        )

    def _clear(self) -> None:
        """Forget everything that lives in memory."""
        self.core: Raft | None = None
        self.machine: Machine | None = None
        self.desk = Desk(self)
        self.keeper: Keeper | None = None
        self.position = LogPosition()
        """The last applied entry's place in the log."""
        self.installing = False
        self._inbox: list[Input] = []
        self._step_scheduled = False
        self._timer_us = -1
        self._held: dict[int, list[Outgoing]] = {}
        self._apply_queue: deque[Entry] = deque()
        self._apply_scheduled = False
        self._loop_held = LoopHeld(self.context)
        self._reads_until_us = 0
        """The loop is busy until then with what the last step read from disk."""

    @property
    def configuration(self) -> Configuration:
        """The latest configuration in this server's log, as the simulator reads it from the entries."""
        assert self.keeper is not None
        return self.keeper.configuration

    @property
    def configurations(self) -> list[tuple[int, Configuration]]:
        """All configurations in this server's log, with their indices."""
        assert self.keeper is not None
        return self.keeper.configurations

    @property
    def configuration_index(self) -> int:
        """Where it stands in the log."""
        assert self.keeper is not None
        return self.keeper.configuration_index

    # Life.

    def start(self) -> None:
        """Start the process: recover from the disk, build core and machine."""
        self.boots += 1
        self._clear()
        self.paused = False
        self.clock.restart(self._random.randrange(1, 1 << 40))
        try:
            restored = self.disk.recover()
        except StorageError as error:
            self.context.reached["start refused"] += 1
            self.note(7, self.boots, f"does not start: {error}")
            return
        self.up = True
        self.ledger.started(self, restored)
        state = self.disk.state
        self.position = state.position
        self.log = EntryList(restored.base)
        self.log.entries = list(self.disk.log.entries)
        self.machine = self.load_machine(state.image())
        random = stream(self.context.options.seed, self.server_id, f"election {self.boots}")
        settings = self.context.options.raft_settings()
        self.core = Raft(self.server_id, restored, settings, random, self.disk, self.clock.now_ms())
        self.keeper = Keeper(self, restored.configurations)
        self.context.checkers.started(self, self.core.current_term, self.core.commit_index, self.core.last_applied)
        log = f"log {restored.base.index}..{restored.last.index}"
        self.note(1, self.boots, f"starts: {log}, commit {self.core.commit_index}, applied {state.position.index}")
        sessions = self.context.network.sessions
        if sessions is not None:
            sessions.process_started(self.server_id)
        self.wake(0)

    def load_machine(self, image: StateImage) -> Machine:
        """A machine with the stored state."""
        return self.context.machine_factory(image, self.disk)

    def crash(self, reason: str) -> None:
        """Kill the process: what was in memory or waited for a sync is gone."""
        if not self.up:
            return
        self.ledger.crashing(self)
        self.up = False  # What becomes durable in the crash itself has nobody any more to tell of it.
        lost = self.disk.crash()
        self.note(2, lost, f"crashes ({reason}), {lost} unsynced batches lost")
        if lost:
            self.context.reached["crash lost unsynced batches"] += 1
        if self.installing:
            self.context.reached["crash during snapshot install"] += 1
        self.armed_crash = -1
        sessions = self.context.network.sessions
        if sessions is not None:
            sessions.process_ended(self.server_id)
        desk = self.desk
        self._clear()
        desk.close()

    def wipe(self) -> None:
        """The disk of this server, which is down, is lost with all it held."""
        assert not self.up
        self.context.checkers.wiped(self)
        self.disk.wipe()
        self.context.network.lives[self.server_id] += 1
        self.note(5, 0, "loses its disk")
        self.context.reached["disk lost"] += 1

    def pause(self) -> None:
        """Stop the process as SIGSTOP does: nothing is lost, nothing happens."""
        self.paused = True
        self.note(3, 0, "is paused")

    def resume(self) -> None:
        """Let a paused process run again."""
        if self.paused:
            self.paused = False
            self.note(4, 0, "resumes")
            if self.up:
                self.wake(0)
                self._apply_later()

    def crashes_at(self, boundary: int) -> bool:
        """Crash here if armed for this boundary; True if it happened and the caller must stop."""
        if self.armed_crash != boundary:
            return False
        self.armed_crash = -1
        self.on_crash(self, AT_BOUNDARY)
        return True

    def note(self, code: int, number: int, what: str) -> None:
        """Into the trace."""
        term = self.core.current_term if self.core is not None else 0
        trace, now_us = self.context.trace, self.context.scheduler.now_us
        trace.note(now_us, self.server_id, code, term, number)
        if trace.keeps_lines:
            trace.line(now_us, self.server_id, term, what)

    # Inputs.

    def put(self, item: Input, *, soon: bool = True) -> None:
        """Add an input, and step soon unless it can wait for the next step, as in the product (member/raft_loop.py)."""
        self._inbox.append(item)
        if soon:
            self._wake_soon()

    def _wake_soon(self) -> None:
        if not self._step_scheduled:
            self.wake(self.context.options.step_delay_us)

    def put_if_up(self, item: PeerConnected | PeerDisconnected | PeerUnreachable | TransferLeadership) -> None:
        """The transport noticed something, or an operator asks."""
        if self.up:
            self.put(item, soon=not isinstance(item, PeerUnreachable))

    def wake(self, delay_us: int) -> None:
        """Step after a while."""
        self._step_scheduled = True
        scheduler = self.context.scheduler
        delay_us = max(delay_us, self._reads_until_us - scheduler.now_us)
        scheduler.after(delay_us + self.extra_step_us, self._step_if_running, self.boots)

    def receive(self, from_server: int, frame: Frame) -> None:
        """A frame arrives. A dead process receives nothing; a paused one finds it when it resumes."""
        if not self.up:
            return
        if isinstance(frame, _OURS):
            self._receive_ours(from_server, frame)
            return
        if self.context.trace.keeps_lines:
            self.note(20, from_server, f"<- {from_server} {frame}")
        self.ledger.received(self, frame)
        assert self.core is not None
        self.put(Received(from_server, frame), soon=not self.core.may_wait(from_server, frame))

    def _receive_ours(self, from_server: int, frame: Forwarded | ForwardRefused | SnapshotStream) -> None:
        match frame:
            case Forwarded():
                self.desk.take_forwarded(from_server, frame)
            case ForwardRefused(request_id):
                self.desk.write_refused(request_id)
            case SnapshotStream(message):
                assert self.keeper is not None
                self.ledger.received(self, message)
                index = message.last_included_index
                self.note(21, index, f"<- {from_server} snapshot {index}")
                self.keeper.spool(frame)
                self.put(Received(from_server, message))

    # Stepping.

    def _step_if_running(self, boot: int) -> None:
        if boot != self.boots or not self.up:
            return
        self._step_scheduled = False
        if not self.paused and not self._loop_held.batch_id:
            self._step()

    def _step(self) -> None:
        core = self.core
        assert core is not None
        inputs, self._inbox = self._inbox, []
        was_rebuilding, bytes_read = core.is_rebuilding, self.disk.bytes_read
        effects = core.step(inputs, self.clock.now_ms())
        if was_rebuilding and not core.is_rebuilding:
            self.note(6, core.last_log_index, "has everything back")
            self.context.reached["disk rebuilt"] += 1
        context = self.context
        reading_us = (self.disk.bytes_read - bytes_read) * context.options.read_us_per_kib >> 10
        if reading_us:
            self._reads_until_us = context.scheduler.now_us + reading_us
        position = core.current_term << 32 | core.last_log_index
        context.trace.note(context.scheduler.now_us, self.server_id, 10, position, len(inputs))
        boot = self.boots
        self._carry_out(core, effects)
        if boot == self.boots and self.up:
            self._arm_timer(core)

    def _carry_out(self, core: Raft, effects: Effects) -> None:
        """Do what a step's caller owes, in the order of the fields of `Effects`."""
        if effects.divergence is not None:
            raise Violation("I3", f"server {self.server_id} reports {effects.divergence}")
        if effects.corrupt_from:
            raise Violation("I16", f"server {self.server_id} got a broken entry from {effects.corrupt_from}")
        if effects.role_change is not None:
            self._role_changed(effects.role_change)
        if effects.persist is not None:
            self.context.checkers.persisting(self, core, effects.persist)
            if self.crashes_at(0):
                return
            self._write_log(effects.persist)
        now = [outgoing for outgoing in effects.messages if not outgoing.after_batch]
        later = [outgoing for outgoing in effects.messages if outgoing.after_batch]
        if now:
            self.send_now(now)
        if later:
            self.hold_until_durable(later)
        if effects.committed:
            self._committed(core, effects.committed)
        self.context.checkers.stepped(self, core)
        for accepted in effects.accepted:
            self.desk.accepted(accepted.token)
        for refused in effects.refused:
            self.desk.refused(refused.token)
            if refused.reason is ProposalRefusalReason.REMOVED:
                self.context.reach("configuration: removed server refused")
        for ready in effects.reads_ready:
            self.desk.read_ready(ready)
        for read_id in effects.reads_failed:
            self.desk.read_failed(read_id)
        if effects.send_snapshots or effects.install is not None:
            self._carry_out_snapshots(effects)

    def _carry_out_snapshots(self, effects: Effects) -> None:
        assert self.keeper is not None
        for wanted in effects.send_snapshots:
            self.keeper.send_snapshot(wanted.to_server, wanted.term)
        if effects.install is not None:
            self.keeper.install(effects.install)

    def _arm_timer(self, core: Raft) -> None:
        scheduler = self.context.scheduler
        when_us = self.clock.when_us(core.next_deadline_ms)
        when_us = max(when_us, scheduler.now_us)
        if when_us < self._timer_us or self._timer_us < 0:
            self._timer_us = when_us
            scheduler.at(when_us, self._timer_fired, self.boots, when_us)

    def _timer_fired(self, boot: int, when_us: int) -> None:
        if boot != self.boots or not self.up or when_us != self._timer_us:
            return
        self._timer_us = -1
        core = self.core
        assert core is not None
        if self.paused:
            return
        if self.clock.now_ms() < core.next_deadline_ms:
            self._arm_timer(core)
        elif not self._step_scheduled:
            self.wake(0)

    def _role_changed(self, change: RoleChange) -> None:
        self.context.reach(f"became {change.role}")
        self.ledger.role_changed(self, change)
        self.note(12, change.leader_id, f"is {change.role} in term {change.term}, leader {change.leader_id}")

    # Disk and network.

    def _write_log(self, batch: Persist) -> None:
        assert self.keeper is not None
        self.ledger.writing(self, batch.truncate_from)
        for entry in batch.entries:
            self.context.appended_us.setdefault((entry.index, entry.term), self.context.scheduler.now_us)
        self.log.write(batch.truncate_from, batch.entries)
        self.keeper.wrote(batch.truncate_from, batch.entries)
        if batch.must_sync:
            self._loop_held.issued(batch.batch_id)
        self.disk.persist(batch)

    def durable(self, batch: Persist) -> None:
        """A batch became durable: tell the core, let go what waited for it."""
        self.context.checkers.durable(self.server_id, batch)
        if not self.up:
            return
        if batch.must_sync and self.crashes_at(1):
            return
        core = self.core
        assert core is not None
        wanted = core.persisted(batch.batch_id)
        for after in sorted(after for after in self._held if after <= batch.batch_id):
            self.send_now(self._held.pop(after))
            if self.crashes_at(2):
                return
        if wanted:
            self._wake_soon()
        if self._loop_held.ended(batch.batch_id):
            self.wake(0)
            self._apply_later()

    def sync_failed(self) -> None:
        """Any error on the durable path stops the process: a retry could succeed without the lost data."""
        self.context.reached["stopped by a failed sync"] += 1
        self.on_crash(self, "its sync failed")

    def _log_dropped(self, log: EntryList, position_index: int) -> None:
        self.ledger.resetting(self, position_index)
        self.context.checkers.resetting(self.server_id, log, position_index)

    def hold_until_durable(self, messages: list[Outgoing]) -> None:
        """Send each once the batch that it waits for is durable."""
        for outgoing in messages:
            self._held.setdefault(outgoing.after_batch, []).append(outgoing)

    def send_now(self, messages: list[Outgoing]) -> None:
        """Give messages to the network."""
        checkers, ledger, network = self.context.checkers, self.ledger, self.context.network
        for outgoing in messages:
            to_server, message = outgoing.to_server, outgoing.message
            checkers.sending(self, to_server, message)
            ledger.sending(self, to_server, message)
            network.send(self.server_id, to_server, message)

    # Applying.

    def _committed(self, core: Raft, entries: list[Entry]) -> None:
        context = self.context
        self.ledger.committed(self, entries)
        known = context.checkers.committed_index
        context.checkers.called_committed(self, core.current_term, entries)
        for entry in entries:
            if entry.index > known:
                context.history.committed(entry, context.appended_us[entry.index, entry.term], context.scheduler.now_us)
        self._apply_queue.extend(entries)
        self._apply_later()

    def _apply_later(self) -> None:
        if self._apply_queue and not self._apply_scheduled:
            self._apply_scheduled = True
            self.context.scheduler.after(self.context.options.apply_delay_us, self._apply_if_running, self.boots)

    def _apply_if_running(self, boot: int) -> None:
        if boot == self.boots and self.up:
            self._apply_scheduled = False
            if self._apply_queue and not self.paused and not self.installing and not self._loop_held.batch_id:
                self.apply_entries()

    def apply_entries(self) -> None:
        """Give what is queued to the machine, in order, and answer who waited."""
        queue = self._apply_queue
        answers: list[tuple[Write, int, Result]] = []
        while queue:
            entry = queue.popleft()
            if entry.index != self.position.index + 1:
                raise Violation("I5", f"server {self.server_id} applies {entry.index} after {self.position.index}")
            result = self.apply_entry(entry)
            self.position = LogPosition(entry.index, entry.term, entry.chain_hash, entry.clock_ms)
            self._check_state()
            if result is not None:
                write = self.desk.waiting_for(entry)
                if write is not None:
                    answers.append((write, entry.index, result))
        if self.crashes_at(3):
            for write, _, _ in answers:
                write.failed(False)
            return
        for write, index, result in answers:
            write.done(index, result)
        self.desk.answer_reads()
        core = self.core
        assert core is not None
        if core.applied(self.position.index):
            self._wake_soon()

    def _check_state(self) -> None:
        """Compare the state after an entry with every other server's."""
        machine, index = self.machine, self.position.index
        assert machine is not None
        self.context.checkers.applied(self.server_id, index, machine.state_hash)
        if index % _NODES_INTERVAL == 0:
            compared = machine.compared_hash
            if self.context.options.accounts:
                self.context.history.accounts_held(self.server_id, index, machine.accounts)
            # While a removed subtree is being taken apart nobody knows the rest: then it ends with the first part.
            if len(compared) > len(machine.state_hash):
                self.context.checkers.holds(self.server_id, index, compared)

    def apply_entry(self, entry: Entry) -> Result | None:
        """One entry of whatever kind; a result for commands."""
        if entry.kind is not EntryKind.COMMAND:
            return None
        assert self.machine is not None
        return self.machine.apply(entry.payload, entry.clock_ms)

    # Snapshots.

    def begin_install(self) -> None:
        """State and log are about to be replaced: apply and serve nothing meanwhile."""
        self.installing = True
        self._apply_queue.clear()

    def end_install(self, state: StoredState) -> None:
        """Switch to an installed state."""
        self.position = state.position
        earlier = self.machine
        self.machine = self.load_machine(state.image())
        if earlier is not None:
            self.machine.succeed(earlier)
        self.log.reset(state.position)
        self.installing = False
        self._check_state()
        self.desk.answer_reads()
        self._apply_later()


def _no_crash(_member: SimulatedMember, _reason: str) -> None:
    """Nobody arms crashes."""
