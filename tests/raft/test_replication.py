"""Log replication: sections 5.3 and 5.4.2 of the paper."""

import pytest

from kvraft.raft.effects import Effects, ProposalRefusalReason, ProposalRefused
from kvraft.raft.entries import Entry
from kvraft.raft.inputs import PeerUnreachable, Propose, ReadRequest, Received, TransferLeadership
from kvraft.raft.messages import AppendEntries, AppendEntriesReply, Heartbeat, HeartbeatReply
from kvraft.raft.settings import RaftSettings
from tests.raft.cluster import Cluster
from tests.raft.made import at_once, follower_with, made_append, made_log


def terms(cluster: Cluster, server_id: int) -> list[int]:
    """The terms of a server's whole log."""
    log = cluster.servers[server_id].raft._state.log
    return [log.term_at(index) for index in range(1, log.last_index + 1)]


def test_commands_reach_every_server_in_order() -> None:
    """What the leader accepts in one step is applied everywhere, in the order of proposing."""
    cluster = Cluster([1, 2, 3])
    cluster.elect(1)
    cluster.propose(b"a", b"b", b"c")
    cluster.settle()
    cluster.run(5)
    assert {tuple(cluster.commands(server)) for server in (1, 2, 3)} == {(b"a", b"b", b"c")}


def test_proposals_of_one_step_leave_in_one_message_per_follower() -> None:
    """One step, one message, whatever the number of writers."""
    cluster = Cluster([1, 2, 3])
    cluster.elect(1)
    effects = cluster.propose(*(b"x" for _ in range(64)))
    appends = [sent.message for sent in at_once(effects)]
    assert len(appends) == 2
    assert all(isinstance(message, AppendEntries) and len(message.entries) == 64 for message in appends)


def test_proposal_to_a_follower_is_refused() -> None:
    """Only the leader appends; the refusal is certain, so the caller may try elsewhere."""
    cluster = Cluster([1, 2, 3])
    cluster.elect(1)
    effects = cluster.step(2, Propose(7, b"x"))
    assert [(refused.token, refused.reason.value) for refused in effects.refused] == [(7, "not leader")]


def test_leader_does_not_wait_for_acknowledgements_to_send_more() -> None:
    """Pipelining: each step's entries leave at once behind those still outstanding."""
    cluster = Cluster([1, 2, 3])
    cluster.elect(1)
    first = at_once(cluster.propose(b"a"))[0].message
    second = at_once(cluster.propose(b"b"))[0].message
    assert isinstance(first, AppendEntries)
    assert isinstance(second, AppendEntries)
    assert second.prev_log_index == first.entries[-1].index


def test_answer_that_commits_nothing_and_asks_for_nothing_may_wait() -> None:
    """Of three servers, the last acknowledges what is committed already; a heartbeat's answer confirms a level log."""
    cluster = Cluster([1, 2, 3])
    cluster.elect(1)
    cluster.propose(b"a")
    cluster.deliver()
    leader = cluster.servers[1].raft
    replies = [(server, cluster.step(server).messages[-1].message) for server in (2, 3)]
    assert [leader.may_wait(*reply) for reply in replies] == [False, False]
    cluster.deliver()
    cluster.servers[1].inbox.pop()
    cluster.step(1)
    assert leader.may_wait(*replies[1])
    cluster.settle()
    assert leader.may_wait(2, HeartbeatReply(leader.current_term, 0, leader.last_log_index))


