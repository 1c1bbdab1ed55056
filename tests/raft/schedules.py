"""Random schedules of a small cluster, with the safety properties of Figure 3 checked after every step."""

import random
from dataclasses import dataclass, field

from kvraft.raft.effects import Effects, Role
from kvraft.raft.entries import EntryKind
from kvraft.raft.inputs import (
    PeerConnected,
    PeerDisconnected,
    PeerUnreachable,
    Propose,
    ReadRequest,
    TransferLeadership,
)
from kvraft.raft.messages import AppendEntriesReply, RequestVote, RequestVoteReply
from kvraft.raft.quorum import majority
from kvraft.raft.settings import RaftSettings
from tests.raft.cluster import Cluster, Flight, Server


@dataclass
class Faults:
    """How likely each trouble is, per message or per step."""

    loss: float = 0.0
    duplication: float = 0.0
    reordering: float = 0.0
    crash: float = 0.0
    slow_disk: float = 0.0
    """Chance that a disk does not sync in a round."""
    compaction: float = 0.0
    disconnect: float = 0.0
    transfer: float = 0.0
    partition: float = 0.0
    """Chance that some directed links are cut, for a while."""


@dataclass
class Safety:
    """What must never happen, over all servers and lives (Figure 3)."""

    leaders: dict[int, int] = field(default_factory=dict)
    """Term to leader."""
    committed: dict[int, bytes] = field(default_factory=dict)
    """Index to chain hash, of everything that any server delivered."""
    votes: dict[tuple[int, int], int] = field(default_factory=dict)
    """(voter, term) to whom a vote left."""
    acknowledged: int = 0

    def check(self, cluster: Cluster, server: Server, effects: Effects) -> None:
        """After one step of one server."""
        raft = server.raft
        assert effects.divergence is None, effects.divergence
        assert not effects.corrupt_from, "nothing corrupts messages here"
        if raft.role is Role.LEADER:
            known = self.leaders.setdefault(raft.current_term, server.server_id)
            assert known == server.server_id, f"Election Safety: {known} and {server.server_id}"
            if effects.role_change is not None:
                self._check_completeness(server)
        for entry in effects.committed:
            known_hash = self.committed.setdefault(entry.index, entry.chain_hash)
            assert known_hash == entry.chain_hash, f"State Machine Safety: index {entry.index}"
        if effects.committed:
            self._check_durable_quorum(cluster, server, effects.committed[-1].index)

    def check_sent(self, cluster: Cluster, flight: Flight) -> None:
        """A promise leaves a server: it must rest on its disk, and not contradict an earlier one."""
        message = flight.message
        disk = cluster.servers[flight.from_server].disk
        if isinstance(message, RequestVoteReply) and message.granted:
            key = (flight.from_server, message.term)
            assert self.votes.setdefault(key, flight.to_server) == flight.to_server, "one vote a term"
            assert disk.hard_state.current_term >= message.term, "a vote is durable before it leaves"
        elif isinstance(message, RequestVote):
            assert disk.hard_state.current_term >= message.term, "the own vote is durable before others are asked"
        elif isinstance(message, AppendEntriesReply) and message.success:
            assert message.match_index <= disk.last_index, "only what is durable is acknowledged"

    def _check_completeness(self, server: Server) -> None:
        log = server.raft._state.log
        for index, chain_hash in self.committed.items():
            position = log.position(index)
            if position is None:
                assert index <= log.base.index, f"Leader Completeness: index {index} is missing"
            else:
                assert position.chain_hash == chain_hash, f"Leader Completeness: index {index} differs"

    def _check_durable_quorum(self, cluster: Cluster, server: Server, index: int) -> None:
        holders = 0
        voters = server.raft.configuration.voters
        for voter in voters:
            disk = cluster.servers[voter].disk
            if index <= disk.base.index:
                holders += 1
            elif index <= disk.last_index:
                holders += disk.position(index).chain_hash == self.committed[index]
        assert holders >= majority(len(voters)), f"index {index} is committed but not durable on a majority"


