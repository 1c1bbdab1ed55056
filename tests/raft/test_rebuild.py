"""A server that lost its disk takes part only once it can break no promise that it has forgotten (`rebuild`)."""

import dataclasses

import pytest

from kvraft.raft.configuration import Configuration
from kvraft.raft.effects import HardState, Rebuilding, Role
from kvraft.raft.inputs import ProposeConfiguration, Received
from kvraft.raft.messages import (
    AppendEntries,
    AppendEntriesReply,
    Heartbeat,
    HeartbeatReply,
    Message,
    RebuildReply,
    RebuildRequest,
    RequestPreVote,
    RequestPreVoteReply,
    RequestVote,
    RequestVoteReply,
    TimeoutNow,
)
from tests.raft.cluster import Cluster, Disk, Server, founded


def led(voters: int = 3) -> Cluster:
    """A cluster that server 1 leads, with two commands everywhere."""
    cluster = Cluster(range(1, voters + 1))
    cluster.elect(1)
    cluster.propose(b"a", b"b")
    cluster.settle()
    cluster.run(20)
    return cluster


def question(cluster: Cluster, server: Server, to_server: int = 1) -> RebuildRequest:
    """What it asks, taken from the network."""
    cluster.now_ms += 10
    cluster.step(server.server_id)
    sent = [flight.message for flight in cluster.network if flight.to_server == to_server]
    cluster.network = []
    return next(message for message in sent if isinstance(message, RebuildRequest))


def replied(cluster: Cluster, server: Server, from_server: int, message: Message) -> list[Message]:
    """What it sends in answer to a message."""
    cluster.network = []
    cluster.step(server.server_id, Received(from_server, message))
    sent = [flight.message for flight in cluster.network if flight.to_server == from_server]
    return [each for each in sent if not isinstance(each, RebuildRequest)]


def test_wiped_follower_gets_everything_back() -> None:
    """All others answer, the leader sends its log from the start, and the server is like any other."""
    cluster = led()
    server = cluster.wipe(3)
    cluster.run(50)
    assert cluster.commands(3) == [b"a", b"b"]
    assert not server.raft.is_rebuilding
    assert server.disk.hard_state.rebuilding is None
    assert cluster.leader().server_id == 1
    cluster.propose(b"c")
    cluster.settle()
    cluster.crash(1)
    cluster.run(500)
    assert cluster.leader().raft.current_term > 1


def test_wiped_leader_gets_everything_back() -> None:
    """The others elect another one; the floor is their logs."""
    cluster = led()
    server = cluster.wipe(1)
    cluster.run(600)
    assert cluster.leader().server_id != 1
    assert not server.raft.is_rebuilding
    assert cluster.commands(1) == [b"a", b"b"]


@pytest.mark.parametrize(
    "message",
    [
        RequestVote(9, 50, 8, leadership_transfer=False),
        RequestVote(9, 50, 8, leadership_transfer=True),
        RequestPreVote(9, 50, 8),
        AppendEntries(9, 0, 0, bytes(16), [], 0, 0),
        Heartbeat(9, 0, 0, 7),
        TimeoutNow(9),
    ],
    ids=lambda message: type(message).__name__,
)
def test_server_that_asks_is_dead_to_everything_else(message: Message) -> None:
    """An acknowledgement, a vote or a confirmed lease could contradict what it has forgotten. It adopts no term."""
    cluster = led()
    server = cluster.wipe(3)
    assert replied(cluster, server, 1, message) == []
    assert (server.raft.current_term, server.raft.role, server.raft.leader_id) == (0, Role.FOLLOWER, 0)


def test_server_that_asks_never_campaigns() -> None:
    """However long nobody answers."""
    cluster = led()
    server = cluster.wipe(3)
    cluster.drop = lambda _flight: True
    cluster.run(2000)
    assert (server.raft.role, server.raft.current_term) == (Role.FOLLOWER, 0)


def test_every_other_voter_must_answer() -> None:
    """A candidate's term, which got the forgotten vote, may stand on its own disk alone."""
    cluster = led(5)
    cluster.crash(5)
    server = cluster.wipe(3)
    cluster.run(1000)
    assert list(server.raft.unanswered) == [5]
    assert server.disk.entries == []
    cluster.restart(5)
    cluster.run(100)
    assert not server.raft.is_rebuilding
    assert cluster.commands(3) == [b"a", b"b"]


