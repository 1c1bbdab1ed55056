"""One run of one seed: a cluster, its clients and its faults; first safety under fire, then liveness in peace."""

import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, final

from kvraft.keyspace.commands import Command, Set
from kvraft.raft.configuration import Configuration
from kvraft.raft.effects import Role
from kvraft.raft.inputs import PeerConnected, PeerDisconnected, PeerUnreachable
from tests.simulation.checkers import Checkers, Violation
from tests.simulation.context import Context
from tests.simulation.faults import Fault, draw_schedule
from tests.simulation.frames import Frame
from tests.simulation.history import History
from tests.simulation.lateness import Lateness
from tests.simulation.ledger import Ledger
from tests.simulation.machine import KeyspaceMachine
from tests.simulation.member import SimulatedMember
from tests.simulation.nemesis import Nemesis
from tests.simulation.network import Network
from tests.simulation.options import Options, draw_options
from tests.simulation.scheduler import Scheduler, StormError
from tests.simulation.sessions import Sessions
from tests.simulation.streams import stream
from tests.simulation.trace import Trace
from tests.simulation.watches import Watches
from tests.simulation.workload import Workload

_EVENTS_PER_SECOND_MAX: Final = 200_000
"""A healthy cluster of seven makes a few thousand events a virtual second; a message storm makes millions."""
_LATE_EXPIRY_MS: Final = 3_000
_FINAL_KEY: Final = b"/k0"


@final
@dataclass(slots=True)
class Outcome:
    """What one run showed."""

    seed: int
    options: Options
    schedule: tuple[Fault, ...]
    violation: Violation | None = None
    error: str = ""
    """A traceback, if something other than an invariant broke."""
    at_ms: int = 0
    """Virtual time at the end."""
    core_s: float = 0.0
    """Processor time spent."""
    trace_hash: str = ""
    faults: Counter[str] = field(default_factory=Counter)
    reached: Counter[str] = field(default_factory=Counter)
    messages: Counter[str] = field(default_factory=Counter)
    commits: int = 0
    acknowledged: int = 0
    reads: int = 0
    expired: int = 0
    events: int = 0
    """Delivered to watchers, each compared with the log."""
    terms: int = 0

    @property
    def failed(self) -> bool:
        """Whether something is wrong."""
        return self.violation is not None or bool(self.error)

    def summary(self) -> str:
        """The finding in a line."""
        return str(self.violation) if self.violation else self.error.strip().splitlines()[-1] if self.error else "ok"


