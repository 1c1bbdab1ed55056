"""Servers of the core with a disk, a network and a clock that a test moves by hand.

The disk makes batches durable only when told (`sync`), the network delivers only when told (`deliver`), so a test can
stop the world between any two of them. `settle` does everything that is due, until nothing is left.
"""

import random
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Final

from kvraft.raft.configuration import FOUNDING_BYTES, Configuration
from kvraft.raft.core import Raft
from kvraft.raft.effects import Effects, HardState, Outgoing, Persist, Rebuilding, Role
from kvraft.raft.entries import Entry, EntryKind
from kvraft.raft.inputs import (
    Input,
    LogCompacted,
    Propose,
    Received,
    SnapshotInstalled,
    SnapshotSent,
)
from kvraft.raft.messages import AppendEntries, InstallSnapshot, Message
from kvraft.raft.restored import LogPosition, Restored
from kvraft.raft.settings import RaftSettings

FOUNDING: Final = bytes(range(1, FOUNDING_BYTES + 1))


def founded(voters: Iterable[int], learners: Iterable[int] = (), removed: Iterable[int] = ()) -> Configuration:
    """A configuration of the history that every cluster here has begun already, so that its first leader need not."""
    return Configuration.of(voters, learners, removed, FOUNDING)


@dataclass(slots=True)
class Disk:
    """The durable half of a server: hard state, log, and the position of its state. Is a `LogReader`."""

    configuration: Configuration
    hard_state: HardState = HardState(0, 0, 0)  # noqa: RUF009 -- nobody modifies one
    base: LogPosition = LogPosition()  # noqa: RUF009 -- nobody modifies one
    entries: list[Entry] = field(default_factory=list)
    applied_index: int = 0
    reads: int = 0

    @property
    def last_index(self) -> int:
        """The last durable entry."""
        return self.base.index + len(self.entries)

    def write(self, batch: Persist) -> None:
        """One transaction."""
        if batch.hard_state is not None:
            self.hard_state = batch.hard_state
        if batch.truncate_from:
            del self.entries[batch.truncate_from - self.base.index - 1 :]
        if batch.entries:
            assert batch.entries[0].index == self.last_index + 1, "batches leave no gap"
            self.entries.extend(batch.entries)

    def term_at(self, index: int) -> int:
        """LogReader.term_at."""
        self.reads += 1
        position = index - self.base.index - 1
        return self.entries[position].term if 0 <= position < len(self.entries) else 0

    def slice(self, first: int, last: int, bytes_max: int) -> list[Entry]:
        """LogReader.slice."""
        self.reads += 1
        position = first - self.base.index - 1
        if not 0 <= position < len(self.entries):
            return []
        taken: list[Entry] = []
        size = 0
        for entry in self.entries[position : last - self.base.index]:
            size += len(entry.record)
            if taken and size > bytes_max:
                break
            taken.append(entry)
        return taken

    def position(self, index: int) -> LogPosition:
        """The position at an index that the log or its base holds."""
        if index == self.base.index:
            return self.base
        entry = self.entries[index - self.base.index - 1]
        return LogPosition(entry.index, entry.term, entry.chain_hash, entry.clock_ms)

    def compact(self, index: int) -> None:
        """Drop entries up to `index`."""
        for entry in self.entries[: index - self.base.index]:
            if entry.kind is EntryKind.CONFIGURATION:
                self.configuration = Configuration.decode(entry.payload)
        position = self.position(index)
        del self.entries[: index - self.base.index]
        self.base = position
        self.applied_index = max(self.applied_index, index)

    def restored(self) -> Restored:
        """What a restart finds."""
        configurations = [(self.base.index, self.configuration)]
        configurations += [
            (entry.index, Configuration.decode(entry.payload))
            for entry in self.entries
            if entry.kind is EntryKind.CONFIGURATION
        ]
        last = self.position(self.last_index)
        applied = max(self.applied_index, self.base.index)
        return Restored(self.hard_state, self.base, last, tuple(configurations), applied)


@dataclass(slots=True)
class Server:
    """One server: the core, its disk, and what is under way between them."""

    server_id: int
    disk: Disk
    raft: Raft
    inbox: list[Input] = field(default_factory=list)
    batches: deque[Persist] = field(default_factory=deque)
    held: deque[Outgoing] = field(default_factory=deque)
    """What waits for the disk."""
    wanted: bool = False
    """The core wants a step without input."""
    applied: list[Entry] = field(default_factory=list)
    """Everything applied in this life, in order, behind the restored state."""
    effects: list[Effects] = field(default_factory=list)
    """Every step's, oldest first; a test clears it when it likes."""
    up: bool = True


