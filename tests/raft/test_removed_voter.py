"""A voter whose removal is not committed (thesis section 4.2.2). Found by the simulator, seed 5578351645707951905."""

from kvraft.raft.inputs import ProposeConfiguration
from tests.raft.cluster import Cluster, founded


def test_leader_that_was_removing_itself_is_elected_again_and_finishes() -> None:
    """The only server with the new entry must stand for election: the others can win without it no more.

    Thesis 4.2.2: "a server that is not part of its own latest configuration should still start new elections, as it
    might still be needed until the Cnew entry is committed".
    """
    cluster = Cluster([1, 2])
    cluster.elect(1)
    cluster.run(50)
    cluster.step(1, ProposeConfiguration(1, founded([2])))
    cluster.drop = lambda _flight: True
    cluster.run(500)
    assert cluster.servers[1].raft.configuration == founded([2], removed=[1])
    assert cluster.servers[2].raft.configuration == founded([1, 2])
    cluster.drop = lambda _flight: False
    cluster.run(1500)
    assert cluster.leader().server_id == 2
    assert cluster.servers[2].raft.configuration == founded([2], removed=[1])
    term = cluster.servers[2].raft.current_term
    cluster.run(1000)
    assert cluster.servers[2].raft.current_term == term, "the removed server stays quiet"
