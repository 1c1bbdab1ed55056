"""The checkers' own tests: histories that must be rejected, and beside each one that must not."""

from collections import Counter
from dataclasses import dataclass, field

import pytest

from kvraft.keyspace.commands import Command, CompareAndSwap, Delete, Set, Sync
from kvraft.raft.configuration import Configuration
from kvraft.raft.effects import HardState, Persist, Role
from kvraft.raft.entries import ZERO_HASH, Entry, EntryKind, make_entry
from kvraft.raft.messages import AppendEntriesReply, InstallSnapshot, RequestPreVoteReply, RequestVoteReply
from kvraft.raft.restored import LogPosition
from tests.simulation.checkers import Checkers, Violation
from tests.simulation.disk import EntryList, SimulatedDisk
from tests.simulation.history import History
from tests.simulation.model import Result
from tests.simulation.scheduler import Scheduler
from tests.simulation.streams import stream

VOTERS = Configuration.of((1, 2, 3))


@dataclass
class FakeCore:
    role: Role = Role.FOLLOWER
    current_term: int = 0
    commit_index: int = 0
    last_applied: int = 0
    last_log_index: int = 0
    configuration: Configuration = VOTERS


@dataclass
class FakeServer:
    server_id: int
    disk: SimulatedDisk = field(
        default_factory=lambda: SimulatedDisk(Scheduler(), stream(1, 1, "disk"), 100, VOTERS),
    )
    log: EntryList = field(default_factory=lambda: EntryList(LogPosition()))
    configuration: Configuration = VOTERS
    configuration_index: int = 0

    @property
    def configurations(self) -> list[tuple[int, Configuration]]:
        return [(self.configuration_index, self.configuration)]


class Cluster:
    """Three servers that the checkers watch."""

    def __init__(self) -> None:
        self.servers = {number: FakeServer(number) for number in (1, 2, 3)}
        self.checkers = Checkers(self.servers, Counter())
        for server in self.servers.values():
            self.checkers.started(server, 0, 0, 0)

    def vote(self, voter: int, term: int, candidate: int) -> None:
        hard = HardState(term, candidate, 0)
        self.servers[voter].disk.hard_state = hard
        self.checkers.durable(voter, Persist(1, hard, 0, [], True))

    def write(self, number: int, entries: list[Entry], truncate_from: int = 0, core: FakeCore | None = None) -> None:
        server = self.servers[number]
        self.checkers.persisting(server, core or FakeCore(), Persist(1, None, truncate_from, entries, True))
        server.log.write(truncate_from, entries)
        server.disk.log.write(truncate_from, entries)

    def lead(self, number: int, term: int, commit_index: int = 0) -> None:
        self.checkers.stepped(self.servers[number], FakeCore(Role.LEADER, term, commit_index))


def entries_of(*terms: int, payload: bytes = b"x") -> list[Entry]:
    """A log with these terms."""
    entries: list[Entry] = []
    previous = ZERO_HASH
    for index, term in enumerate(terms, 1):
        entries.append(make_entry(previous, index, term, EntryKind.NOOP, index, payload))
        previous = entries[-1].chain_hash
    return entries


def test_two_leaders_in_a_term_are_rejected() -> None:
    """Election safety (I1)."""
    cluster = Cluster()
    cluster.vote(1, 1, 1)
    cluster.vote(2, 1, 1)
    cluster.lead(1, 1)
    with pytest.raises(Violation, match="I1: servers 1 and 3 both lead term 1"):
        cluster.lead(3, 1)


def test_leader_without_durable_majority_is_rejected() -> None:
    """A vote counts once it is on disk (I1)."""
    cluster = Cluster()
    cluster.vote(1, 1, 1)
    with pytest.raises(Violation, match="durable votes of"):
        cluster.lead(1, 1)


def test_second_vote_in_a_term_is_rejected() -> None:
    """One durable vote a term (I1); the same again, or another in a later term, is fine."""
    cluster = Cluster()
    cluster.vote(1, 1, 2)
    cluster.vote(1, 1, 2)
    cluster.vote(1, 2, 3)
    with pytest.raises(Violation, match="I1"):
        cluster.vote(1, 2, 1)


def test_vote_sent_before_it_is_durable_is_rejected() -> None:
    """A granted vote is on disk when it leaves, or a later term is (I1)."""
    cluster = Cluster()
    with pytest.raises(Violation, match="grants term 1 to 2"):
        cluster.checkers.sending(cluster.servers[1], 2, RequestVoteReply(1, granted=True))
    cluster.vote(1, 1, 2)
    cluster.checkers.sending(cluster.servers[1], 2, RequestVoteReply(1, granted=True))
    cluster.vote(3, 5, 0)
    cluster.checkers.sending(cluster.servers[3], 2, RequestVoteReply(4, granted=True))
    with pytest.raises(Violation, match="grants term 4 to 1"):
        cluster.checkers.sending(cluster.servers[3], 1, RequestVoteReply(4, granted=True))