def test_answer_that_something_follows_from_may_not_wait() -> None:
    """Entries that wait for it, a refusal, a later term, a read or a transfer that it brings on."""
    cluster = Cluster([1, 2, 3])
    cluster.elect(1)
    cluster.settle()
    leader = cluster.servers[1].raft
    term, last = leader.current_term, leader.last_log_index
    level, alive = AppendEntriesReply(term, True, last, 0, 0), HeartbeatReply(term, 0, last)
    assert leader.may_wait(2, level)
    assert leader.may_wait(2, alive)
    assert not leader.may_wait(2, AppendEntriesReply(term, False, last, last - 1, term))
    assert not leader.may_wait(2, HeartbeatReply(term + 1, 0, last))
    assert not cluster.servers[2].raft.may_wait(1, level)
    cluster.step(1, ReadRequest(1))
    assert not leader.may_wait(2, alive)
    cluster.settle()
    cluster.step(1, TransferLeadership(2))
    assert not leader.may_wait(2, level)
    cluster = Cluster([1, 2], settings=RaftSettings(10, 100, inflight_messages_max=1))
    cluster.elect(1)
    cluster.settle()
    for _ in range(2):
        cluster.propose(b"x")
    waits = cluster.servers[1].raft
    assert not waits.may_wait(2, AppendEntriesReply(waits.current_term, True, waits.commit_index, 0, 0))


def test_window_bounds_what_is_outstanding() -> None:
    """Beyond the limit on messages the leader waits; an acknowledgement lets it go on with everything that waited."""
    settings = RaftSettings(heartbeat_interval_ms=10, election_timeout_ms=100, inflight_messages_max=2)
    cluster = Cluster([1, 2], settings=settings)
    cluster.elect(1)
    sent = [len(at_once(cluster.propose(b"x"))) for _ in range(4)]
    assert sent == [1, 1, 0, 0]
    cluster.deliver()
    cluster.step(2)
    cluster.deliver()
    effects = cluster.step(1)
    (message,) = [out.message for out in at_once(effects) if isinstance(out.message, AppendEntries)]
    assert len(message.entries) == 2


def test_message_carries_at_most_its_limit_and_at_least_one_entry() -> None:
    """A single entry above the limit still travels, alone."""
    settings = RaftSettings(heartbeat_interval_ms=10, election_timeout_ms=100, message_bytes_max=300)
    cluster = Cluster([1, 2], settings=settings)
    cluster.elect(1)
    effects = cluster.propose(b"x" * 100, b"x" * 100, b"x" * 5000, b"x" * 100)
    messages = [out.message for out in at_once(effects)]
    assert [len(message.entries) for message in messages if isinstance(message, AppendEntries)] == [2, 1, 1]


def test_backlog_leaves_over_several_steps() -> None:
    """However far behind a follower is, one step sends a few messages; acknowledgements bring the rest."""
    settings = RaftSettings(heartbeat_interval_ms=10, election_timeout_ms=100, message_bytes_max=1)
    cluster = Cluster([1, 2], settings=settings)
    cluster.elect(1)
    effects = cluster.propose(*(b"x" for _ in range(20)))
    assert len(at_once(effects)) == 4
    cluster.settle()
    assert cluster.servers[2].raft.last_log_index == 21


@pytest.mark.parametrize(
    ("log_terms", "reply"),
    [
        ([1, 1, 1, 4, 4, 5, 5, 6, 6], AppendEntriesReply(8, False, 10, 9, 6)),
        ([1, 1, 1, 4], AppendEntriesReply(8, False, 10, 4, 4)),
        ([1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6], AppendEntriesReply(8, True, 11, 0, 0)),
        ([1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7], AppendEntriesReply(8, True, 11, 0, 0)),
        ([1, 1, 1, 4, 4, 4, 4], AppendEntriesReply(8, False, 10, 7, 4)),
        ([1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3], AppendEntriesReply(8, False, 10, 9, 3)),
    ],
)
def test_figure_7_logs_are_brought_into_line(log_terms: list[int], reply: AppendEntriesReply) -> None:
    """Followers (a) to (f) of Figure 7 answer the new leader's first probe, and end up with its log."""
    leader_log = made_log([1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 8])
    cluster = follower_with(log_terms, term=7)
    cluster.step(1, Received(2, made_append(leader_log, 10, 11, term=8)))
    assert cluster.lost() == [reply]
    cluster.step(1, Received(2, made_append(leader_log, 3, 11, term=8)))
    assert terms(cluster, 1) == [entry.term for entry in leader_log]


