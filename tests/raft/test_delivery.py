"""Handing committed entries to the applier, and refusing proposals when too much waits."""

from kvraft.raft.effects import ProposalRefusalReason
from kvraft.raft.entries import HEADER_BYTES
from kvraft.raft.inputs import Propose
from kvraft.raft.settings import RaftSettings
from tests.raft.cluster import Cluster

_RECORD = HEADER_BYTES + 10


def cluster_of_one(**limits: int) -> Cluster:
    """A leader without followers, whose empty first entry is committed and applied."""
    cluster = Cluster([1], settings=RaftSettings(heartbeat_interval_ms=10, election_timeout_ms=100, **limits))
    cluster.settle()
    return cluster


def test_committed_entries_come_in_bounded_pieces() -> None:
    """Applying must not hold the loop; the next piece comes when the last is applied."""
    cluster = cluster_of_one(committed_bytes_max=3 * _RECORD)
    raft = cluster.servers[1].raft
    effects = raft.step([Propose(number, b"x" * 10) for number in range(8)], cluster.now_ms)
    assert effects.persist is not None
    assert raft.persisted(effects.persist.batch_id)
    effects = raft.step([], cluster.now_ms)
    assert [entry.index for entry in effects.committed] == [2, 3, 4]
    assert raft.next_deadline_ms > cluster.now_ms
    assert raft.step([], cluster.now_ms).committed == []
    assert raft.applied(4)
    effects = raft.step([], cluster.now_ms)
    assert [entry.index for entry in effects.committed] == [5, 6, 7]
    assert raft.applied(7)
    effects = raft.step([], cluster.now_ms)
    assert [entry.index for entry in effects.committed] == [8, 9]


def test_part_of_a_piece_applied_frees_nothing_yet() -> None:
    """Pieces are counted as a whole; order and bounds stay simple."""
    cluster = cluster_of_one(committed_bytes_max=3 * _RECORD)
    raft = cluster.servers[1].raft
    effects = raft.step([Propose(number, b"x" * 10) for number in range(8)], cluster.now_ms)
    assert effects.persist is not None
    assert raft.persisted(effects.persist.batch_id)
    raft.step([], cluster.now_ms)
    assert not raft.applied(3)
    assert raft.step([], cluster.now_ms).committed == []
    assert raft.last_applied == 3


def test_backlog_after_a_restart_is_due_at_once() -> None:
    """The log is replayed up to the stored commit index without waiting for a leader."""
    settings = RaftSettings(heartbeat_interval_ms=10, election_timeout_ms=100, committed_bytes_max=3 * _RECORD)
    cluster = Cluster([1, 2, 3], settings=settings)
    cluster.elect(1)
    cluster.propose(*(b"x" * 10 for _ in range(20)))
    cluster.settle()
    cluster.run(20)
    cluster.crash(2)
    server = cluster.restart(2)
    assert server.raft.next_deadline_ms <= cluster.now_ms
    cluster.settle()
    assert len(cluster.commands(2)) == 20


def test_entry_above_the_limit_is_delivered_alone() -> None:
    """A limit must not stop what was accepted."""
    cluster = cluster_of_one(committed_bytes_max=10)
    cluster.propose(b"x" * 500, b"y")
    cluster.settle()
    assert cluster.commands(1) == [b"x" * 500, b"y"]


def test_leader_refuses_proposals_when_too_much_is_uncommitted() -> None:
    """Back-pressure: a leader without followers must not grow without end."""
    settings = RaftSettings(heartbeat_interval_ms=10, election_timeout_ms=100, uncommitted_bytes_max=1000)
    cluster = Cluster([1, 2, 3], settings=settings)
    cluster.elect(1)
    effects = cluster.propose(*(b"x" * 100 for _ in range(20)))
    assert 0 < len(effects.accepted) < 10
    assert {refused.reason for refused in effects.refused} == {ProposalRefusalReason.TOO_MANY}
    cluster.settle()
    assert cluster.propose(b"x").accepted


def test_one_proposal_above_the_limit_is_accepted_when_nothing_waits() -> None:
    """One entry is accepted whatever its size."""
    cluster = cluster_of_one(uncommitted_bytes_max=1000)
    assert cluster.propose(b"x" * 5000).accepted
