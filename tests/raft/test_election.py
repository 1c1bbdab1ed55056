"""Elections: section 5.2 and 5.4.1 of the paper, PreVote, leases and CheckQuorum."""

import pytest

from kvraft.raft.effects import Role
from kvraft.raft.entries import EntryKind
from kvraft.raft.inputs import PeerConnected, PeerDisconnected, Received
from kvraft.raft.messages import (
    AppendEntriesReply,
    Heartbeat,
    HeartbeatReply,
    ReadIndexReply,
    ReadIndexRequest,
    RequestPreVote,
    RequestPreVoteReply,
    RequestVote,
    RequestVoteReply,
    TimeoutNow,
)
from kvraft.raft.settings import RaftSettings
from tests.raft.cluster import Cluster
from tests.raft.made import made_append, made_log


def test_three_servers_elect_exactly_one_leader() -> None:
    """With nobody in charge, one server times out first, wins, and the others follow it."""
    cluster = Cluster([1, 2, 3])
    cluster.run(400)
    leader = cluster.leader()
    assert [server.raft.role for server in cluster.servers.values()].count(Role.LEADER) == 1
    assert {server.raft.leader_id for server in cluster.servers.values()} == {leader.server_id}
    assert {server.raft.current_term for server in cluster.servers.values()} == {1}


def test_new_leader_commits_an_empty_entry_of_its_term() -> None:
    """Section 8: a leader commits "a blank no-op entry into the log at the start of its term"."""
    cluster = Cluster([1, 2, 3])
    cluster.elect(2)
    for server in cluster.servers.values():
        assert [(entry.index, entry.term, entry.kind) for entry in server.applied] == [(1, 1, EntryKind.NOOP)]


def test_only_voter_elects_itself_at_once_and_commits_when_persisted() -> None:
    """A cluster of one needs nobody's vote, but its own disk."""
    cluster = Cluster([1])
    cluster.auto_sync = False
    cluster.step(1)
    server = cluster.servers[1]
    assert server.raft.role is Role.LEADER
    assert server.raft.commit_index == 0
    cluster.sync(1)
    cluster.step(1)
    assert server.raft.commit_index == 1


def test_election_timeouts_are_random_within_one_and_two_times_the_setting() -> None:
    """Section 5.2: "election timeouts are chosen randomly from a fixed interval"."""
    cluster = Cluster(range(1, 40))
    deadlines = {server.raft.next_deadline_ms for server in cluster.servers.values()}
    assert all(100 <= deadline < 200 for deadline in deadlines)
    assert len(deadlines) > 20


def test_follower_that_hears_its_leader_does_not_campaign() -> None:
    """Section 5.2: "A server remains in follower state as long as it receives valid RPCs"."""
    cluster = Cluster([1, 2, 3])
    cluster.elect(1)
    cluster.run(1000)
    assert cluster.leader().server_id == 1
    assert cluster.servers[2].raft.current_term == 1


def test_pre_vote_changes_nothing_durable() -> None:
    """Asking and answering before an election leave term and vote alone (thesis 9.6)."""
    cluster = Cluster([1, 2, 3])
    effects = cluster.step(1, Received(2, RequestPreVote(0, 0, 0)))
    assert effects.persist is None
    assert cluster.lost() == [RequestPreVoteReply(0, 1, granted=True)]
    assert cluster.servers[1].raft.current_term == 0


def test_server_grants_one_vote_a_term_first_come_first_served() -> None:
    """Section 5.2: "Each server will vote for at most one candidate in a given term"."""
    cluster = Cluster([1, 2, 3])
    cluster.step(1, Received(2, RequestVote(1, 0, 0, leadership_transfer=False)))
    cluster.step(1, Received(3, RequestVote(1, 0, 0, leadership_transfer=False)))
    cluster.step(1, Received(2, RequestVote(1, 0, 0, leadership_transfer=False)))
    assert cluster.lost() == [
        RequestVoteReply(1, granted=True),
        RequestVoteReply(1, granted=False),
        RequestVoteReply(1, granted=True),
    ]