def test_gap_is_refused() -> None:
    """Section 5.3: without the entry before, nothing is appended."""
    cluster = follower_with([1, 1], term=1)
    cluster.step(1, Received(3, made_append(made_log([1] * 9), 5, 6, term=1)))
    assert cluster.lost() == [AppendEntriesReply(1, False, 5, 2, 1)]
    assert cluster.servers[1].raft.last_log_index == 2


def test_old_message_does_not_cut_a_longer_log() -> None:
    """A doubled or late message with entries that are all here removes nothing that came after them."""
    cluster = follower_with([1] * 6, term=1)
    cluster.step(1, Received(3, made_append(made_log([1] * 6), 1, 3, term=1)))
    assert cluster.servers[1].raft.last_log_index == 6
    assert cluster.lost() == [AppendEntriesReply(1, True, 3, 0, 0)]


def test_conflicting_entries_are_removed_and_replaced() -> None:
    """Section 5.3: an entry that conflicts goes, with all that follow it; what matches stays."""
    cluster = follower_with([1, 1, 2, 2, 2], term=2)
    cluster.step(1, Received(2, made_append(made_log([1, 1, 3]), 2, 3, term=3)))
    assert terms(cluster, 1) == [1, 1, 3]
    assert [entry.term for entry in cluster.servers[1].disk.entries] == [1, 1, 3]


def test_commit_index_stops_at_the_last_entry_the_message_vouches_for() -> None:
    """Figure 2: min(leaderCommit, index of last new entry); a longer old tail is not covered."""
    cluster = follower_with([1, 1, 1, 1, 1], term=1)
    cluster.step(1, Received(2, made_append(made_log([1, 1, 1, 1, 1]), 1, 2, term=2, commit=4)))
    assert cluster.servers[1].raft.commit_index == 2


def test_heartbeat_tells_the_commit_index_only_as_far_as_the_follower_matches() -> None:
    """A follower that lags must not take its own tail for committed."""
    cluster = Cluster([1, 2, 3])
    cluster.elect(1)
    cluster.drop = lambda flight: flight.to_server == 3
    cluster.propose(b"a", b"b")
    cluster.settle()
    cluster.now_ms += 10
    cluster.step(1)
    commits = {
        flight.to_server: flight.message.leader_commit
        for flight in cluster.network
        if isinstance(flight.message, Heartbeat)
    }
    assert commits == {2: 3, 3: 1}


def test_entry_is_committed_when_a_majority_holds_it() -> None:
    """Section 5.3: one of two followers is enough; both are not needed."""
    cluster = Cluster([1, 2, 3])
    leader = cluster.elect(1)
    cluster.drop = lambda flight: flight.to_server == 3
    cluster.propose(b"a")
    cluster.settle()
    assert leader.raft.commit_index == 2
    assert cluster.commands(2) == [b"a"]


def test_four_servers_need_three() -> None:
    """Half is no majority."""
    cluster = Cluster([1, 2, 3, 4])
    leader = cluster.elect(1)
    cluster.drop = lambda flight: flight.to_server in (3, 4)
    cluster.propose(b"a")
    cluster.settle()
    assert leader.raft.commit_index == 1
    cluster.drop = lambda flight: flight.to_server == 4
    cluster.run(30)
    assert leader.raft.commit_index == 2


def test_acknowledgement_of_an_older_term_commits_nothing() -> None:
    """Replies carry their term; one from before this leadership says nothing about this log."""
    cluster = Cluster([1, 2, 3])
    leader = cluster.elect(1)
    cluster.propose(b"a")
    cluster.lost()
    cluster.step(1, Received(2, AppendEntriesReply(0, True, 2, 0, 0)))
    assert leader.raft.commit_index == 1


def test_acknowledgement_beyond_the_log_is_ignored() -> None:
    """No correct follower sends it; it must not commit what does not exist."""
    cluster = Cluster([1, 2, 3])
    leader = cluster.elect(1)
    cluster.step(1, Received(2, AppendEntriesReply(1, True, 99, 0, 0)))
    assert leader.raft.commit_index == 1
    assert leader.raft.progress[2].match_index == 1