@dataclass(slots=True, frozen=True)
class Flight:
    """A message on its way."""

    from_server: int
    to_server: int
    message: Message


class Cluster:
    """Servers 1..n that start with one configuration. Deterministic for a seed."""

    def __init__(
        self,
        voters: Iterable[int],
        *,
        learners: Iterable[int] = (),
        settings: RaftSettings | None = None,
        seed: int = 1,
    ) -> None:
        # Commits are told at once, so that a story is over when its messages are delivered.
        self.settings = settings or RaftSettings(heartbeat_interval_ms=10, election_timeout_ms=100)
        self.random = random.Random(seed)
        self.now_ms = 0
        self.network: list[Flight] = []
        self.drop: Callable[[Flight], bool] = lambda _flight: False
        self.auto_sync = True
        self.on_step: Callable[[Server, Effects], None] = lambda _server, _effects: None
        self.on_send: Callable[[Flight], None] = lambda _flight: None
        self.sent = 0
        configuration = founded(voters, learners)
        self.servers: dict[int, Server] = {}
        for server_id in configuration.servers:
            self.add(server_id, Disk(configuration))

    def add(self, server_id: int, disk: Disk) -> Server:
        """Start a server on a disk: a new one, or one that was stopped."""
        raft = Raft(
            server_id,
            disk.restored(),
            self.settings,
            random.Random(self.random.getrandbits(64)),
            disk,
            self.now_ms,
        )
        self.servers[server_id] = Server(server_id, disk, raft)
        return self.servers[server_id]

    def crash(self, server_id: int) -> None:
        """Stop a server; what it had not synced is lost, and so is what it had not sent."""
        server = self.servers[server_id]
        server.up = False
        server.inbox.clear()
        server.batches.clear()
        server.held.clear()

    def restart(self, server_id: int) -> Server:
        """Start a crashed server again from its disk."""
        return self.add(server_id, self.servers[server_id].disk)

    def wipe(self, server_id: int) -> Server:
        """Crash a server and start it on an empty disk, which it is told; its connections end with what is on them."""
        self.crash(server_id)
        self.network = [flight for flight in self.network if server_id not in (flight.from_server, flight.to_server)]
        disk = Disk(founded(self.servers), hard_state=HardState(0, 0, 0, Rebuilding(asking=True)))
        return self.add(server_id, disk)

    # -- one thing at a time

    def step(self, server_id: int, *inputs: Input) -> Effects:
        """One step of a server with everything in its inbox and `inputs`, carrying out the effects."""
        server = self.servers[server_id]
        taken = [*server.inbox, *inputs]
        nothing_follows = not server.wanted and self._may_wait(server, taken)
        server.inbox = []
        server.wanted = False
        effects = server.raft.step(taken, self.now_ms)
        assert not nothing_follows or effects == Effects(), "what may wait for another step brings nothing by itself"
        server.effects.append(effects)
        self._carry_out(server, effects)
        self.on_step(server, effects)
        return effects

    def _may_wait(self, server: Server, taken: list[Input]) -> bool:
        """Whether the core says of all that it is given that it needs no step of its own, and none is due.

        Any step sends on what the last one had no room for; that comes with the answer of whoever is owed it.
        """
        raft = server.raft
        owes_nobody = all(progress.next_index > raft.last_log_index for progress in raft.progress.values())
        return (
            bool(taken)
            and owes_nobody
            and server.raft.next_deadline_ms > self.now_ms
            and all(
                isinstance(item, Received) and server.raft.may_wait(item.from_server, item.message) for item in taken
            )
        )

    def _carry_out(self, server: Server, effects: Effects) -> None:
        if effects.persist is not None:
            server.batches.append(effects.persist)
        for outgoing in effects.messages:
            if outgoing.after_batch:
                server.held.append(outgoing)
            else:
                self._send(server.server_id, outgoing.to_server, outgoing.message)
        if effects.committed:
            server.applied.extend(effects.committed)
            server.wanted |= server.raft.applied(effects.committed[-1].index)
        for wanted in effects.send_snapshots:
            self.send_snapshot(server.server_id, wanted.to_server, wanted.term)
        if effects.install is not None:
            self.install(server, effects.install)
        if self.auto_sync:
            self.sync(server.server_id)

    def sync(self, server_id: int) -> None:
        """Everything this server has issued becomes durable, and what waited for it leaves."""
        server = self.servers[server_id]
        last = 0
        while server.batches:
            batch = server.batches.popleft()
            server.disk.write(batch)
            last = batch.batch_id
        if last:
            server.wanted |= server.raft.persisted(last)
        while server.held:
            outgoing = server.held.popleft()
            self._send(server_id, outgoing.to_server, outgoing.message)

    def _send(self, from_server: int, to_server: int, message: Message) -> None:
        self.sent += 1
        flight = Flight(from_server, to_server, message)
        self.network.append(flight)
        self.on_send(flight)

    def send_snapshot(self, from_server: int, to_server: int, term: int) -> None:
        """Send the sender's compacted state; tests with no compacted state compact first."""
        server = self.servers[from_server]
        base = server.disk.base
        message = InstallSnapshot(
            term, base.index, base.term, base.chain_hash, server.disk.configuration, f"{from_server}@{base.index}",
            base.clock_ms,
        )  # fmt: skip
        self._send(from_server, to_server, message)
        server.inbox.append(SnapshotSent(to_server, base.index))

    def install(self, server: Server, snapshot: InstallSnapshot) -> None:
        """Replace a server's state and log, durably."""
        index = snapshot.last_included_index
        server.disk.base = LogPosition(
            index, snapshot.last_included_term, snapshot.last_included_hash, snapshot.last_included_clock_ms
        )
        server.disk.entries = []
        server.disk.configuration = snapshot.configuration
        server.disk.applied_index = index
        for batch in server.batches:
            batch.entries = []
            batch.truncate_from = 0
        server.applied = []
        server.inbox.append(SnapshotInstalled(index))

    def compact(self, server_id: int, index: int) -> None:
        """Flush the state at `index` and drop the log up to it."""
        server = self.servers[server_id]
        server.disk.compact(index)
        base = server.disk.base
        self.step(server_id, LogCompacted(index, base.term, base.chain_hash, base.clock_ms))

    # -- everything that is due

    def deliver(self) -> int:
        """Hand over every message now on the network that is not dropped; returns how many arrived."""
        flights, self.network = self.network, []
        arrived = 0
        for flight in flights:
            receiver = self.servers.get(flight.to_server)
            if receiver is None or not receiver.up or self.drop(flight):
                continue
            receiver.inbox.append(Received(flight.from_server, copied(flight.message)))
            arrived += 1
        return arrived

    def settle(self, rounds_max: int = 1000) -> None:
        """Deliver and step until nothing is left to do at this time."""
        for _ in range(rounds_max):
            self.deliver()
            busy = False
            for server in list(self.servers.values()):
                if server.up and (server.inbox or server.wanted or server.raft.next_deadline_ms <= self.now_ms):
                    self.step(server.server_id)
                    busy = True
            if not busy and not self.network:
                return
        raise AssertionError("the cluster does not come to rest")

    def run(self, duration_ms: int) -> None:
        """Let time pass, one millisecond at a time, with all that is due in it."""
        for _ in range(duration_ms):
            self.now_ms += 1
            self.settle()

    # -- looking

    def leader(self) -> Server:
        """The one server that leads the highest term."""
        leaders = [server for server in self.servers.values() if server.up and server.raft.role is Role.LEADER]
        assert leaders, "no leader"
        return max(leaders, key=lambda server: server.raft.current_term)

    def role(self, server_id: int) -> Role:
        """What a server is now."""
        return self.servers[server_id].raft.role

    def lost(self) -> list[Message]:
        """What is on the network, which is then lost."""
        messages = [flight.message for flight in self.network]
        self.network = []
        return messages

    def elect(self, server_id: int) -> Server:
        """Bring the wanted server into the lead, from a cluster at rest without a leader."""
        server = self.servers[server_id]
        state = server.raft._state
        role = state.role
        role.election_deadline_ms = self.now_ms  # type: ignore[attr-defined] # a follower's, by precondition
        self.step(server_id)
        self.settle()
        assert server.raft.role is Role.LEADER, f"server {server_id} is {server.raft.role}"
        return server

    def propose(self, *payloads: bytes) -> Effects:
        """Propose commands on the leader in one step."""
        return self.step(self.leader().server_id, *(Propose(token, payload) for token, payload in enumerate(payloads)))

    def commands(self, server_id: int) -> list[bytes]:
        """The commands applied by a server in this life."""
        return [entry.payload for entry in self.servers[server_id].applied if entry.kind is EntryKind.COMMAND]


def copied(message: Message) -> Message:
    """A message as another process would see it: its lists are its own."""
    if isinstance(message, AppendEntries):
        return replace(message, entries=list(message.entries))
    return message