def test_answer_to_an_earlier_run_is_not_counted() -> None:
    """Its replier may have voted or appended since; the nonce tells the runs apart."""
    cluster = led()
    old = question(cluster, cluster.wipe(3))
    server = cluster.wipe(3)
    assert question(cluster, server).nonce != old.nonce
    for other in (1, 2):
        cluster.step(3, Received(other, RebuildReply(1, old.nonce, 3, 1, blank=False)))
    assert list(server.raft.unanswered) == [1, 2]


def answered(cluster: Cluster, server: Server, *replies: tuple[int, int, int]) -> None:
    """Servers 1, 2, ... answer (term, last index, last term)."""
    asked = question(cluster, server)
    for other, (term, index, last_term) in enumerate(replies, start=1):
        cluster.step(server.server_id, Received(other, RebuildReply(term, asked.nonce, index, last_term, blank=False)))


def test_vote_in_the_greatest_term_that_was_told_is_spent() -> None:
    """It may have been given; in the next term there is a new one. Term and floor are durable together."""
    cluster = led()
    server = cluster.wipe(3)
    answered(cluster, server, (4, 3, 1), (6, 3, 1))
    assert server.disk.hard_state == HardState(6, 3, 0, Rebuilding(False, 1, 3))
    request = RequestVote(6, 3, 1, leadership_transfer=False)
    assert replied(cluster, server, 2, request) == [RequestVoteReply(6, False)]
    request = dataclasses.replace(request, term=7)
    assert replied(cluster, server, 2, request) == [RequestVoteReply(7, True)]


@pytest.mark.parametrize(("index", "term", "granted"), [(8, 5, False), (9, 4, False), (9, 5, True), (1, 6, True)])
def test_no_candidate_below_the_floor_gets_a_vote(index: int, term: int, granted: bool) -> None:
    """It votes as if it had the longest log that was told, as its own may have been as long."""
    cluster = led()
    server = cluster.wipe(3)
    answered(cluster, server, (5, 9, 5), (5, 20, 4))
    assert server.disk.hard_state.rebuilding == Rebuilding(False, 5, 9)
    asked = RequestPreVote(6, index, term)
    assert replied(cluster, server, 1, asked) == [RequestPreVoteReply(5, 7, granted)]
    request = RequestVote(7, index, term, leadership_transfer=False)
    assert replied(cluster, server, 1, request) == [RequestVoteReply(7, granted)]


def test_floor_outlives_a_crash_and_goes_when_the_durable_log_reaches_it() -> None:
    """Below it the server does not stand, but acknowledges what it holds."""
    cluster = led()
    cluster.wipe(3)
    cluster.drop = lambda flight: isinstance(flight.message, AppendEntries)
    cluster.run(50)
    cluster.crash(3)
    server = cluster.restart(3)
    assert server.disk.hard_state.rebuilding == Rebuilding(False, 1, 3)
    assert not server.raft.unanswered
    cluster.drop = lambda _flight: True
    cluster.run(1000)
    assert server.raft.role is Role.FOLLOWER
    cluster.drop = lambda _flight: False
    cluster.auto_sync = False
    cluster.run(500)
    for each in (1, 2):
        cluster.sync(each)
    for _ in range(200):
        cluster.now_ms += 1
        cluster.settle()
        cluster.sync(1)
        cluster.sync(2)
    assert server.raft.is_rebuilding, "what it holds is not on its disk"
    cluster.auto_sync = True
    cluster.run(200)
    assert not server.raft.is_rebuilding


def test_leader_forgets_what_the_server_held() -> None:
    """Or it would send what comes behind that for ever, and tell a commit index that the server does not have."""
    cluster = led()
    leader = cluster.leader()
    assert leader.raft.progress[3].match_index == 3
    server = cluster.wipe(3)
    asked = question(cluster, server)
    configuration = leader.raft.configuration
    assert RebuildReply(1, asked.nonce, 3, 1, False, (configuration,)) in replied(cluster, leader, 3, asked)
    assert leader.raft.progress[3].match_index == 0