def test_acknowledgement_before_the_sync_is_rejected() -> None:
    """An acknowledged entry is on disk (I6)."""
    cluster = Cluster()
    cluster.write(1, entries_of(1, 1))
    cluster.checkers.sending(cluster.servers[1], 2, AppendEntriesReply(1, True, 2, 0, 0))
    with pytest.raises(Violation, match="I6"):
        cluster.checkers.sending(cluster.servers[1], 2, AppendEntriesReply(1, True, 3, 0, 0))


def test_candidate_without_a_majority_of_pre_votes_is_rejected() -> None:
    """A term is stood in only with grants for it (I13); again, if a crash took it back, on the same ones."""
    cluster = Cluster()
    with pytest.raises(Violation, match="stands in term 1, pre-votes from"):
        cluster.checkers.stepped(cluster.servers[1], FakeCore(Role.CANDIDATE, 1))
    cluster.checkers.sending(cluster.servers[3], 2, RequestPreVoteReply(0, 1, granted=True))
    cluster.checkers.stepped(cluster.servers[2], FakeCore(Role.CANDIDATE, 1))
    cluster.checkers.started(cluster.servers[2], 0, 0, 0)
    cluster.checkers.stepped(cluster.servers[2], FakeCore(Role.CANDIDATE, 1))
    with pytest.raises(Violation, match="stands in term 2, pre-votes from"):
        cluster.checkers.stepped(cluster.servers[2], FakeCore(Role.CANDIDATE, 2))


def test_two_entries_at_one_index_and_term_are_rejected() -> None:
    """Log matching (I3)."""
    cluster = Cluster()
    cluster.write(1, entries_of(1))
    cluster.write(2, entries_of(1))
    with pytest.raises(Violation, match="I3: server 3: two entries at index 1 term 1"):
        cluster.write(3, entries_of(1, payload=b"y"))


def test_entry_that_does_not_continue_the_chain_is_rejected() -> None:
    """A chain hash binds an entry to its predecessor (I3)."""
    cluster = Cluster()
    cluster.write(1, entries_of(1))
    orphan = make_entry(b"0" * 16, 2, 1, EntryKind.NOOP, 5, b"")
    with pytest.raises(Violation, match="does not continue the chain"):
        cluster.write(1, [orphan])


def test_gap_in_a_log_is_rejected() -> None:
    """Entries are consecutive (I3)."""
    cluster = Cluster()
    with pytest.raises(Violation, match="I3"):
        cluster.write(1, entries_of(1, 1)[1:])


def test_removal_of_a_committed_entry_is_rejected() -> None:
    """What is committed stays (I8); what is not may go."""
    cluster = Cluster()
    entries = entries_of(1, 1)
    cluster.write(1, entries)
    cluster.checkers.called_committed(cluster.servers[1], 1, entries[:1])
    cluster.write(1, [], truncate_from=2)
    with pytest.raises(Violation, match="I8"):
        cluster.write(1, [], truncate_from=1)


def test_leader_that_removes_entries_is_rejected() -> None:
    """Leaders only append (I2)."""
    cluster = Cluster()
    cluster.write(1, entries_of(1))
    cluster.vote(1, 1, 1)
    cluster.vote(2, 1, 1)
    cluster.lead(1, 1)
    with pytest.raises(Violation, match="I2"):
        cluster.write(1, [], truncate_from=1, core=FakeCore(Role.LEADER, 1))


def test_leader_without_a_committed_entry_is_rejected() -> None:
    """Leader completeness (I4)."""
    cluster = Cluster()
    entries = entries_of(1)
    cluster.write(1, entries)
    cluster.checkers.called_committed(cluster.servers[1], 1, entries)
    for voter in (2, 3):
        cluster.vote(voter, 2, 2)
    with pytest.raises(Violation, match="I4: server 2 leads term 2 without committed entry 1"):
        cluster.lead(2, 2)


def test_commit_of_an_old_term_by_counting_is_rejected() -> None:
    """Section 5.4.2 (I4)."""
    cluster = Cluster()
    for number in (1, 2):
        cluster.write(number, entries_of(1))
        cluster.vote(number, 2, 1)
    cluster.lead(1, 2)
    with pytest.raises(Violation, match="by counting"):
        cluster.lead(1, 2, commit_index=1)


def test_commit_without_a_durable_majority_is_rejected() -> None:
    """Committed means durable on a majority (I4)."""
    cluster = Cluster()
    for number in (1, 2):
        cluster.vote(number, 1, 1)
    cluster.write(1, entries_of(1))
    cluster.lead(1, 1)
    with pytest.raises(Violation, match=r"durable on \[1\] only"):
        cluster.lead(1, 1, commit_index=1)