def test_vote_survives_a_crash() -> None:
    """Figure 2: votedFor is persistent; a server that forgot its vote could elect two leaders."""
    cluster = Cluster([1, 2, 3])
    cluster.step(1, Received(2, RequestVote(1, 0, 0, leadership_transfer=False)))
    cluster.crash(1)
    cluster.restart(1)
    cluster.lost()
    cluster.step(1, Received(3, RequestVote(1, 0, 0, leadership_transfer=False)))
    assert cluster.lost() == [RequestVoteReply(1, granted=False)]


@pytest.mark.parametrize(
    ("last_index", "last_term", "granted"),
    [(3, 2, True), (4, 2, True), (2, 3, True), (2, 2, False), (9, 1, False), (0, 0, False)],
)
def test_vote_only_for_an_up_to_date_log(last_index: int, last_term: int, granted: bool) -> None:
    """Section 5.4.1: the later last term wins; with equal terms the longer log."""
    cluster = Cluster([1, 2, 3])
    cluster.step(1, Received(3, made_append(made_log([1, 1, 2]), 0, 3, term=2)))
    cluster.now_ms += 100
    cluster.lost()
    cluster.step(1, Received(2, RequestPreVote(2, last_index, last_term)))
    cluster.step(1, Received(2, RequestVote(3, last_index, last_term, leadership_transfer=False)))
    assert cluster.lost() == [RequestPreVoteReply(2, 3, granted), RequestVoteReply(3, granted)]


def test_vote_requests_are_ignored_while_a_leader_is_heard() -> None:
    """Section 6: within the minimum election timeout of hearing a leader, it does not update its term or vote."""
    cluster = Cluster([1, 2, 3])
    cluster.step(1, Received(3, Heartbeat(1, 0, 0, 0)))
    cluster.lost()
    cluster.now_ms = 99
    cluster.step(1, Received(2, RequestVote(2, 9, 9, leadership_transfer=False)))
    assert cluster.lost() == []
    assert cluster.servers[1].raft.current_term == 1
    cluster.now_ms = 100
    cluster.step(1, Received(2, RequestVote(2, 9, 9, leadership_transfer=False)))
    assert cluster.lost() == [RequestVoteReply(2, granted=True)]


def test_vote_request_of_a_leadership_transfer_overrides_the_lease() -> None:
    """The leader itself asked for that election (thesis 4.2.3)."""
    cluster = Cluster([1, 2, 3])
    cluster.step(1, Received(3, Heartbeat(1, 0, 0, 0)))
    cluster.lost()
    cluster.step(1, Received(2, RequestVote(2, 9, 9, leadership_transfer=True)))
    assert cluster.lost() == [RequestVoteReply(2, granted=True)]


def test_leader_ignores_vote_requests_while_it_has_a_majority() -> None:
    """A leader's own lease lasts until CheckQuorum ends it."""
    cluster = Cluster([1, 2, 3])
    leader = cluster.elect(1)
    cluster.step(1, Received(3, RequestVote(7, 9, 9, leadership_transfer=False)))
    assert cluster.lost() == []
    assert leader.raft.role is Role.LEADER


@pytest.mark.parametrize("role", [Role.PRE_CANDIDATE, Role.CANDIDATE])
def test_candidate_steps_down_on_append_entries_of_the_same_term(role: Role) -> None:
    """Section 5.2: a candidate that hears from a legitimate leader returns to follower state."""
    cluster = Cluster([1, 2, 3])
    server = cluster.servers[1]
    cluster.step(1, Received(2, Heartbeat(3, 0, 0, 0)))
    cluster.now_ms += 250
    cluster.step(1)
    if role is Role.CANDIDATE:
        cluster.step(1, Received(3, RequestPreVoteReply(3, 4, granted=True)))
    assert server.raft.role is role
    term = server.raft.current_term
    cluster.step(1, Received(3, made_append(made_log([term]), 0, 1, term=term)))
    assert server.raft.role is Role.FOLLOWER
    assert server.raft.leader_id == 3
    assert server.raft.last_log_index == 1


