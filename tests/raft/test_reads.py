"""Linearizable reads: ReadIndex (thesis section 6.4)."""

from kvraft.raft.effects import Effects, ReadReady
from kvraft.raft.inputs import PeerDisconnected, ReadRequest, Received
from kvraft.raft.messages import (
    AppendEntriesReply,
    Heartbeat,
    HeartbeatReply,
    Message,
    ReadIndexReply,
    ReadIndexRequest,
    RequestVote,
)
from tests.raft.cluster import Cluster
from tests.raft.made import at_once, made_append, made_log, when_durable


def rounds(effects: Effects) -> list[int]:
    """The read rounds that heartbeats of a step ask to confirm."""
    return [out.message.read_id for out in at_once(effects) if isinstance(out.message, Heartbeat)]


def led() -> Cluster:
    """Three servers, 1 leads, something is committed, nothing is under way."""
    cluster = Cluster([1, 2, 3])
    cluster.elect(1)
    cluster.propose(b"a")
    cluster.settle()
    return cluster


def test_leader_answers_only_after_a_majority_confirmed_it() -> None:
    """A leader that was deposed without knowing must not answer from its old state."""
    cluster = led()
    effects = cluster.step(1, ReadRequest(7))
    assert effects.reads_ready == []
    (round_id, _) = rounds(effects)
    cluster.lost()
    effects = cluster.step(1, Received(2, HeartbeatReply(1, round_id, 2)))
    assert effects.reads_ready == [ReadReady(7, 2)]


def test_one_round_serves_every_read_that_waits_when_it_begins() -> None:
    """Heartbeats do not grow with the number of readers."""
    cluster = led()
    effects = cluster.step(1, *(ReadRequest(number) for number in range(1, 101)))
    (round_id, _) = rounds(effects)
    effects = cluster.step(1, Received(2, HeartbeatReply(1, round_id, 2)))
    assert len(effects.reads_ready) == 100


def test_read_that_comes_during_a_round_waits_for_the_next() -> None:
    """A confirmation asked for before the read arrived says nothing about the time after."""
    cluster = led()
    (first, _) = rounds(cluster.step(1, ReadRequest(1)))
    assert rounds(cluster.step(1, ReadRequest(2))) == []
    effects = cluster.step(1, Received(2, HeartbeatReply(1, first, 2)))
    assert [ready.read_id for ready in effects.reads_ready] == [1]
    (second, _) = rounds(effects)
    assert second > first
    effects = cluster.step(1, Received(3, HeartbeatReply(1, first, 2)))
    assert effects.reads_ready == []
    effects = cluster.step(1, Received(3, HeartbeatReply(1, second, 2)))
    assert [ready.read_id for ready in effects.reads_ready] == [2]


def test_heartbeats_ask_for_the_same_round_until_it_is_answered() -> None:
    """They were lost, or answers take longer than a heartbeat interval and would be too late for a round of each.

    What came meanwhile waits for the next round, since the answer may be to what was sent before it.
    """
    cluster = led()
    (first, _) = rounds(cluster.step(1, ReadRequest(1)))
    for _ in range(3):
        cluster.now_ms += 10
        assert rounds(cluster.step(1, ReadRequest(2))) == [first, first]
    effects = cluster.step(1, Received(2, HeartbeatReply(1, first, 2)))
    assert [ready.read_id for ready in effects.reads_ready] == [1]


def test_answers_of_ordinary_heartbeats_confirm_nothing() -> None:
    """Only a heartbeat that left after the read was registered counts."""
    cluster = led()
    cluster.step(1, ReadRequest(1))
    assert cluster.step(1, Received(2, HeartbeatReply(1, 0, 2))).reads_ready == []


def test_read_waits_for_the_first_commit_of_the_term() -> None:
    """Before that a new leader does not know what is committed (thesis 6.4, step 1)."""
    cluster = Cluster([1, 2, 3])
    cluster.drop = lambda flight: isinstance(flight.message, AppendEntriesReply)
    cluster.elect(1)
    effects = cluster.step(1, ReadRequest(1))
    assert rounds(effects) == []
    cluster.drop = lambda _flight: False
    cluster.run(30)
    ready = [ready for effects in cluster.servers[1].effects for ready in effects.reads_ready]
    assert ready == [ReadReady(1, 1)]


def test_read_sees_every_write_that_was_acknowledged_before() -> None:
    """The read index is at least the commit index at the time of the request."""
    cluster = led()
    cluster.propose(b"b")
    cluster.settle()
    cluster.step(2, ReadRequest(3))
    cluster.settle()
    ready = [ready for effects in cluster.servers[2].effects for ready in effects.reads_ready]
    assert ready == [ReadReady(3, 3)]


def test_follower_asks_once_for_all_reads_of_a_step() -> None:
    """One request, one answer, every read of the step."""
    cluster = led()
    effects = cluster.step(2, ReadRequest(1), ReadRequest(2), ReadRequest(3))
    (request,) = [out.message for out in at_once(effects)]
    assert isinstance(request, ReadIndexRequest)
    effects = cluster.step(2, Received(1, ReadIndexReply(1, request.read_id, 2)))
    assert effects.reads_ready == [ReadReady(number, 2) for number in (1, 2, 3)]


def test_request_ids_are_not_used_again_by_a_restarted_follower() -> None:
    """An answer to a request of its former life must not pass for an answer to a new one (etcd issue 20418)."""
    cluster = led()
    cluster.step(2, ReadRequest(1))
    (old,) = [message for message in cluster.lost() if isinstance(message, ReadIndexRequest)]
    cluster.crash(2)
    cluster.restart(2)
    cluster.run(20)
    cluster.step(2, ReadRequest(1))
    effects = cluster.step(2, Received(1, ReadIndexReply(1, old.read_id, 1)))
    assert effects.reads_ready == []


