"""Elections: section 5.2 of the paper, PreVote, leases and CheckQuorum."""

from kvraft.raft.effects import Role
from kvraft.raft.entries import EntryKind
from tests.raft.cluster import Cluster


def test_three_servers_elect_exactly_one_leader() -> None:
    """With nobody in charge, one server times out first, wins, and the others follow it."""
    cluster = Cluster([1, 2, 3])
    cluster.run(400)
    leader = cluster.leader()
    assert [server.raft.role for server in cluster.servers.values()].count(Role.LEADER) == 1
    assert {server.raft.leader_id for server in cluster.servers.values()} == {leader.server_id}
    assert {server.raft.current_term for server in cluster.servers.values()} == {1}


def test_new_leader_commits_an_empty_entry_of_its_term() -> None:
    """Section 8: "each leader commit[s] a blank no-op entry into the log at the start of its term"."""
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


def test_commands_reach_every_server_in_order() -> None:
    """What the leader accepts in one step is applied everywhere, in the order of proposing."""
    cluster = Cluster([1, 2, 3])
    cluster.elect(1)
    cluster.propose(b"a", b"b", b"c")
    cluster.settle()
    cluster.run(5)
    assert {tuple(cluster.commands(server)) for server in (1, 2, 3)} == {(b"a", b"b", b"c")}