def test_heartbeat_advances_the_commit_index() -> None:
    """A follower that has the entries needs no others to hear that they are committed."""
    cluster = follower_with([1, 1, 1], term=1)
    effects = cluster.step(1, Received(3, Heartbeat(1, 2, 0, 0)))
    assert [entry.index for entry in effects.committed] == [1, 2]
    effects = cluster.step(1, Received(3, Heartbeat(1, 1, 0, 0)))
    assert cluster.servers[1].raft.commit_index == 2


def test_commit_index_that_entries_carried_is_not_told_again() -> None:
    """The next batch came in time: no extra message when the notice would have been due."""
    cluster = Cluster([1, 2])
    cluster.elect(1)
    cluster.run(20)
    cluster.propose(*(b"x" for _ in range(64)))
    cluster.deliver()
    cluster.step(2)
    cluster.deliver()
    cluster.step(1)
    cluster.propose(b"y")
    cluster.lost()
    assert cluster.servers[1].raft.next_deadline_ms > cluster.now_ms
    assert at_once(cluster.step(1)) == []


def test_lost_tail_is_found_by_the_next_heartbeat() -> None:
    """Without later messages to be refused, a lost message is found one heartbeat interval after it left."""
    cluster = Cluster([1, 2])
    cluster.elect(1)
    cluster.run(20)
    cluster.propose(b"a")
    cluster.lost()
    cluster.run(25)
    assert cluster.commands(2) == [b"a"]


def test_lost_acknowledgement_is_replaced_without_sending_entries_again() -> None:
    """The empty message behind everything sent is acknowledged in place of the lost reply."""
    cluster = Cluster([1, 2])
    leader = cluster.elect(1)
    cluster.run(20)
    cluster.propose(b"a")
    cluster.deliver()
    cluster.step(2)
    cluster.lost()
    resent: list[Entry] = []
    cluster.on_send = lambda flight: resent.extend(
        flight.message.entries if isinstance(flight.message, AppendEntries) else []
    )
    cluster.run(25)
    assert leader.raft.commit_index == 2
    assert resent == []


def test_lost_entries_of_a_probe_come_again_once_the_question_behind_them_is_answered() -> None:
    """The probe that is repeated carries nothing; what it finds out leads to sending everything."""
    cluster = Cluster([1, 2, 3])
    cluster.elect(1)
    cluster.run(20)
    cluster.step(1, PeerUnreachable(2))
    cluster.propose(b"x", b"y")
    cluster.drop = lambda flight: isinstance(flight.message, AppendEntries) and bool(flight.message.entries)
    cluster.run(30)
    probes: list[int] = []
    cluster.on_send = lambda flight: probes.extend(
        [len(flight.message.entries)] if isinstance(flight.message, AppendEntries) and flight.to_server == 2 else []
    )
    cluster.step(1, PeerUnreachable(2))
    cluster.drop = lambda _flight: False
    cluster.run(30)
    assert probes[:2] == [0, 2]
    assert cluster.commands(2) == [b"x", b"y"]


def test_leader_whose_own_disk_hangs_hands_over_before_its_memory_is_full() -> None:
    """The followers commit without it, so what it holds in memory would grow without bound."""
    settings = RaftSettings(heartbeat_interval_ms=10, election_timeout_ms=100, uncommitted_bytes_max=4096)
    cluster = Cluster([1, 2, 3], settings=settings)
    leader = cluster.elect(1)
    cluster.settle()
    cluster.auto_sync = False
    accepted = 0
    refused: list[ProposalRefused] = []
    while not refused:
        effects = cluster.step(1, Propose(accepted, bytes(1000)))
        accepted += len(effects.accepted)
        refused += effects.refused
        for _ in range(4):
            cluster.deliver()
            for follower in (2, 3):
                cluster.step(follower)
                cluster.sync(follower)
            cluster.step(1)
    assert accepted == 4
    assert leader.raft.commit_index > leader.disk.last_index
    assert [each.reason for each in refused] == [ProposalRefusalReason.TRANSFERRING]
    assert cluster.leader().server_id != 1