def test_leader_steps_down_when_it_hears_a_higher_term() -> None:
    """Section 5.1: a leader whose term is out of date "immediately reverts to follower state"."""
    cluster = Cluster([1, 2, 3])
    leader = cluster.elect(1)
    effects = cluster.step(1, Received(2, AppendEntriesReply(5, False, 0, 0, 0)))
    assert leader.raft.role is Role.FOLLOWER
    assert leader.raft.current_term == 5
    assert effects.role_change is not None
    assert effects.role_change.leader_id == 0


def test_leader_without_a_majority_steps_down_after_an_election_timeout() -> None:
    """CheckQuorum (thesis 6.2): clients of a cut off leader must not wait for ever."""
    cluster = Cluster([1, 2, 3])
    leader = cluster.elect(1)
    cluster.drop = lambda flight: 1 in (flight.from_server, flight.to_server)
    start_ms = cluster.now_ms
    while leader.raft.role is Role.LEADER:
        cluster.run(1)
    assert cluster.now_ms - start_ms <= 100 + 10
    assert leader.raft.current_term == 1


def test_leader_with_one_of_two_followers_stays() -> None:
    """A majority is enough."""
    cluster = Cluster([1, 2, 3])
    cluster.elect(1)
    cluster.drop = lambda flight: 3 in (flight.from_server, flight.to_server)
    cluster.run(1000)
    assert cluster.leader().server_id == 1
    assert cluster.servers[1].raft.current_term == 1


def test_deposed_leader_is_told_the_term_by_any_answer() -> None:
    """A heartbeat of a lower term is answered, so that a server whose term ran ahead can come back."""
    cluster = Cluster([1, 2, 3])
    cluster.step(1, Received(2, RequestVote(7, 0, 0, leadership_transfer=False)))
    cluster.lost()
    cluster.step(1, Received(3, Heartbeat(3, 0, 0, 4)))
    cluster.step(1, Received(3, made_append(made_log([3]), 0, 1, term=3)))
    heartbeat_reply, append_reply = cluster.lost()
    assert heartbeat_reply == HeartbeatReply(7, 0, 0)
    assert append_reply.term == 7
    assert isinstance(append_reply, AppendEntriesReply)
    assert not append_reply.success


def test_requests_of_a_lower_term_are_refused() -> None:
    """Section 5.1: "If a server receives a request with a stale term number, it rejects the request"."""
    cluster = Cluster([1, 2, 3])
    cluster.step(1, Received(3, Heartbeat(7, 0, 0, 0)))
    cluster.lost()
    cluster.step(1, Received(2, RequestVote(6, 9, 9, leadership_transfer=True)))
    cluster.step(1, Received(2, ReadIndexRequest(6, 77)))
    cluster.step(1, Received(2, RequestVoteReply(6, granted=True)))
    assert cluster.lost() == [RequestVoteReply(7, granted=False), ReadIndexReply(7, 77, 0)]


def test_server_with_a_higher_term_rejoins_and_the_cluster_goes_on() -> None:
    """Its requests are ignored, but its answers make the leader step down once, and then all share the new term."""
    cluster = Cluster([1, 2, 3])
    cluster.elect(1)
    cluster.servers[3].raft._state.current_term = 9
    cluster.run(600)
    assert len({server.raft.current_term for server in cluster.servers.values()}) == 1
    assert cluster.leader().raft.current_term >= 9
    assert {server.raft.leader_id for server in cluster.servers.values()} == {cluster.leader().server_id}


def test_refused_pre_vote_of_a_lower_term_tells_the_higher_one() -> None:
    """A server that lost an election long ago learns the term by asking."""
    cluster = Cluster([1, 2, 3])
    cluster.step(1, Received(2, RequestVote(7, 0, 0, leadership_transfer=False)))
    cluster.lost()
    cluster.step(1, Received(3, RequestPreVote(3, 9, 9)))
    assert cluster.lost() == [RequestPreVoteReply(7, 4, granted=False)]


def test_old_pre_votes_are_not_counted() -> None:
    """A reply counts for the term that was asked about only."""
    cluster = Cluster([1, 2, 3])
    cluster.now_ms = 200
    cluster.step(1)
    cluster.step(1, Received(2, RequestPreVoteReply(0, 5, granted=True)))
    assert cluster.role(1) is Role.PRE_CANDIDATE
    cluster.step(1, Received(2, RequestPreVoteReply(0, 1, granted=True)))
    assert cluster.role(1) is Role.CANDIDATE