def test_commit_of_a_lone_leader_with_its_majority_is_accepted() -> None:
    """The good twin of the histories above."""
    cluster = Cluster()
    for number in (1, 2):
        cluster.vote(number, 1, 1)
        cluster.write(number, entries_of(1))
    cluster.lead(1, 1)
    cluster.lead(1, 1, commit_index=1)
    assert cluster.checkers.leaders == {1: 1}


def test_two_histories_are_rejected() -> None:
    """State-machine safety (I5): one committed entry an index, one state an index."""
    cluster = Cluster()
    cluster.checkers.called_committed(cluster.servers[1], 1, entries_of(1))
    cluster.checkers.called_committed(cluster.servers[2], 1, entries_of(1))
    with pytest.raises(Violation, match="I5"):
        cluster.checkers.called_committed(cluster.servers[3], 2, entries_of(2))
    cluster.checkers.applied(1, 1, b"a")
    cluster.checkers.applied(2, 1, b"a")
    with pytest.raises(Violation, match="I5"):
        cluster.checkers.applied(3, 1, b"b")
    cluster.checkers.holds(1, 1, b"n")
    cluster.checkers.holds(2, 1, b"n")
    with pytest.raises(Violation, match="holds other nodes"):
        cluster.checkers.holds(3, 1, b"m")


def test_term_or_commit_that_goes_back_is_rejected() -> None:
    """Monotone (I6)."""
    cluster = Cluster()
    cluster.checkers.stepped(cluster.servers[1], FakeCore(current_term=2, commit_index=3))
    with pytest.raises(Violation, match="I6"):
        cluster.checkers.stepped(cluster.servers[1], FakeCore(current_term=1, commit_index=3))
    with pytest.raises(Violation, match="I6"):
        cluster.checkers.stepped(cluster.servers[1], FakeCore(current_term=2, commit_index=2))


def test_removed_server_in_a_later_configuration_is_rejected() -> None:
    """Once it is committed (I12); a removed voter that stays as a learner never left, and a new one may come."""
    cluster = Cluster()
    entries: list[Entry] = []
    for after in (
        Configuration.of([1, 2], [3]),
        Configuration.of([1, 2]),
        Configuration.of([1, 2], [4]),
        Configuration.of([1, 2], [3, 4]),
    ):
        previous = entries[-1].chain_hash if entries else ZERO_HASH
        entries.append(make_entry(previous, len(entries) + 1, 1, EntryKind.CONFIGURATION, 0, after.encode()))
    cluster.checkers.called_committed(cluster.servers[1], 1, entries[:3])
    with pytest.raises(Violation, match=r"I12: removed servers \[3\] are in the configuration of entry 4"):
        cluster.checkers.called_committed(cluster.servers[2], 1, entries[3:])


def test_snapshot_of_what_nobody_committed_is_rejected() -> None:
    """A snapshot stands on the one history (I3, I4)."""
    cluster = Cluster()
    entries = entries_of(1)
    position = LogPosition(1, 1, entries[0].chain_hash, 1)
    message = InstallSnapshot(1, 1, 1, entries[0].chain_hash, VOTERS, "s")
    with pytest.raises(Violation, match="I4"):
        cluster.checkers.installing(1, message, position)
    cluster.checkers.called_committed(cluster.servers[1], 1, entries)
    cluster.checkers.installing(1, message, position)
    other = InstallSnapshot(1, 1, 1, ZERO_HASH, VOTERS, "s")
    with pytest.raises(Violation, match="I3"):
        cluster.checkers.installing(1, other, position)


class Clients:
    """A history with the committed log that goes with it."""

    def __init__(self) -> None:
        self.commands: dict[bytes, Command] = {}
        self.history = History(self.commands, {}, 0, Counter())
        self._index = 0
        self._hash = ZERO_HASH

    def commit(self, command: Command, *, clock_ms: int = 0, now_ms: int = 0) -> bytes:
        """Commit a command; returns its request id."""
        self._index += 1
        request_id = b"%024d" % self._index
        self.commands[request_id] = command
        entry = make_entry(self._hash, self._index, 1, EntryKind.COMMAND, clock_ms, request_id)
        self._hash = entry.chain_hash
        self.history.committed(entry, now_ms * 1000, now_ms * 1000)
        return request_id