def test_unreachable_follower_is_not_sent_entries_until_it_answers() -> None:
    """After a drop the leader probes, paced by heartbeats."""
    cluster = Cluster([1, 2, 3])
    cluster.elect(1)
    cluster.run(20)
    effects = cluster.step(1, PeerUnreachable(2), Propose(1, b"x"))
    assert [out.to_server for out in at_once(effects) if isinstance(out.message, AppendEntries)] == [3]
    cluster.settle()
    cluster.run(30)
    assert cluster.commands(2) == [b"x"]


def _acknowledged_by(cluster: Cluster, *followers: int) -> Effects:
    """The leader's step in which these followers' acknowledgements of all that it has sent arrive."""
    cluster.deliver()
    for follower in followers:
        cluster.step(follower)
    cluster.deliver()
    return cluster.step(1)


def test_commit_is_told_in_the_step_that_commits_and_is_not_answered() -> None:
    """Followers show a write as soon as the leader's client knows of it, for one message each and no reply."""
    cluster = Cluster([1, 2, 3])
    cluster.elect(1)
    cluster.run(20)
    cluster.step(1, Propose(1, b"x"))
    effects = _acknowledged_by(cluster, 2)
    raft = cluster.servers[1].raft
    assert raft.commit_index == raft.last_log_index
    notices = [out.message for out in at_once(effects)]
    assert [out.to_server for out in at_once(effects)] == [2, 3]
    for notice in notices:
        assert isinstance(notice, AppendEntries)
        assert (notice.entries, notice.leader_commit, notice.notice) == ([], raft.commit_index, True)
    cluster.deliver()
    for follower in (2, 3):
        effects = cluster.step(follower)
        assert cluster.servers[follower].raft.commit_index == raft.commit_index
    # Server 3 answers for the entry, which it got with the notice; nobody answers the notice.
    replies = [flight.message for flight in cluster.network]
    assert [(type(reply), reply.match_index) for reply in replies if isinstance(reply, AppendEntriesReply)] == [
        (AppendEntriesReply, raft.commit_index)
    ]
    assert len(replies) == 1


def test_commit_rides_on_entries_that_leave_in_the_same_step() -> None:
    """Under load a notice of its own would cost both sides a message for each batch."""
    cluster = Cluster([1, 2, 3])
    cluster.elect(1)
    cluster.run(20)
    cluster.step(1, Propose(1, b"x"))
    cluster.deliver()
    cluster.step(2)
    cluster.deliver()
    effects = cluster.step(1, Propose(2, b"y"))
    sent = [out.message for out in at_once(effects) if isinstance(out.message, AppendEntries)]
    commit_index = cluster.servers[1].raft.commit_index
    assert [(len(message.entries), message.leader_commit) for message in sent] == [(1, commit_index)] * 2


def test_follower_that_lacks_what_a_notice_speaks_of_says_so() -> None:
    """Its entries were lost on the way: the leader need not wait for a heartbeat to hear of it."""
    cluster = Cluster([1, 2, 3])
    cluster.elect(1)
    cluster.run(20)
    cluster.drop = lambda flight: flight.to_server == 3
    cluster.step(1, Propose(1, b"x"))
    cluster.deliver()
    cluster.drop = lambda _flight: False
    cluster.step(2)
    cluster.deliver()
    cluster.step(1)
    cluster.deliver()
    effects = cluster.step(3)
    assert [(out.message.success, out.message.match_index) for out in effects.messages] == [(False, 2)]  # type: ignore[union-attr] # a refusal
    cluster.settle()
    assert cluster.commands(3) == [b"x"]