def test_candidate_refused_by_a_majority_gives_up_at_once() -> None:
    """Enough refusals decide an election as votes do; the term stays with its vote."""
    cluster = Cluster([1, 2, 3])
    cluster.now_ms = 200
    cluster.step(1)
    cluster.step(1, Received(2, RequestPreVoteReply(0, 1, granted=True)))
    for voter in (2, 3):
        cluster.step(1, Received(voter, RequestVoteReply(1, granted=False)))
    assert cluster.role(1) is Role.FOLLOWER
    cluster.step(1, Received(3, RequestVoteReply(1, granted=True)))
    assert cluster.role(1) is Role.FOLLOWER
    cluster.lost()
    cluster.step(1, Received(3, RequestVote(1, 9, 9, leadership_transfer=False)))
    assert cluster.lost() == [RequestVoteReply(1, granted=False)]


def test_pre_candidate_refused_by_a_majority_gives_up_at_once() -> None:
    """It waits for its next timeout, and for a leader meanwhile."""
    cluster = Cluster([1, 2, 3])
    cluster.now_ms = 200
    cluster.step(1)
    for voter in (2, 3):
        cluster.step(1, Received(voter, RequestPreVoteReply(0, 1, granted=False)))
    assert cluster.role(1) is Role.FOLLOWER


def test_candidate_without_answers_repeats_its_requests_then_asks_anew() -> None:
    """Section 5.2: a split vote times out; with PreVote the term does not grow until somebody would vote."""
    cluster = Cluster([1, 2, 3])
    cluster.now_ms = 200
    cluster.step(1)
    cluster.step(1, Received(2, RequestPreVoteReply(0, 1, granted=True)))
    cluster.lost()
    cluster.now_ms += 10
    cluster.step(1)
    assert cluster.lost() == [RequestVote(1, 0, 0, leadership_transfer=False)] * 2
    cluster.now_ms += 200
    cluster.step(1)
    assert cluster.role(1) is Role.PRE_CANDIDATE
    assert cluster.servers[1].raft.current_term == 1


def test_lost_vote_requests_are_repeated() -> None:
    """Servers that have not answered are asked again each heartbeat interval."""
    cluster = Cluster([1, 2, 3])
    cluster.now_ms = 200
    cluster.step(1)
    cluster.lost()
    cluster.now_ms += 10
    cluster.step(1)
    assert [type(message) for message in cluster.lost()] == [RequestPreVote, RequestPreVote]


def test_broken_connection_of_the_leader_leads_to_a_quick_election() -> None:
    """When the leader's process dies, its connections break, and nobody waits for the election timeout."""
    cluster = Cluster([1, 2, 3])
    cluster.elect(1)
    cluster.run(50)
    cluster.crash(1)
    died_ms = cluster.now_ms
    for follower in (2, 3):
        cluster.step(follower, PeerDisconnected(1))
    while not any(cluster.servers[follower].raft.role is Role.LEADER for follower in (2, 3)):
        cluster.run(1)
    assert cluster.now_ms - died_ms <= cluster.settings.disconnect_delay_ms_max + 10


def test_broken_connection_between_two_servers_does_not_depose_a_live_leader() -> None:
    """Voters that still hear the leader refuse, so the term does not move (design decision 2)."""
    cluster = Cluster([1, 2, 3])
    cluster.elect(1)
    cluster.run(50)
    cluster.step(2, PeerDisconnected(1))
    cluster.run(300)
    assert cluster.leader().server_id == 1
    assert cluster.servers[2].raft.leader_id == 1
    assert {server.raft.current_term for server in cluster.servers.values()} == {1}


