"""Removed servers never return under their ids: whoever forgot what it acknowledged would count as if it had not."""

import pytest

from kvraft.raft.effects import Effects
from kvraft.raft.entries import EntryKind, make_entry
from kvraft.raft.inputs import ProposeConfiguration, Received, TransferLeadership
from kvraft.raft.messages import AppendEntries, RequestPreVote, RequestPreVoteReply
from tests.raft.cluster import Cluster, Disk, founded

REASON = "a removed server never returns: add it under a new id"


def configure(cluster: Cluster, voters: list[int], learners: list[int] | None = None) -> Effects:
    """Propose a configuration on the leader, and give everybody the time to take it."""
    leader_id = cluster.leader().server_id
    effects = cluster.step(leader_id, ProposeConfiguration(1, founded(voters, learners or [])))
    cluster.settle()
    return effects


def reasons(effects: Effects) -> list[str]:
    """Why proposals were refused."""
    return [refused.reason.value for refused in effects.refused]


@pytest.mark.parametrize(("voters", "learners"), [([1, 2, 3], []), ([1, 2], [3])])
def test_removed_server_is_refused_as_voter_and_as_learner(voters: list[int], learners: list[int]) -> None:
    """The reason says what to do instead, and a new id is taken."""
    cluster = Cluster([1, 2, 3])
    cluster.elect(1)
    assert configure(cluster, [1, 2]).accepted
    assert reasons(configure(cluster, voters, learners)) == [REASON]
    assert cluster.servers[1].raft.configuration == founded([1, 2], removed=[3])
    assert configure(cluster, [1, 2, 4]).accepted


def test_removed_learner_never_returns() -> None:
    """It may hold what it acknowledged as a learner, and count for it once it is promoted."""
    cluster = Cluster([1, 2], learners=[3])
    cluster.elect(1)
    assert configure(cluster, [1, 2]).accepted
    assert reasons(configure(cluster, [1, 2], [3])) == [REASON]


def test_demoted_and_promoted_servers_are_not_removed() -> None:
    """Who is a learner after it was a voter never left."""
    cluster = Cluster([1, 2, 3])
    cluster.elect(1)
    assert configure(cluster, [1, 2], [3]).accepted
    assert configure(cluster, [1, 2, 3]).accepted
    assert cluster.servers[2].raft.configuration == founded([1, 2, 3])


def test_removal_that_is_truncated_removed_nobody() -> None:
    """A removal goes with its entry, and what it remembers too."""
    cluster = Cluster([1, 2, 3])
    cluster.elect(1)
    cluster.drop = lambda _flight: True
    configure(cluster, [1, 2])
    assert cluster.servers[1].raft.configuration.removed == (3,)
    first = cluster.servers[1].raft._state.log.slice(1, 1, 0)[0]
    replacement = make_entry(first.chain_hash, 2, 2, EntryKind.NOOP, 0, b"")
    effects = cluster.step(1, Received(2, AppendEntries(2, 1, 1, first.chain_hash, [replacement], 1, 0)))
    assert effects.configuration == founded([1, 2, 3])


def test_server_whose_removal_is_open_may_not_return_now() -> None:
    """Whether it was removed is not decided: the answer is not yet that it never returns."""
    cluster = Cluster([1, 2, 3])
    cluster.elect(1)
    cluster.drop = lambda _flight: True
    configure(cluster, [1, 2])
    assert reasons(configure(cluster, [1, 2, 3])) == ["configuration change not allowed now"]


def test_proposal_cannot_take_back_a_removal() -> None:
    """What a proposal says of removed servers is not read, neither more of them nor fewer."""
    cluster = Cluster([1, 2, 3])
    cluster.elect(1)
    configure(cluster, [1, 2])
    cluster.add(4, Disk(founded([])))
    for wanted in (founded([1, 2], [4]), founded([1, 2, 4], removed=[9])):
        assert cluster.step(1, ProposeConfiguration(1, wanted)).accepted
        cluster.run(50)
        assert cluster.servers[1].raft.configuration.removed == (3,)


def test_later_leaders_and_restarted_servers_remember_who_was_removed() -> None:
    """It stands in the log, and in what is kept of it when the log is compacted."""
    cluster = Cluster([1, 2, 3, 4])
    cluster.elect(1)
    configure(cluster, [1, 2, 3])
    cluster.propose(b"a")
    cluster.settle()
    cluster.run(50)
    cluster.compact(2, 3)
    cluster.crash(2)
    assert cluster.restart(2).raft.configuration == founded([1, 2, 3], removed=[4])
    cluster.run(50)
    cluster.step(1, TransferLeadership(2))
    cluster.run(50)
    assert cluster.leader().server_id == 2
    assert reasons(configure(cluster, [1, 2, 3, 4])) == [REASON]


def test_server_that_follows_by_snapshot_learns_who_was_removed() -> None:
    """The snapshot has the configuration as a whole."""
    cluster = Cluster([1, 2, 3, 4])
    cluster.elect(1)
    configure(cluster, [1, 2, 3])
    cluster.propose(b"a")
    cluster.settle()
    cluster.run(50)
    cluster.compact(1, 3)
    cluster.add(5, Disk(founded([])))
    configure(cluster, [1, 2, 3, 5])
    cluster.run(200)
    assert cluster.servers[5].raft.configuration == founded([1, 2, 3, 5], removed=[4])
    assert cluster.servers[5].disk.base.index >= 3


def test_nobody_would_vote_for_a_removed_server() -> None:
    """It may not know, and where no leader is heard its log may even look as good as the others'."""
    cluster = Cluster([1, 2, 3])
    cluster.elect(1)
    configure(cluster, [1, 2])
    cluster.run(30)
    log = cluster.servers[2].raft
    cluster.drop = lambda _flight: True
    cluster.run(3 * log._state.settings.election_timeout_ms)
    for server, granted in ((3, False), (1, True)):
        effects = cluster.step(2, Received(server, RequestPreVote(9, log.last_log_index, 9)))
        replies = [outgoing.message for outgoing in effects.messages if outgoing.to_server == server]
        assert [reply.granted for reply in replies if isinstance(reply, RequestPreVoteReply)] == [granted]