def test_follower_with_a_full_window_is_told_no_more_than_it_was_sent() -> None:
    """Nor again and again while nothing more can be sent to it."""
    settings = RaftSettings(heartbeat_interval_ms=10, election_timeout_ms=100, inflight_messages_max=1)
    cluster = Cluster([1, 2, 3], settings=settings)
    cluster.elect(1)
    cluster.run(20)
    cluster.drop = lambda flight: flight.from_server == 3
    told = []
    for number in range(3):
        cluster.step(1, Propose(number, b"x"))
        effects = _acknowledged_by(cluster, 2, 3)
        told += [out.message.leader_commit for out in effects.messages if out.to_server == 3]  # type: ignore[union-attr] # notices only
    assert len(told) == 1


def test_followers_at_the_same_place_get_one_and_the_same_message() -> None:
    """So that the transport encodes it once."""
    cluster = Cluster([1, 2, 3, 4])
    cluster.elect(1)
    cluster.run(20)
    cluster.drop = lambda flight: flight.to_server == 4
    cluster.step(1, Propose(1, b"x"))
    cluster.settle()
    cluster.step(1, PeerUnreachable(4))
    cluster.run(1)
    entries = [out.message for out in at_once(cluster.step(1, Propose(2, b"y")))]
    assert len(entries) == 2
    assert entries[0] is entries[1]
    notices = [out.message for out in at_once(_acknowledged_by(cluster, 2, 3))]
    assert len(notices) == 2
    assert notices[0] is notices[1]


def test_message_that_begins_below_the_commit_index_is_taken_from_there() -> None:
    """A leader that does not know how far this server is sends too much; the rest is appended."""
    cluster = follower_with([1, 1, 1], term=1, commit=2)
    cluster.step(1, Received(3, made_append(made_log([1] * 5), 0, 5, term=1)))
    assert cluster.servers[1].raft.last_log_index == 5
    assert cluster.lost() == [AppendEntriesReply(1, True, 5, 0, 0)]


def test_message_wholly_below_the_commit_index_is_acknowledged_up_to_it() -> None:
    """What is committed here is the leader's too, so an old message still brings news."""
    cluster = follower_with([1] * 6, term=1, commit=6)
    cluster.step(1, Received(3, made_append(made_log([1] * 6), 0, 2, term=1)))
    assert cluster.lost() == [AppendEntriesReply(1, True, 6, 0, 0)]


def test_answers_of_strangers_and_to_followers_are_ignored() -> None:
    """A removed server may still answer, and a deposed leader may still be answered."""
    cluster = Cluster([1, 2, 3])
    leader = cluster.elect(1)
    for message in (AppendEntriesReply(1, True, 1, 0, 0), HeartbeatReply(1, 3, 1)):
        cluster.step(1, Received(9, message))
        cluster.step(2, Received(3, message))
    cluster.step(2, PeerUnreachable(3))
    assert sorted(leader.raft.progress) == [2, 3]
    assert cluster.servers[2].raft.progress == {}


def test_heartbeat_is_answered_with_the_last_durable_index() -> None:
    """What is not on disk yet is not claimed, and the answer does not wait for the disk."""
    cluster = follower_with([1, 1], term=1)
    cluster.auto_sync = False
    cluster.step(1, Received(3, made_append(made_log([1, 1, 1]), 2, 3, term=1)))
    effects = cluster.step(1, Received(3, Heartbeat(1, 0, 0, 4)))
    assert [out.message for out in at_once(effects)] == [HeartbeatReply(1, 4, 2)]


def test_old_leaders_late_disk_counts_for_nothing() -> None:
    """Durability that is reported after the leadership ended commits nothing."""
    cluster = Cluster([1, 2, 3])
    leader = cluster.elect(1)
    cluster.auto_sync = False
    effects = cluster.propose(b"a")
    assert effects.persist is not None
    cluster.step(1, Received(2, Heartbeat(5, 0, 0, 0)))
    assert not cluster.servers[1].raft.persisted(effects.persist.batch_id)
    cluster.step(1)
    assert leader.raft.commit_index == 1