def test_right_answers_are_accepted() -> None:
    """Writes, reads at and behind them, plain reads of an older state."""
    clients = Clients()
    first = clients.commit(Set(b"/a", b"1"))
    second = clients.commit(Set(b"/a", b"2"))
    clients.history.write_ended(first, 1, Result(0, 1, b"/a", b"1", 1, None, 0), 0)
    clients.history.write_ended(second, 2, Result(0, 2, b"/a", b"2", 2, b"1", 1), 1)
    clients.history.read_ended(b"/a", 2, (b"2", 2), 2)
    clients.history.local_read_ended(1, 1, b"/a", 1, 1, (b"1", 1))
    assert clients.history.acknowledged == 2


def test_stale_read_is_rejected() -> None:
    """A linearizable read sees every write that had ended (I7)."""
    clients = Clients()
    clients.commit(Set(b"/a", b"1"))
    clients.commit(Set(b"/a", b"2"))
    with pytest.raises(Violation, match="I7"):
        clients.history.read_ended(b"/a", 1, (b"1", 1), 2)


def test_wrong_value_is_rejected() -> None:
    """A read gives what the log says at its index (I7)."""
    clients = Clients()
    clients.commit(Set(b"/a", b"1"))
    with pytest.raises(Violation, match="I7"):
        clients.history.read_ended(b"/a", 1, (b"2", 1), 0)
    with pytest.raises(Violation, match="I7"):
        clients.history.read_ended(b"/a", 1, None, 0)


def test_write_acknowledged_before_one_that_had_ended_is_rejected() -> None:
    """The log's order keeps real time (I7)."""
    clients = Clients()
    first = clients.commit(Set(b"/a", b"1"))
    with pytest.raises(Violation, match="I7"):
        clients.history.write_ended(first, 1, Result(0, 1, b"/a", b"1", 1, None, 0), 1)


def test_acknowledged_write_that_is_not_in_the_log_is_rejected() -> None:
    """No acknowledged write is lost (I8)."""
    clients = Clients()
    with pytest.raises(Violation, match="I8"):
        clients.history.write_ended(b"nobody", 1, Result(0, 1), 0)


def test_command_that_is_applied_twice_is_rejected() -> None:
    """A write is proposed once (I8)."""
    clients = Clients()
    request_id = clients.commit(Set(b"/a", b"1"))
    entry = make_entry(ZERO_HASH, 2, 1, EntryKind.COMMAND, 0, request_id)
    with pytest.raises(Violation, match="I8"):
        clients.history.committed(entry, 0, 0)


@pytest.mark.parametrize("swapped", [True, False])
def test_compare_and_swap_answers_as_the_log_says(*, swapped: bool) -> None:
    """A swap that failed was not applied, and one that was applied did not fail (I7)."""
    clients = Clients()
    clients.commit(Set(b"/a", b"1"))
    request_id = clients.commit(CompareAndSwap(b"/a", b"2", prev_value=b"1" if swapped else b"0"))
    right = Result(0, 2, b"/a", b"2", 1, b"1", 1) if swapped else Result(101, 1)
    wrong = Result(101, 1) if swapped else Result(0, 2, b"/a", b"2", 1, b"1", 1)
    with pytest.raises(Violation, match="I7"):
        clients.history.write_ended(request_id, 2, wrong, 0)
    clients.history.write_ended(request_id, 2, right, 0)


def test_key_that_expires_early_is_rejected() -> None:
    """A TTL is never cut short (I11)."""
    clients = Clients()
    clients.commit(Set(b"/a", b"1", ttl_s=2), clock_ms=0, now_ms=1000)
    clients.commit(Sync(), clock_ms=1000, now_ms=2000)
    assert clients.history.expired == 0
    with pytest.raises(Violation, match="I11"):
        clients.commit(Sync(), clock_ms=2000, now_ms=2500)


def test_key_that_expires_in_time_is_accepted() -> None:
    """The good twin; a deleted key does not expire."""
    clients = Clients()
    clients.commit(Set(b"/a", b"1", ttl_s=2), clock_ms=0, now_ms=1000)
    clients.commit(Set(b"/b", b"1", ttl_s=2), clock_ms=0, now_ms=1000)
    clients.commit(Delete(b"/b"), clock_ms=0, now_ms=1000)
    clients.commit(Sync(), clock_ms=2000, now_ms=3000)
    assert clients.history.expired == 1
    assert clients.history.overdue(10_000, 0) == []


def test_index_that_goes_back_on_a_server_is_rejected() -> None:
    """What one run of a server shows never goes back (I9)."""
    clients = Clients()
    clients.commit(Set(b"/a", b"1"))
    clients.commit(Set(b"/a", b"2"))
    clients.history.local_read_ended(1, 1, b"/a", 2, 2, (b"2", 2))
    clients.history.local_read_ended(2, 1, b"/a", 1, 1, (b"1", 1))
    with pytest.raises(Violation, match="I9"):
        clients.history.local_read_ended(1, 1, b"/a", 1, 1, (b"1", 1))