def test_rivals_of_a_split_vote_ask_again_soon() -> None:
    """Two survivors of three voted for themselves, the third is dead: no majority refuses, so nobody gives up.

    A refusal behind a won pre-vote shows the rival, and both ask again, spread, long before their timeouts end.
    """
    cluster = Cluster([1, 2, 3], settings=RaftSettings())
    cluster.elect(1)
    cluster.crash(1)
    for follower in (2, 3):
        cluster.step(follower, PeerDisconnected(1))
    cluster.now_ms += cluster.settings.disconnect_delay_ms_max
    for follower in (2, 3):
        cluster.step(follower)
    for follower in (2, 3):
        cluster.step(follower, Received(5 - follower, RequestPreVoteReply(1, 2, granted=True)))
        assert cluster.role(follower) is Role.CANDIDATE
    cluster.lost()
    split_ms = cluster.now_ms
    for follower in (2, 3):
        cluster.sync(follower)
        cluster.now_ms += 2
        cluster.step(follower, Received(5 - follower, RequestVoteReply(2, granted=False)))
    again = [cluster.servers[follower].raft.next_deadline_ms for follower in (2, 3)]
    longest_ms = 1 + cluster.settings.disconnect_delay_ms_max + 6 * 4
    assert all(split_ms + 4 <= deadline_ms <= split_ms + longest_ms for deadline_ms in again), again
    cluster.run(longest_ms)
    assert cluster.leader().server_id in {2, 3}


def test_best_of_the_rivals_asks_first() -> None:
    """By log and id: the others wait behind it for as long as its election takes, so that they do not meet again."""
    cluster = Cluster([1, 2, 3], settings=RaftSettings())
    cluster.now_ms = 2000
    deadlines = {}
    for candidate, rival in ((2, 3), (3, 2)):
        cluster.step(candidate)
        cluster.step(candidate, Received(1, RequestPreVoteReply(0, 1, granted=True)))
        cluster.sync(candidate)
        cluster.now_ms += 10
        cluster.step(candidate, Received(rival, RequestVote(1, 0, 0, leadership_transfer=False)))
        cluster.step(candidate, Received(rival, RequestVoteReply(1, granted=False)))
        deadlines[candidate] = cluster.servers[candidate].raft.next_deadline_ms - cluster.now_ms
    assert deadlines[3] == 11
    assert deadlines[2] >= 31


def test_candidate_refused_by_one_waits_for_the_others_as_long_again() -> None:
    """On a link that takes 30 ms: the second voter's answer is not thrown away for a refusal that came first."""
    cluster = Cluster(range(1, 6))
    cluster.now_ms = 200
    cluster.step(1)
    for voter in (2, 3):
        cluster.step(1, Received(voter, RequestPreVoteReply(0, 1, granted=True)))
    cluster.sync(1)
    cluster.now_ms += 30
    cluster.step(1, Received(2, RequestVoteReply(1, granted=False)))
    cluster.now_ms += 29
    cluster.step(1, Received(3, RequestVoteReply(1, granted=True)))
    assert cluster.role(1) is Role.CANDIDATE
    cluster.step(1, Received(4, RequestVoteReply(1, granted=True)))
    assert cluster.role(1) is Role.LEADER


def test_voter_does_not_help_a_rival_of_the_election_it_voted_in() -> None:
    """The loser of a split vote asks again before the winner's votes are on disk; to win then would depose it."""
    cluster = Cluster(range(1, 6))
    cluster.step(1, Received(5, RequestVote(1, 0, 0, leadership_transfer=False)))
    cluster.lost()
    cluster.step(1, Received(4, RequestPreVote(1, 0, 0)))
    assert cluster.lost() == [RequestPreVoteReply(1, 2, granted=False)]
    cluster.step(1, Received(5, RequestPreVote(1, 0, 0)))
    assert cluster.lost() == [RequestPreVoteReply(1, 2, granted=True)]
    cluster.now_ms += cluster.settings.heartbeat_interval_ms
    cluster.step(1, Received(4, RequestPreVote(1, 0, 0)))
    assert cluster.lost() == [RequestPreVoteReply(1, 2, granted=True)]


