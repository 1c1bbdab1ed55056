"""The log clock (design decision 7): time enters through the log, and never runs early."""

import functools

from kvraft.raft.inputs import Propose, Received
from kvraft.raft.messages import Heartbeat, RequestPreVoteReply, RequestVoteReply
from tests.raft.cluster import Cluster, Flight
from tests.raft.made import made_append, made_log


def clocks(cluster: Cluster, server_id: int) -> list[int]:
    """The clocks of a server's whole log."""
    log = cluster.servers[server_id].raft._state.log
    return [entry.clock_ms for entry in log.slice(1, log.last_index, 1 << 30)]


def concerns(server_id: int, flight: Flight) -> bool:
    """Whether a message comes from or goes to that server."""
    return server_id in (flight.from_server, flight.to_server)


def lead_alone(cluster: Cluster, at_ms: int) -> None:
    """Server 1 of three becomes leader at that time, by votes made by hand."""
    cluster.now_ms = at_ms
    raft = cluster.servers[1].raft
    cluster.step(1)
    cluster.step(1, Received(2, RequestPreVoteReply(raft.current_term, raft.current_term + 1, granted=True)))
    cluster.step(1, Received(2, RequestVoteReply(raft.current_term, granted=True)))
    assert raft.leader_id == 1


def test_leaders_clock_adds_the_time_since_it_leads() -> None:
    """Entries are stamped with it when they are appended."""
    cluster = Cluster([1, 2, 3])
    cluster.elect(1)
    cluster.run(70)
    cluster.propose(b"a")
    assert clocks(cluster, 1) == [0, 70]
    assert cluster.servers[1].raft.log_clock_ms(cluster.now_ms + 5) == 75


def test_new_leader_starts_from_its_last_entry() -> None:
    """Time without a leader does not count, however long."""
    cluster = Cluster([1, 2, 3])
    cluster.step(1, Received(3, made_append(made_log([1, 1], start_ms=5000), 0, 2, term=1, clock_ms=5001)))
    lead_alone(cluster, 60_000)
    cluster.now_ms += 30
    cluster.step(1, Propose(1, b"a"))
    assert clocks(cluster, 1) == [5000, 5001, 5001, 5031]


def test_new_leader_goes_on_from_the_clock_it_heard() -> None:
    """Heartbeats of the last entry's leader say how far that leader's time had come."""
    cluster = Cluster([1, 2, 3])
    cluster.step(1, Received(3, made_append(made_log([1], start_ms=5000), 0, 1, term=1, clock_ms=5000)))
    cluster.step(1, Received(3, Heartbeat(1, 0, 5900, 0)))
    assert cluster.servers[1].raft.log_clock_ms(cluster.now_ms) == 5900
    lead_alone(cluster, 60_000)
    assert clocks(cluster, 1)[-1] == 5900


def test_clock_of_another_terms_leader_is_ignored() -> None:
    """Its entries may never be committed, and its time with them: nothing may expire early."""
    cluster = Cluster([1, 2, 3])
    cluster.step(1, Received(3, made_append(made_log([1], start_ms=5000), 0, 1, term=1, clock_ms=5000)))
    cluster.step(1, Received(2, Heartbeat(2, 0, 9999, 0)))
    assert cluster.servers[1].raft.log_clock_ms(cluster.now_ms) == 5000
    lead_alone(cluster, 60_000)
    assert clocks(cluster, 1)[-1] == 5000


def test_late_heartbeat_does_not_turn_the_clock_back() -> None:
    """Messages may be reordered."""
    cluster = Cluster([1, 2, 3])
    cluster.step(1, Received(3, made_append(made_log([1], start_ms=10), 0, 1, term=1, clock_ms=10)))
    cluster.step(1, Received(3, Heartbeat(1, 0, 900, 0)))
    cluster.step(1, Received(3, Heartbeat(1, 0, 400, 0)))
    assert cluster.servers[1].raft.log_clock_ms(cluster.now_ms) == 900


def test_deposed_leader_remembers_its_own_clock() -> None:
    """It was the leader of its entries' term, so its time counts when it leads again."""
    cluster = Cluster([1, 2, 3])
    cluster.elect(1)
    cluster.run(70)
    cluster.step(1, Received(2, RequestVoteReply(5, granted=False)))
    assert cluster.servers[1].raft.log_clock_ms(cluster.now_ms + 500) == 70


def test_clock_never_decreases_along_the_log() -> None:
    """Through elections, transfers and idle times."""
    cluster = Cluster([1, 2, 3])
    for _ in range(4):
        cluster.run(300)
        cluster.propose(b"x")
        cluster.settle()
        lonely = cluster.leader().server_id
        cluster.drop = functools.partial(concerns, lonely)
        cluster.run(300)
        cluster.drop = lambda _flight: False
        cluster.run(50)
    stamped = clocks(cluster, 1)
    assert stamped == sorted(stamped)
    assert len(stamped) >= 8