def test_doubled_answer_is_ignored() -> None:
    """A read is answered once."""
    cluster = led()
    effects = cluster.step(2, ReadRequest(1))
    (request,) = [out.message for out in at_once(effects) if isinstance(out.message, ReadIndexRequest)]
    cluster.step(2, Received(1, ReadIndexReply(1, request.read_id, 2)))
    assert cluster.step(2, Received(1, ReadIndexReply(1, request.read_id, 2))).reads_ready == []


def test_answer_from_a_server_that_is_not_followed_is_ignored() -> None:
    """Only the leader of this term may name an index."""
    cluster = led()
    effects = cluster.step(2, ReadRequest(1))
    (request,) = [out.message for out in at_once(effects) if isinstance(out.message, ReadIndexRequest)]
    assert cluster.step(2, Received(3, ReadIndexReply(1, request.read_id, 2))).reads_ready == []
    assert cluster.step(1, Received(3, ReadIndexReply(1, request.read_id, 2))).reads_ready == []


def test_refused_request_fails_the_read() -> None:
    """A server that does not lead says so."""
    cluster = led()
    effects = cluster.step(3, Received(2, ReadIndexRequest(1, 77)))
    assert [out.message for out in at_once(effects)] == [ReadIndexReply(1, 77, 0)]
    effects = cluster.step(2, ReadRequest(1))
    (request,) = [out.message for out in at_once(effects) if isinstance(out.message, ReadIndexRequest)]
    assert cluster.step(2, Received(1, ReadIndexReply(1, request.read_id, 0))).reads_failed == [1]


def test_read_without_a_leader_fails_at_once() -> None:
    """The caller decides whether to wait for one."""
    cluster = Cluster([1, 2, 3])
    assert cluster.step(2, ReadRequest(5)).reads_failed == [5]


def test_follower_asks_again_under_the_same_id_after_an_election_timeout() -> None:
    """Request or answer were lost, or take longer: a late answer to the first attempt will do as well."""
    cluster = led()
    (request,) = [out.message for out in at_once(cluster.step(2, ReadRequest(5)))]
    assert isinstance(request, ReadIndexRequest)
    cluster.lost()
    asked: list[Message] = []
    cluster.on_send = lambda flight: asked.extend(
        [flight.message] if isinstance(flight.message, ReadIndexRequest) else []
    )
    cluster.drop = lambda flight: isinstance(flight.message, ReadIndexReply)
    cluster.run(99)
    assert asked == []
    cluster.run(102)
    assert asked == [request, request]
    effects = cluster.step(2, Received(1, ReadIndexReply(1, request.read_id, 2)))
    assert effects.reads_ready == [ReadReady(5, 2)]
    assert not any(effects.reads_failed for effects in cluster.servers[2].effects)
    assert cluster.step(2, Received(1, ReadIndexReply(1, request.read_id, 3))).reads_ready == []


def test_reads_fail_when_the_leader_is_deposed() -> None:
    """Its own and those of followers: nobody may get an index from it any more."""
    cluster = led()
    cluster.step(1, ReadRequest(1), Received(2, ReadIndexRequest(1, 77)))
    cluster.step(1, ReadRequest(2))
    effects = cluster.step(1, Received(2, RequestVote(2, 9, 9, leadership_transfer=True)))
    assert effects.reads_failed == [1, 2]
    assert ReadIndexReply(1, 77, 0) in [out.message for out in when_durable(effects)]
    effects = cluster.step(1, Received(3, HeartbeatReply(1, 1, 2)))
    assert effects.reads_ready == []


def test_reads_of_a_follower_fail_when_its_leader_changes() -> None:
    """The old leader's answer would come from another term."""
    cluster = led()
    cluster.step(2, ReadRequest(1))
    effects = cluster.step(2, Received(3, made_append(made_log([2]), 0, 1, term=2)))
    assert effects.reads_failed == [1]


def test_read_of_the_very_step_in_which_the_leader_is_lost_fails() -> None:
    """It was not even asked for yet."""
    cluster = led()
    effects = cluster.step(2, ReadRequest(1), PeerDisconnected(1))
    assert effects.reads_failed == [1]
    assert not any(isinstance(out.message, ReadIndexRequest) for out in at_once(effects))


def test_reads_of_a_follower_fail_when_its_leader_is_gone() -> None:
    """A broken connection means that the answer will not come."""
    cluster = led()
    cluster.step(2, ReadRequest(1))
    assert cluster.step(2, PeerDisconnected(1)).reads_failed == [1]


def test_only_voter_answers_reads_without_asking_anybody() -> None:
    """A majority of one."""
    cluster = Cluster([1])
    cluster.settle()
    assert cluster.step(1, ReadRequest(1)).reads_ready == [ReadReady(1, 1)]


def test_learners_confirm_nothing() -> None:
    """Only voters could have elected somebody else."""
    cluster = Cluster([1, 2], learners=[3])
    cluster.elect(1)
    cluster.settle()
    (round_id, _) = rounds(cluster.step(1, ReadRequest(1)))
    assert cluster.step(1, Received(3, HeartbeatReply(1, round_id, 1))).reads_ready == []
    assert cluster.step(1, Received(2, HeartbeatReply(1, round_id, 1))).reads_ready == [ReadReady(1, 1)]