def test_every_candidate_refused_by_a_majority_asks_again_soon() -> None:
    """Four survivors of five that all voted for themselves: each hears three refusals, and nobody may rest then."""
    cluster = Cluster(range(1, 6))
    cluster.now_ms = 200
    cluster.step(1)
    for voter in (2, 3):
        cluster.step(1, Received(voter, RequestPreVoteReply(0, 1, granted=True)))
    cluster.sync(1)
    for voter in (2, 3, 4):
        cluster.step(1, Received(voter, RequestVoteReply(1, granted=False)))
    assert cluster.role(1) is Role.FOLLOWER
    assert cluster.servers[1].raft.next_deadline_ms <= cluster.now_ms + 1 + cluster.settings.disconnect_delay_ms_max


def test_survivor_that_notices_late_is_asked_again() -> None:
    """It refused while it counted on the leader, and its own log is behind: only the first one can be elected."""
    cluster = Cluster([1, 2, 3])
    cluster.elect(1)
    cluster.drop = lambda flight: flight.to_server == 3
    cluster.propose(b"x")
    cluster.settle()
    cluster.drop = lambda flight: False
    cluster.crash(1)
    cluster.step(2, PeerDisconnected(1))
    died_ms = cluster.now_ms
    cluster.run(cluster.settings.disconnect_delay_ms_max)
    assert cluster.role(2) is Role.PRE_CANDIDATE
    cluster.step(3, PeerDisconnected(1))
    cluster.run(2 * cluster.settings.heartbeat_interval_ms)
    assert cluster.leader().server_id == 2
    assert cluster.now_ms - died_ms < cluster.settings.election_timeout_ms


def test_half_of_four_cannot_end_an_attempt() -> None:
    """Two refusals of four make a win impossible for now, but those two cannot elect anybody: ask them again."""
    cluster = Cluster(range(1, 5))
    cluster.now_ms = 200
    cluster.step(1)
    for voter in (2, 3):
        cluster.step(1, Received(voter, RequestPreVoteReply(0, 1, granted=False)))
    assert cluster.role(1) is Role.PRE_CANDIDATE
    cluster.step(1, Received(4, RequestPreVoteReply(0, 1, granted=False)))
    assert cluster.role(1) is Role.FOLLOWER


def test_what_a_dead_leader_sent_before_gives_it_no_lease() -> None:
    """The end of one connection may be read before the last bytes of another of the same process."""
    cluster = Cluster([1, 2, 3])
    cluster.elect(1)
    last_words = Heartbeat(1, 0, 0, 0)
    cluster.step(2, PeerDisconnected(1), Received(1, last_words))
    assert cluster.servers[2].raft.leader_id == 0
    cluster.now_ms += cluster.settings.disconnect_delay_ms_max
    cluster.step(2)
    assert cluster.role(2) is Role.PRE_CANDIDATE
    cluster.step(2, Received(1, last_words))
    assert cluster.servers[2].raft.leader_id == 1, "one that lives is heard again"


def test_death_of_a_candidate_that_has_the_vote_leads_to_a_quick_election() -> None:
    """It may have been elected, and killed before it could tell anybody."""
    cluster = Cluster([1, 2, 3])
    cluster.step(2, Received(1, RequestVote(1, 0, 0, leadership_transfer=False)))
    cluster.step(2, PeerDisconnected(1))
    assert cluster.servers[2].raft.next_deadline_ms <= cluster.now_ms + cluster.settings.disconnect_delay_ms_max


def test_broken_connection_of_a_follower_changes_nothing() -> None:
    """Only the leader's connection carries a lease."""
    cluster = Cluster([1, 2, 3])
    cluster.elect(1)
    cluster.step(2, PeerDisconnected(3))
    assert cluster.servers[2].raft.leader_id == 1


def test_timeout_now_of_a_server_that_does_not_lead_is_ignored() -> None:
    """Only the leader may start an election that overrides leases."""
    cluster = Cluster([1, 2, 3])
    cluster.elect(1)
    cluster.step(2, Received(3, TimeoutNow(1)))
    assert cluster.servers[2].raft.role is Role.FOLLOWER