def test_leader_that_hears_only_the_server_that_asks_steps_down() -> None:
    """It can neither vote nor acknowledge: a leader beside it alone is in a minority, and another could be elected."""
    cluster = led()
    leader = cluster.leader()
    server = cluster.wipe(3)
    cluster.drop = lambda flight: flight.from_server != 3
    cluster.run(2 * cluster.settings.election_timeout_ms)
    assert server.raft.unanswered, "it still asks"
    assert leader.raft.role is not Role.LEADER


def test_commit_index_told_by_a_leader_that_was_not_asked_yet_is_no_divergence() -> None:
    """A heartbeat that left before the question may come behind the answers."""
    cluster = led()
    server = cluster.wipe(3)
    answered(cluster, server, (1, 3, 1), (1, 3, 1))
    assert replied(cluster, server, 1, Heartbeat(1, 3, 0, 0)) == [HeartbeatReply(1, 0, 0)]
    assert server.raft.commit_index == 0


def test_answer_waits_for_the_disk() -> None:
    """A term that is lost in a crash protects nobody."""
    cluster = led()
    cluster.auto_sync = False
    cluster.step(2, Received(3, RequestVote(5, 3, 1, leadership_transfer=True)))
    cluster.network = []
    cluster.step(2, Received(3, RebuildRequest(0, 77)))
    assert cluster.lost() == []
    cluster.sync(2)
    configuration = cluster.servers[2].raft.configuration
    assert RebuildReply(5, 77, 3, 1, False, (configuration,)) in cluster.lost()


def told(cluster: Cluster, server: Server, other: int, *configurations: Configuration) -> None:
    """Server `other` answers with these configurations, the first of them committed."""
    asking = server.raft._asking
    assert asking is not None
    reply = RebuildReply(1, asking.nonce, 3, 1, False, configurations)
    cluster.step(server.server_id, Received(other, reply))


def test_whoever_stands_in_a_configuration_that_it_is_told_of_must_answer_too() -> None:
    """It began with those of another day, and a change may have been committed without the ones that it knows."""
    cluster = led()
    server = cluster.wipe(3)
    told(cluster, server, 1, Configuration.of([1, 2, 3]), Configuration.of([1, 2, 3], [4]))
    assert list(server.raft.unanswered) == [2, 4]
    told(cluster, server, 4, Configuration.of([1, 2, 3], [4]), Configuration.of([1, 2, 3, 4], [5]))
    assert list(server.raft.unanswered) == [2, 5]
    told(cluster, server, 6, Configuration.of([6]))
    assert list(server.raft.unanswered) == [2, 5], "nobody asked it"
    elsewhere = cluster.wipe(3)
    told(cluster, elsewhere, 1, Configuration.of([1, 3]))
    assert list(elsewhere.raft.unanswered) == [2], "of whom nobody says that it was removed"


def test_whoever_was_removed_need_not_answer_once_that_is_committed() -> None:
    """It may be gone for good; while it is not committed, it may still lead."""
    cluster = led(4)
    server = cluster.wipe(3)
    before, after = Configuration.of([1, 2, 3, 4]), Configuration.of([1, 3, 4], removed=[2])
    told(cluster, server, 1, before, after)
    assert list(server.raft.unanswered) == [2, 4]
    told(cluster, server, 4, after)
    assert not server.raft.unanswered
    assert server.disk.hard_state.rebuilding == Rebuilding(False, 1, 3)


def test_whoever_has_answered_is_asked_on_as_long_as_somebody_is_missed() -> None:
    """The one that is missed may be gone for good, and be removed for that: only the others can tell."""
    cluster = led(5)
    server = cluster.wipe(3)
    cluster.crash(2)
    cluster.run(100)
    assert list(server.raft.unanswered) == [2]
    cluster.step(1, ProposeConfiguration(1, founded([1, 3, 4, 5])))
    cluster.run(300)
    assert not server.raft.is_rebuilding


def test_answer_of_a_learner_is_no_voters() -> None:
    """Two of three voters have lost their disks: that a learner knows something does not help a majority."""
    cluster = led(4)
    server = cluster.wipe(3)
    configuration = Configuration.of([1, 2, 3], [4])
    asked = question(cluster, server)
    cluster.step(3, Received(2, RebuildReply(0, asked.nonce, 0, 0, blank=True)))
    for other in (1, 4):
        told(cluster, server, other, configuration)
    assert server.raft.is_rebuilding
    assert list(server.raft.unanswered) == list(server.raft.lost_as_well) == [2]


