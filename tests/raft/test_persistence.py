"""What must be durable before what may leave (Figure 2, "Updated on stable storage before responding to RPCs")."""

from kvraft.raft.effects import HardState, Role
from kvraft.raft.inputs import Propose, Received
from kvraft.raft.messages import (
    AppendEntries,
    AppendEntriesReply,
    Heartbeat,
    HeartbeatReply,
    RequestVote,
    RequestVoteReply,
)
from tests.raft.cluster import Cluster
from tests.raft.made import at_once, made_append, made_log, when_durable


def manual(voters: list[int]) -> Cluster:
    """A cluster whose disks sync only when told."""
    cluster = Cluster(voters)
    cluster.auto_sync = False
    return cluster


def test_vote_leaves_after_it_is_durable() -> None:
    """A vote that a crash could take back would be given twice."""
    cluster = manual([1, 2, 3])
    effects = cluster.step(1, Received(2, RequestVote(1, 0, 0, leadership_transfer=False)))
    assert at_once(effects) == []
    assert effects.persist is not None
    assert effects.persist.hard_state == HardState(1, 2, 0)
    assert effects.persist.must_sync
    assert [out.message for out in when_durable(effects)] == [RequestVoteReply(1, granted=True)]


def test_acknowledgement_leaves_after_the_entries_are_durable() -> None:
    """An acknowledged entry counts for a majority, so it must survive a crash."""
    cluster = manual([1, 2, 3])
    effects = cluster.step(1, Received(3, made_append(made_log([1]), 0, 1, term=1)))
    assert at_once(effects) == []
    assert [out.message for out in when_durable(effects)] == [AppendEntriesReply(1, True, 1, 0, 0)]


def test_leader_sends_entries_beside_its_own_disk() -> None:
    """Thesis 10.2.1: the leader may replicate in parallel with writing its own log."""
    cluster = Cluster([1, 2, 3])
    cluster.elect(1)
    cluster.auto_sync = False
    effects = cluster.propose(b"a")
    assert effects.persist is not None
    assert [type(out.message) for out in at_once(effects)] == [AppendEntries, AppendEntries]
    assert when_durable(effects) == []


def test_leader_does_not_count_itself_before_its_own_disk() -> None:
    """With one follower the leader's own copy makes the majority, so it must be durable."""
    cluster = Cluster([1, 2])
    leader = cluster.elect(1)
    cluster.auto_sync = False
    effects = cluster.propose(b"a")
    assert effects.persist is not None
    cluster.step(1, Received(2, AppendEntriesReply(1, True, 2, 0, 0)))
    assert leader.raft.commit_index == 1
    assert cluster.servers[1].raft.persisted(effects.persist.batch_id)
    cluster.step(1)
    assert leader.raft.commit_index == 2


def test_majority_of_followers_commits_before_the_leaders_own_disk() -> None:
    """The leader's disk need not be among the majority (thesis 10.2.1)."""
    cluster = Cluster([1, 2, 3])
    leader = cluster.elect(1)
    cluster.auto_sync = False
    cluster.propose(b"a")
    for follower in (2, 3):
        cluster.step(1, Received(follower, AppendEntriesReply(1, True, 2, 0, 0)))
    assert leader.raft.commit_index == 2
    assert leader.disk.last_index == 1


def test_nothing_leaves_before_a_new_term_is_durable() -> None:
    """While a batch with term or vote is under way, in this step or an earlier one, every message waits."""
    cluster = manual([1, 2, 3])
    cluster.step(1, Received(3, Heartbeat(4, 0, 0, 0)))
    effects = cluster.step(1, Received(3, Heartbeat(4, 0, 0, 7)))
    assert effects.persist is None
    assert at_once(effects) == []
    assert [out.message for out in when_durable(effects)] == [HeartbeatReply(4, 7, 0)]
    cluster.sync(1)
    effects = cluster.step(1, Received(3, Heartbeat(4, 0, 0, 8)))
    assert [out.message for out in at_once(effects)] == [HeartbeatReply(4, 8, 0)]


def test_nothing_waits_when_nothing_is_under_way() -> None:
    """A doubled message whose entries are durable is acknowledged at once."""
    cluster = manual([1, 2, 3])
    message = made_append(made_log([1]), 0, 1, term=1)
    cluster.step(1, Received(3, message))
    cluster.sync(1)
    effects = cluster.step(1, Received(3, message))
    assert when_durable(effects) == []
    assert [out.message for out in at_once(effects)] == [AppendEntriesReply(1, True, 1, 0, 0)]


def test_batch_ids_grow_by_one() -> None:
    """The caller may rely on their order."""
    cluster = Cluster([1])
    batches = []
    for number in range(4):
        effects = cluster.step(1, Propose(number, b"x"))
        assert effects.persist is not None or number == 0
        if effects.persist is not None:
            batches.append(effects.persist.batch_id)
    assert batches == list(range(batches[0], batches[0] + len(batches)))


def test_commit_index_rides_on_the_next_batch() -> None:
    """The hard state is stored with entries whenever the commit index has moved since."""
    cluster = Cluster([1, 2, 3])
    cluster.elect(1)
    effects = cluster.propose(b"a")
    assert effects.persist is not None
    assert effects.persist.hard_state == HardState(1, 1, 1)


def test_commit_index_alone_is_stored_at_most_once_a_heartbeat_and_never_synced() -> None:
    """A replay may go further after a restart, but no write waits for it."""
    cluster = Cluster([1, 2, 3])
    cluster.elect(1)
    cluster.propose(b"a")
    cluster.settle()
    batches = []
    cluster.on_step = lambda server, effects: batches.append(effects.persist) if effects.persist else None
    cluster.run(50)
    assert len(batches) == 3
    assert not any(batch.must_sync or batch.entries for batch in batches)
    assert {server.disk.hard_state.commit_index for server in cluster.servers.values()} == {2}


def test_restart_replays_up_to_the_stored_commit_index() -> None:
    """What is beyond it waits for a leader, although the log holds it."""
    cluster = Cluster([1, 2, 3])
    cluster.elect(1)
    cluster.propose(b"a")
    cluster.settle()
    cluster.run(20)
    cluster.drop = lambda _flight: True
    cluster.propose(b"b")
    cluster.crash(1)
    server = cluster.restart(1)
    assert server.raft.next_deadline_ms <= cluster.now_ms
    cluster.step(1)
    assert (server.raft.commit_index, server.raft.last_log_index) == (2, 3)
    assert cluster.commands(1) == [b"a"]
    assert server.raft.role is Role.FOLLOWER


def test_stored_commit_index_beyond_the_log_is_cut() -> None:
    """It is a hint; what the log lacks is not committed here."""
    cluster = Cluster([1, 2, 3])
    cluster.elect(1)
    server = cluster.servers[1]
    server.disk.hard_state = HardState(1, 1, 50)
    cluster.crash(1)
    assert cluster.restart(1).raft.commit_index == 1