class Schedule:
    """One seeded run."""

    def __init__(self, seed: int, faults: Faults, *, servers: int = 3, settings: RaftSettings | None = None) -> None:
        self.random = random.Random(seed)
        self.faults = faults
        self.cluster = Cluster(range(1, servers + 1), seed=seed, settings=settings)
        self.cluster.auto_sync = False
        self.safety = Safety()
        self.cluster.on_step = lambda server, effects: self.safety.check(self.cluster, server, effects)
        self.cluster.on_send = lambda flight: self.safety.check_sent(self.cluster, flight)
        self.cut: dict[tuple[int, int], int] = {}
        """Directed link to when it works again."""
        self.next_read_id = 0
        self.reads: dict[tuple[int, int], int] = {}
        """(server, read id) to the highest index committed anywhere when it was asked."""

    def run(self, rounds: int, *, proposals: float = 0.3, reads: float = 0.1) -> None:
        """One millisecond a round: trouble, delivery in any order, steps, syncs."""
        for _ in range(rounds):
            self.cluster.now_ms += 1
            self._trouble()
            self._deliver()
            for server in list(self.cluster.servers.values()):
                if not server.up:
                    if self.random.random() < 0.05:
                        self.cluster.restart(server.server_id)
                    continue
                self._step(server, proposals, reads)

    def _step(self, server: Server, proposals: float, reads: float) -> None:
        chance = self.random.random
        raft = server.raft
        if raft.role is Role.LEADER and chance() < proposals:
            server.inbox.extend(Propose(token, b"x" * self.random.randrange(40)) for token in range(1, 4))
        if chance() < reads:
            self.next_read_id += 1
            self.reads[server.server_id, self.next_read_id] = max(self.safety.committed, default=0)
            server.inbox.append(ReadRequest(self.next_read_id))
        if server.inbox or server.wanted or raft.next_deadline_ms <= self.cluster.now_ms:
            effects = self.cluster.step(server.server_id)
            server.effects.clear()
            for ready in effects.reads_ready:
                floor = self.reads.pop((server.server_id, ready.read_id))
                assert ready.read_index >= floor, "a read saw less than was committed when it was asked"
            for read_id in effects.reads_failed:
                del self.reads[server.server_id, read_id]
        if chance() >= self.faults.slow_disk:
            self.cluster.sync(server.server_id)

    def _trouble(self) -> None:
        chance = self.random.random
        if chance() < self.faults.partition:
            self._cut_links()
        servers = [server for server in self.cluster.servers.values() if server.up]
        if not servers:
            return
        server = self.random.choice(servers)
        if chance() < self.faults.crash:
            self.cluster.crash(server.server_id)
        elif chance() < self.faults.compaction:
            self._compact(server)
        elif chance() < self.faults.disconnect:
            other = self.random.choice(list(self.cluster.servers))
            told = (PeerDisconnected(other), PeerUnreachable(other), PeerConnected(other, chance() < 0.5))
            server.inbox.append(self.random.choice(told))
        elif chance() < self.faults.transfer:
            server.inbox.append(TransferLeadership(0))

    def _cut_links(self) -> None:
        """Isolate one server, in one direction or both, or cut a few links."""
        until_ms = self.cluster.now_ms + self.random.randrange(300)
        ids = list(self.cluster.servers)
        lonely = self.random.choice(ids)
        shape = self.random.randrange(4)
        for one in ids:
            for other in ids:
                if (
                    (shape == 0 and one == lonely)
                    or (shape == 1 and lonely in (one, other))
                    or (shape == 2 and (one <= lonely) != (other <= lonely))
                    or (shape == 3 and self.random.random() < 0.3)
                ):
                    self.cut[one, other] = until_ms

    def _compact(self, server: Server) -> None:
        index = min(server.raft.last_applied, server.raft._state.log.durable_index, server.disk.last_index)
        if index > server.disk.base.index and not server.batches:
            self.cluster.compact(server.server_id, index)

    def _deliver(self) -> None:
        chance = self.random.random
        kept = []
        network = self.cluster.network
        self.cluster.network = []
        for flight in network:
            if self.cut.get((flight.from_server, flight.to_server), 0) > self.cluster.now_ms:
                continue
            if chance() < self.faults.duplication:
                kept.append(flight)
            if chance() < self.faults.reordering:
                kept.append(flight)
            elif chance() >= self.faults.loss:
                self.cluster.network.append(flight)
        if self.faults.reordering:
            self.random.shuffle(self.cluster.network)
        self.cluster.deliver()
        self.cluster.network = kept + self.cluster.network

    def heal(self, limit_ms: int = 2000) -> int:
        """No more trouble: everybody comes back and agrees. Returns how long that took."""
        self.faults = Faults()
        self.cut.clear()
        start_ms = self.cluster.now_ms
        for server in list(self.cluster.servers.values()):
            if not server.up:
                self.cluster.restart(server.server_id)
        while self.cluster.now_ms - start_ms < limit_ms:
            self.run(10, proposals=0.0, reads=0.0)
            rafts = [server.raft for server in self.cluster.servers.values()]
            ends = {(raft.commit_index, raft.last_log_index, raft.last_applied, raft.current_term) for raft in rafts}
            end = next(iter(ends))
            if len(ends) == 1 and end[0] == end[1] == end[2] and any(raft.role is Role.LEADER for raft in rafts):
                return self.cluster.now_ms - start_ms
        states = {key: (server.raft.role, server.raft.current_term) for key, server in self.cluster.servers.items()}
        raise AssertionError(f"no agreement within {limit_ms} ms: {states}")

    def commits(self) -> int:
        """Commands that were committed."""
        kinds = [entry for server in self.cluster.servers.values() for entry in server.applied]
        return len({entry.index for entry in kinds if entry.kind is EntryKind.COMMAND})
