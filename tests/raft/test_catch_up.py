"""Followers that lag are fed from disk beside everything else that a leader does."""

import itertools
from collections import Counter

from kvraft.raft.effects import Effects
from kvraft.raft.inputs import Propose
from kvraft.raft.messages import AppendEntries
from kvraft.raft.settings import RaftSettings
from tests.raft.cluster import Cluster, Server

READ_MAX = 1000
SETTINGS = RaftSettings(
    heartbeat_interval_ms=10,
    election_timeout_ms=100,
    message_bytes_max=400,
    log_tail_bytes_max=1000,
    disk_read_bytes_max=READ_MAX,
)


def lagging(*followers: int) -> Cluster:
    """A leader of seven, some of whose followers lack a backlog that has left memory."""
    cluster = Cluster(range(1, 8), settings=SETTINGS)
    cluster.elect(1)
    cluster.drop = lambda flight: flight.to_server in followers
    for number in range(100):
        cluster.propose(b"%100d" % number)
        cluster.settle()
    cluster.drop = lambda _flight: False
    return cluster


def sent_from_disk(server: Server, effects: Effects, tail_first: int) -> Counter[int]:
    """Bytes of records by first index: a message that several followers get was read once."""
    sent: dict[int, int] = {}
    for outgoing in effects.messages:
        message = outgoing.message
        if isinstance(message, AppendEntries) and message.entries and message.entries[0].index < tail_first:
            sent[message.entries[0].index] = sum(len(entry.record) for entry in message.entries)
    return Counter(sent)


def test_step_reads_a_bounded_piece_of_the_log_for_all_followers_together() -> None:
    """Several laggards took four full messages each out of the disk in one step, longer than a heartbeat interval."""
    cluster = lagging(5, 6, 7)
    read: list[int] = []

    def watch(server: Server, effects: Effects) -> None:
        if server.server_id == 1:
            read.append(sent_from_disk(server, effects, server.raft._state.log._tail_first).total())

    cluster.on_step = watch
    cluster.run(30)
    assert max(read) <= READ_MAX
    assert sum(read) > 10 * READ_MAX
    assert [len(cluster.commands(follower)) for follower in range(2, 8)] == [100] * 6


def test_leader_goes_on_at_once_and_nobody_is_kept_waiting_twice() -> None:
    """What one step has no room for comes with the next one, first; no acknowledgement is waited for."""
    cluster = lagging(5, 6, 7)
    places = ((5, 10), (6, 30), (7, 50))
    leader = cluster.servers[1].raft
    for follower, match_index in places:
        progress = leader._state.role.progress[follower]  # type: ignore[attr-defined] # a leader's
        progress.acknowledged(match_index, cluster.now_ms)
        progress.snapshot_superseded()
        progress.acknowledged(match_index, cluster.now_ms)
    served: list[set[int]] = []
    for _ in range(4):
        effects = cluster.step(1, Propose(1, b"new"))
        assert leader.next_deadline_ms <= cluster.now_ms
        served.append(
            {
                outgoing.to_server
                for outgoing in effects.messages
                if isinstance(outgoing.message, AppendEntries) and outgoing.message.entries
            }
        )
    assert all({2, 3, 4} <= each for each in served), "who does not lag gets what is new in every step"
    laggards = [each - {2, 3, 4} for each in served]
    assert all(laggards)
    assert set.union(*laggards) == {5, 6, 7}
    assert all(first != second for first, second in itertools.pairwise(laggards))


def test_follower_that_does_not_answer_gets_no_more_than_a_step_once_sent_it() -> None:
    """Going on at once fills no window: where messages are reordered each of them would be refused and sent again."""
    cluster = lagging(5)
    leader = cluster.servers[1].raft
    progress = leader._state.role.progress[5]  # type: ignore[attr-defined] # a leader's
    progress.snapshot_superseded()
    progress.acknowledged(3, cluster.now_ms)
    sent = 0
    for _ in range(20):
        effects = cluster.step(1)
        sent += sum(isinstance(each.message, AppendEntries) and each.to_server == 5 for each in effects.messages)
        if leader.next_deadline_ms > cluster.now_ms:
            break
    assert sent <= 6, "four at most, and what the step has room for in which the fourth leaves"