def test_two_of_five_at_once_come_back() -> None:
    """Each tells the other that it knows nothing; a majority with one of them still has one that knows."""
    cluster = led(5)
    servers = [cluster.wipe(2), cluster.wipe(3)]
    cluster.run(300)
    assert not any(server.raft.is_rebuilding for server in servers)
    assert cluster.commands(2) == cluster.commands(3) == [b"a", b"b"]


def test_answers_count_from_when_another_has_forgotten_what_it_counted() -> None:
    """Committed by 1 with 3, which has forgotten it, and 2, which had answered 3 before; then 1 forgets it as well."""
    cluster = led(5)
    cluster.drop = lambda flight: isinstance(flight.message, AppendEntries) and flight.to_server != 3
    cluster.propose(b"kept")
    cluster.settle()
    server = cluster.wipe(3)
    cluster.drop = lambda flight: (
        {flight.from_server, flight.to_server} == {1, 3} or isinstance(flight.message, AppendEntries)
    )
    cluster.run(1)
    assert list(server.raft.unanswered) == [1]
    cluster.drop = lambda flight: flight.to_server != 2 and flight.from_server != 2
    cluster.run(30)
    assert cluster.commands(1) == [b"a", b"b", b"kept"]
    cluster.drop = lambda flight: 2 in (flight.from_server, flight.to_server)
    cluster.wipe(1)
    cluster.run(1000)
    assert list(server.raft.unanswered) == [1, 2], "neither knows what 2 holds by now"
    assert all(each.raft.role is not Role.LEADER for each in cluster.servers.values())
    cluster.drop = lambda _flight: False
    cluster.run(500)
    assert [cluster.commands(each)[-1] for each in cluster.servers] == [b"kept"] * 5


def test_server_that_may_have_forgotten_without_knowing_it_says_nothing() -> None:
    """A disk that was lost looks like a first start until somebody refuses it; once in a term, it knows something."""
    cluster = led()
    cluster.crash(1)
    started = cluster.add(1, Disk(founded([1, 2, 3])))
    cluster.drop = lambda flight: 2 in (flight.from_server, flight.to_server)
    server = cluster.wipe(3)
    assert replied(cluster, started, 3, question(cluster, server)) == []
    cluster.run(20)
    assert list(server.raft.unanswered) == [1, 2]
    cluster.drop = lambda _flight: False
    cluster.run(500)
    assert cluster.leader().server_id == 2
    assert not server.raft.is_rebuilding


def test_majority_without_memory_stays_dead() -> None:
    """Nobody can know any more what was committed: an operator has to bring a disk back."""
    cluster = led()
    servers = [cluster.wipe(2), cluster.wipe(3)]
    cluster.run(1000)
    assert all(server.raft.is_rebuilding for server in servers)
    assert [list(server.raft.unanswered) for server in servers] == [[3], [2]]


def test_follower_below_its_floor_lets_a_pair_elect_its_other_half() -> None:
    """Of two, the one that has everything needs a vote, and gets it as its log reaches the floor."""
    cluster = led(2)
    cluster.crash(1)
    server = cluster.wipe(2)
    cluster.restart(1)
    cluster.run(1000)
    assert cluster.leader().server_id == 1
    assert not server.raft.is_rebuilding


def test_entry_that_only_the_wiped_server_acknowledged_is_not_voted_away() -> None:
    """Committed on 1 and 3; 3 loses it; 2, which lacks it, must not win with the vote of 3."""
    cluster = Cluster([1, 2, 3])
    cluster.elect(1)
    cluster.run(20)
    cluster.drop = lambda flight: 2 in (flight.from_server, flight.to_server)
    cluster.propose(b"kept")
    cluster.settle()
    assert cluster.commands(1) == [b"kept"]
    server = cluster.wipe(3)
    cluster.drop = lambda flight: isinstance(flight.message, AppendEntries | Heartbeat | AppendEntriesReply)
    cluster.run(60)
    assert server.raft.is_rebuilding
    assert not server.raft.unanswered
    cluster.crash(1)
    cluster.drop = lambda _flight: False
    cluster.run(1000)
    assert all(each.raft.role is not Role.LEADER for each in cluster.servers.values() if each.up)
    cluster.restart(1)
    cluster.run(500)
    assert cluster.commands(2) == cluster.commands(3) == [b"kept"]