def test_two_leaders_in_one_term_stop_the_server_that_sees_them() -> None:
    """Election Safety (Figure 3) does not break; if it seems to, somebody's disk lied."""
    cluster = Cluster([1, 2, 3])
    cluster.step(1, Received(2, Heartbeat(1, 0, 0, 0)))
    effects = cluster.step(1, Received(3, Heartbeat(1, 0, 0, 0)))
    assert effects.divergence is not None
    assert "both lead term 1" in effects.divergence.detail


def test_messages_that_waited_through_a_stall_are_heard_before_the_timeout() -> None:
    """A process that was stopped for a minute finds heartbeats in its inbox: no election."""
    cluster = Cluster([1, 2, 3])
    cluster.step(1, Received(3, Heartbeat(1, 0, 0, 0)))
    cluster.now_ms += 60_000
    cluster.step(1, Received(3, Heartbeat(1, 0, 0, 0)))
    assert cluster.servers[1].raft.role is Role.FOLLOWER
    assert cluster.servers[1].raft.leader_id == 3


def test_members_that_start_together_need_not_wait_for_a_leader_nobody_is() -> None:
    """Connected with a majority and without a leader: an election within the delay, not within a timeout."""
    cluster = Cluster([1, 2, 3])
    for server, peer in ((1, 2), (2, 1)):
        cluster.step(server, PeerConnected(peer, reaches_majority=True))
    cluster.run(cluster.settings.disconnect_delay_ms_max + 1)
    assert cluster.leader().server_id in (1, 2)


def test_far_apart_those_that_connect_at_once_do_not_vote_for_themselves_all() -> None:
    """The one with the highest id asks first, the others an eighth of a timeout later each: one election is enough."""
    cluster = Cluster([1, 2, 3])
    for server in (1, 2, 3):
        for peer in {1, 2, 3} - {server}:
            cluster.step(server, PeerConnected(peer, reaches_majority=True, higher_ids=3 - server))
    cluster.run(cluster.settings.disconnect_delay_ms_max + 1)
    assert (cluster.leader().server_id, cluster.leader().raft.current_term) == (3, 1)
    silent = Cluster([1, 2, 3])
    silent.drop = lambda flight: flight.from_server == 3
    for server in (1, 2):
        silent.step(server, PeerConnected(3, reaches_majority=True, higher_ids=3 - server))
    silent.run(silent.settings.disconnect_delay_ms_max + 2 * silent.settings.election_timeout_ms // 8 + 20)
    assert silent.servers[2].raft.leader_id in (1, 2), "who asks nobody is not waited for"


def test_one_that_reaches_too_few_waits_its_timeout_out() -> None:
    """It could not be elected: nothing is asked."""
    cluster = Cluster([1, 2, 3, 4, 5])
    cluster.drop = lambda _flight: True
    cluster.step(1, PeerConnected(2, reaches_majority=False))
    cluster.run(cluster.settings.election_timeout_ms - 1)
    assert cluster.sent == 0


def test_follower_of_a_leader_and_a_voter_go_on_when_a_peer_connects() -> None:
    """A known leader is not asked about, nor an election disturbed in which this server has just voted."""
    cluster = Cluster([1, 2, 3])
    cluster.run(200)
    leader = cluster.leader()
    follower = next(server_id for server_id in (1, 2, 3) if server_id != leader.server_id)
    before = cluster.servers[follower].raft.next_deadline_ms
    cluster.step(follower, PeerConnected(leader.server_id, reaches_majority=True))
    assert cluster.servers[follower].raft.next_deadline_ms == before
    voter = Cluster([1, 2, 3]).servers[3].raft
    assert voter.step([Received(1, RequestVote(1, 0, 0, leadership_transfer=False))], 0).messages
    before = voter.next_deadline_ms
    voter.step([PeerConnected(2, reaches_majority=True)], 0)
    assert voter.next_deadline_ms == before


def test_leader_is_heard_at_once_by_a_peer_that_connects() -> None:
    """Not within a heartbeat interval: a member that comes back is fed, and serves, that much sooner."""
    cluster = Cluster([1, 2, 3])
    cluster.run(200)
    leader = cluster.leader().server_id
    effects = cluster.step(leader, PeerConnected(1 + leader % 3, reaches_majority=True))
    assert {type(outgoing.message) for outgoing in effects.messages} == {Heartbeat}