@final
class World:
    """Everything of one run."""

    def __init__(
        self, options: Options, schedule: tuple[Fault, ...], sink: Callable[[str], None] | None = None
    ) -> None:
        self.options = options
        self.schedule = schedule
        self.members: dict[int, SimulatedMember] = {}
        scheduler = self.scheduler = Scheduler()
        reached: Counter[str] = Counter()
        commands: dict[bytes, Command] = {}
        users: dict[bytes, str] = {}
        self.context = Context(
            options=options,
            scheduler=scheduler,
            trace=Trace(sink),
            network=Network(scheduler, options, self._deliver, self._dropped, self._sessions),
            checkers=Checkers(self.members, reached),
            history=History(commands, users, options.drift_per_mille, reached),
            machine_factory=lambda image, reader: KeyspaceMachine(image, reader, options.history_events_max),
            commands=commands,
            users=users,
            reached=reached,
        )
        ledger = Ledger(self.context, self.members)
        first = Configuration.of(range(1, options.servers + 1))
        for server_id in options.server_ids:
            # A server that is yet to be added knows nobody: it learns the configuration from the log.
            known = first if server_id in first.voters else Configuration.of(())
            self.members[server_id] = SimulatedMember(self.context, server_id, known, ledger)
        self.workload = Workload(self.context, self.members)
        self.watches = Watches(self.context, self.members)
        self.lateness = Lateness(self.context, self.members)
        self.nemesis = Nemesis(self.context, self.members, self.workload.burst)

    def _deliver(self, to_server: int, from_server: int, frame: Frame) -> None:
        self.members[to_server].receive(from_server, frame)

    def _dropped(self, from_server: int, to_server: int) -> None:
        self.members[from_server].put_if_up(PeerUnreachable(to_server))

    def _reach(self, state: str) -> None:
        self.context.reach(state)

    def _sessions(self, network: Network) -> Sessions:
        return Sessions(
            self.scheduler,
            self.options,
            network.counts,
            is_cut=network.is_cut,
            runs=lambda server: self.members[server].up,
            answers=lambda server: self.members[server].up and not self.members[server].paused,
            began=lambda server, peer, *facts: self.members[server].put_if_up(PeerConnected(peer, *facts)),
            ended=lambda server, peer: self.members[server].put_if_up(PeerDisconnected(peer)),
            reach=self._reach,
        )

    # The two phases.

    def run(self) -> None:
        """Play the whole run.

        Raises:
            Violation: an invariant does not hold.
        """
        self.play()
        self.nemesis.disks.calm()  # First of all each server gets its own disk again: it may have to give of it.
        core = self._choose_core()
        self.workload.stop()
        self._heal(core)
        self.converge(core)

    def play(self) -> None:
        """The safety phase."""
        if self.context.trace.keeps_lines:
            self.context.trace.line(0, 0, 0, self.options.as_json())
        for member in self.members.values():
            member.start()
        self.workload.start()
        self.watches.start()
        self.lateness.start()
        self.nemesis.run(self.schedule)
        self.advance(self.options.safety_ms)

    def advance(self, until_ms: int, done: Callable[[], bool] | None = None) -> bool:
        """Run to a time, a virtual second at a go, each with a limit on events."""
        scheduler = self.context.scheduler
        while scheduler.now_ms < until_ms:
            scheduler.events_max = scheduler.events_run + _EVENTS_PER_SECOND_MAX
            chunk_us = min(until_ms * 1000, scheduler.now_us + 1_000_000)
            try:
                if scheduler.run_until(chunk_us, done):
                    return True
            except StormError as storm:
                raise Violation("I13", f"message storm: {storm}") from storm
        return False

    def _choose_core(self) -> frozenset[int]:
        usable = sorted(self.nemesis.disks.usable())
        if self.options.spares or not self.options.quorum_core_only:
            return frozenset(usable)
        random = stream(self.options.seed, 0, "core")
        return frozenset(random.sample(usable, len(self.members) // 2 + 1))

    def _heal(self, core: frozenset[int]) -> None:
        network = self.context.network
        network.heal(tuple(sorted(self.members)))
        rest = sorted(set(self.members) - core)
        deaf = [(inside, outside) for outside in rest for inside in sorted(core)]
        network.cut(deaf)
        if stream(self.options.seed, 0, "rest").random() < 0.5:
            network.cut([(outside, inside) for inside, outside in deaf])
        self.nemesis.stop(core)
        if self.context.trace.keeps_lines:
            line = f"*** healed: {sorted(core)}"
            self.context.trace.line(self.context.scheduler.now_us, 0, 0, line)

    def converge(self, core: frozenset[int]) -> None:
        """Liveness (I13): a leader within bound, a write and a read through every healed server, then equal states."""
        scheduler, options = self.context.scheduler, self.options
        bound_ms = 15 * options.election_timeout_ms + 5_000
        if not self.advance(scheduler.now_ms + bound_ms, lambda: _all_follow_one(self._serving(core))):
            raise Violation("I13", f"no leader that servers {sorted(core)} follow {bound_ms} ms after healing")
        members = self._serving(core)
        for member in members:
            self._try_through(member, "write", self._final_write)
        for member in members:
            self._try_through(member, "linearizable read", self._final_read)
        if not self.advance(scheduler.now_ms + 60_000, lambda: self._is_quiet(members)):
            positions = {member.server_id: member.position.index for member in members}
            raise Violation("I13", f"60 s after healing servers are at {positions}, {self.workload.pending} pending")
        self.advance(scheduler.now_ms + 2_000)
        if not self.advance(scheduler.now_ms + 10_000, lambda: self._is_quiet(members)):
            raise Violation("I13", "servers did not stay quiet after they had converged")
        self._compare_states(members)
        self.watches.check_complete()
        self._check_expiry(members)
        self._check_message_count()

    def _serving(self, core: frozenset[int]) -> list[SimulatedMember]:
        """The healed servers that belong to the cluster: those of the newest leader's configuration, once committed."""
        leader: SimulatedMember | None = None
        for member in self.members.values():
            if member.core is None or member.core.role is not Role.LEADER:
                continue
            if leader is None or leader.core is None or leader.core.current_term < member.core.current_term:
                leader = member
        if leader is None or leader.core is None or leader.configuration_index > leader.core.commit_index:
            return []
        return [self.members[server] for server in leader.configuration.servers if server in core]

    def _try_through(self, member: SimulatedMember, what: str, begin: Callable[[SimulatedMember], int]) -> None:
        """An operation that a client tries again until it is answered. One that timed out ended, but proves nothing."""
        deadline_ms = self.context.scheduler.now_ms + 15 * self.options.election_timeout_ms + 20_000
        while self.context.scheduler.now_ms < deadline_ms:
            before = self.workload.answered
            number = begin(member)
            self.advance(deadline_ms, lambda number=number: not self.workload.is_pending(number))  # type: ignore[misc] # mypy cannot infer lambdas with defaults
            if self.workload.answered > before:
                return
            self.advance(self.context.scheduler.now_ms + 200)
        raise Violation("I13", f"no {what} through server {member.server_id} succeeded after healing")

    def _final_write(self, member: SimulatedMember) -> int:
        return self.workload.write(member, Set(_FINAL_KEY, b"final %d" % member.server_id))

    def _final_read(self, member: SimulatedMember) -> int:
        return self.workload.read(member, _FINAL_KEY)

    def _is_quiet(self, members: list[SimulatedMember]) -> bool:
        if self.workload.pending:
            return False
        index = members[0].position.index
        if index != self.context.checkers.committed_index:
            return False
        return all(
            member.position.index == index and member.core is not None and member.core.last_log_index == index
            for member in members
        )

    def _compare_states(self, members: list[SimulatedMember]) -> None:
        for _ in range(20):
            for member in members:
                assert member.keeper is not None
                member.keeper.flush()
            self.advance(self.context.scheduler.now_ms + 500)
            if len({member.disk.state.position.index for member in members}) == 1:
                break
        first = members[0].disk.state
        for member in members[1:]:
            state = member.disk.state
            if state.position != first.position or state.nodes != first.nodes or state.meta != first.meta:
                raise Violation("I5", f"servers {members[0].server_id} and {member.server_id} differ on disk")
            if state.history != first.history:
                raise Violation("I5", f"servers {members[0].server_id} and {member.server_id} differ in history")

    def _check_expiry(self, members: list[SimulatedMember]) -> None:
        for member in members:
            if member.core is not None and member.core.role is Role.LEADER:
                clock_ms = member.core.log_clock_ms(member.clock.now_ms())
                overdue = self.context.history.overdue(clock_ms, _LATE_EXPIRY_MS)
                if overdue:
                    raise Violation("I11", f"not expired {_LATE_EXPIRY_MS} ms after their deadline: {overdue}")

    def _check_message_count(self) -> None:
        heartbeats = self.context.scheduler.now_ms // self.options.heartbeat_interval_ms
        work = self.context.checkers.committed_index + self.workload.started + 100
        counts = self.context.network.counts
        allowed = len(self.members) * (6 * heartbeats + 20 * work + 200 * len(self.schedule)) + 4 * counts["replayed"]
        sent = counts["sent"]
        if sent > allowed:
            raise Violation("I13", f"{sent} messages for {self.context.checkers.committed_index} commits")


def _all_follow_one(members: list[SimulatedMember]) -> bool:
    """Whether all know one leader, and that server thinks so too."""
    cores = [member.core for member in members if member.core is not None]
    if not cores:
        return False
    leader_ids = {core.leader_id for core in cores}
    terms = {core.current_term for core in cores}
    return (
        len(leader_ids) == 1 and len(terms) == 1 and 0 not in leader_ids and any(c.role is Role.LEADER for c in cores)
    )


def run_seed(
    seed: int,
    *,
    options: Options | None = None,
    schedule: tuple[Fault, ...] | None = None,
    sink: Callable[[str], None] | None = None,
) -> Outcome:
    """Play a seed, with other options or another schedule if given; never raises for what the run finds."""
    options = options or draw_options(seed)
    schedule = draw_schedule(options) if schedule is None else schedule
    outcome = Outcome(seed, options, schedule)
    started_s = time.process_time()
    world = World(options, schedule, sink)
    try:
        world.run()
    except Violation as violation:
        outcome.violation = violation
    except Exception:  # noqa: BLE001 -- whatever breaks inside a run is a finding, to be reported with its seed
        outcome.error = traceback.format_exc()
    context = world.context
    world.nemesis.disks.count_strikes()
    context.reached["expiry judged for its lateness"] += world.lateness.judged
    context.reached["entries read from disk"] += sum(member.disk.reads for member in world.members.values())
    if options.sectors:
        context.reach("run on disks of sectors")
    if sink is not None and outcome.failed:
        sink(f"FAILED at {context.scheduler.now_ms} ms: {outcome.summary()}")
        sink(outcome.error)
    outcome.at_ms = context.scheduler.now_ms
    outcome.core_s = time.process_time() - started_s
    outcome.trace_hash = context.trace.hexdigest()
    outcome.faults = context.faults
    outcome.reached = context.reached
    outcome.messages = context.network.counts
    outcome.commits = context.checkers.committed_index
    outcome.acknowledged = context.history.acknowledged
    outcome.reads = context.history.reads
    outcome.expired = context.history.expired
    outcome.events = world.watches.delivered
    outcome.terms = len(context.checkers.leaders)
    return outcome
