"""A history has a name: given by the first leader of all, agreed on as an entry, and the same ever after."""

from kvraft.raft.configuration import FOUNDING_BYTES, Configuration
from kvraft.raft.entries import EntryKind
from kvraft.raft.inputs import ProposeConfiguration
from kvraft.raft.messages import AppendEntries
from tests.raft.cluster import FOUNDING, Cluster, Disk, Server

_ELECTION_MS = 200


def _young(*voters: int, seed: int = 1) -> Cluster:
    """A cluster that has no leader yet, started from the same settings on every server."""
    cluster = Cluster(voters, seed=seed)
    for server_id in voters:
        cluster.add(server_id, Disk(Configuration.of(voters)))
    return cluster


def _foundings(cluster: Cluster) -> set[bytes]:
    return {server.raft.founding for server in cluster.servers.values() if server.up}


def _entries_of(server: Server, kind: EntryKind) -> list[int]:
    return [entry.index for entry in server.disk.entries if entry.kind is kind]


def test_first_leader_names_the_history_with_its_first_entry() -> None:
    """Its first entry is a configuration with the same servers; there is no second one, and no server is changed."""
    cluster = _young(1, 2, 3)
    assert _foundings(cluster) == {b""}
    cluster.run(_ELECTION_MS)
    (founding,) = _foundings(cluster)
    assert len(founding) == FOUNDING_BYTES
    for server in cluster.servers.values():
        assert _entries_of(server, EntryKind.CONFIGURATION) == [1]
        assert server.raft.configuration == Configuration.of([1, 2, 3], founding=founding)


def test_histories_of_the_same_servers_have_different_names() -> None:
    """Founded twice with the same settings: the ids are equal, the foundings are not, nor is any hash of an entry."""
    once, again = _young(1, 2, 3, seed=1), _young(1, 2, 3, seed=2)
    for cluster in (once, again):
        cluster.run(_ELECTION_MS)
    assert _foundings(once) != _foundings(again)
    assert once.servers[1].disk.entries[0].chain_hash != again.servers[1].disk.entries[0].chain_hash


def test_later_leaders_and_changes_keep_the_name() -> None:
    """A leader after the first appends an empty entry, and a change of servers says the same founding."""
    cluster = _young(1, 2, 3)
    cluster.run(_ELECTION_MS)
    (founding,) = _foundings(cluster)
    cluster.crash(cluster.leader().server_id)
    cluster.run(2 * _ELECTION_MS)
    leader = cluster.leader()
    assert _entries_of(leader, EntryKind.NOOP)
    cluster.add(4, Disk(Configuration.of([])))
    cluster.step(leader.server_id, ProposeConfiguration(1, Configuration.of([1, 2, 3], [4])))
    cluster.run(_ELECTION_MS)
    assert leader.raft.configuration.learners == (4,)
    assert _foundings(cluster) == {founding}


def test_name_that_was_not_committed_goes_with_its_entry() -> None:
    """A first leader that reached nobody names nothing: the next one does, and the first takes its name."""
    cluster = _young(1, 2, 3)
    cluster.drop = lambda flight: isinstance(flight.message, AppendEntries)
    leader_id = 0
    while not leader_id:
        cluster.run(1)
        leader_id = next((server.raft.leader_id for server in cluster.servers.values()), 0)
    assert cluster.servers[leader_id].raft.configuration.founding
    assert _foundings(cluster) == {b""}, "in force, and not agreed"
    lost = cluster.servers[leader_id].raft.configuration.founding
    cluster.crash(leader_id)
    cluster.drop = lambda _flight: False
    cluster.run(3 * _ELECTION_MS)
    cluster.restart(leader_id)
    cluster.run(3 * _ELECTION_MS)
    (founding,) = _foundings(cluster)
    assert founding not in {b"", lost}


def test_name_survives_restarts_compaction_and_snapshots() -> None:
    """It is part of what stands just before the log's first entry, and of the snapshot that a follower installs."""
    cluster = _young(1, 2, 3)
    cluster.crash(3)
    cluster.run(2 * _ELECTION_MS)
    (founding,) = _foundings(cluster)
    for server_id in (1, 2):
        cluster.compact(server_id, 1)
        cluster.crash(server_id)
        assert cluster.restart(server_id).raft.founding == founding, "known before any leader is"
    cluster.restart(3)
    cluster.run(4 * _ELECTION_MS)
    assert cluster.servers[3].disk.base.index == 1, "by a snapshot"
    assert _foundings(cluster) == {founding}


def test_cluster_that_was_named_before_is_not_named_again() -> None:
    """What every other test of this folder starts from."""
    cluster = Cluster([1, 2, 3])
    cluster.run(_ELECTION_MS)
    assert _foundings(cluster) == {FOUNDING}
    assert not _entries_of(cluster.leader(), EntryKind.CONFIGURATION)


def test_cluster_from_before_the_name_gets_one() -> None:
    """A data directory of an earlier version has no founding: the next leader gives the history its name."""
    cluster = Cluster([1, 2, 3])
    old = Cluster([1, 2, 3])
    old.run(_ELECTION_MS)
    for server_id in (1, 2, 3):
        disk = old.servers[server_id].disk
        disk.configuration = Configuration.of([1, 2, 3])
        cluster.add(server_id, disk)
    cluster.run(_ELECTION_MS)
    assert len(_foundings(cluster)) == 1
    assert _entries_of(cluster.leader(), EntryKind.CONFIGURATION) == [2]
