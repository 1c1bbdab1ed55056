"""Snapshots and compaction (section 7)."""

from kvraft.raft.effects import Role, SendSnapshot
from kvraft.raft.inputs import LogCompacted, Propose, Received, SnapshotInstalled, SnapshotSent
from kvraft.raft.messages import (
    AppendEntries,
    AppendEntriesReply,
    Heartbeat,
    HeartbeatReply,
    InstallSnapshot,
    RequestVote,
    RequestVoteReply,
)
from kvraft.raft.progress import ProgressState
from kvraft.raft.settings import RaftSettings
from tests.raft.cluster import Cluster, founded
from tests.raft.made import at_once, made_append, made_log

_LOG = made_log([1] * 10)


def snapshot(index: int, *, term: int = 1, last_term: int = 1, clock_ms: int = 0) -> InstallSnapshot:
    """A leader's snapshot of the log made above."""
    return InstallSnapshot(term, index, last_term, _LOG[index - 1].chain_hash, founded([1, 2, 3]), "spool", clock_ms)


class HeldInstall(Cluster):
    """A cluster whose members never finish installing by themselves."""

    def install(self, server: object, snapshot: object) -> None:
        """Nothing: the test says when it is done."""


def lagging() -> Cluster:
    """Server 1 leads and has compacted what server 3 lacks; server 3 was silent so far."""
    cluster = Cluster([1, 2, 3])
    cluster.elect(1)
    cluster.drop = lambda flight: 3 in (flight.from_server, flight.to_server)
    cluster.propose(*(b"x" for _ in range(8)))
    cluster.settle()
    cluster.compact(1, 6)
    return cluster


def test_follower_behind_the_log_gets_a_snapshot_then_entries() -> None:
    """Section 7: the leader sends a snapshot when it has discarded the next entry a follower needs."""
    cluster = lagging()
    cluster.drop = lambda _flight: False
    cluster.run(40)
    raft = cluster.servers[3].raft
    assert (raft.first_log_index, raft.last_log_index, raft.last_applied) == (7, 9, 9)
    assert cluster.leader().raft.progress[3].state is ProgressState.REPLICATE


def test_snapshot_is_asked_for_once_until_the_transfer_has_ended() -> None:
    """Heartbeats and refusals in between change nothing."""
    cluster = lagging()
    cluster.send_snapshot = lambda *_arguments: None  # type: ignore[method-assign] # a member that is slow
    cluster.drop = lambda _flight: False
    cluster.run(60)
    wanted = [wanted for effects in cluster.servers[1].effects for wanted in effects.send_snapshots]
    assert wanted == [SendSnapshot(3, 1)]
    sent = at_once(cluster.step(1, Propose(1, b"y")))
    assert [out.to_server for out in sent if isinstance(out.message, AppendEntries)] == [2]


def test_failed_transfer_is_tried_again_after_an_answered_heartbeat() -> None:
    """The pace is the heartbeats', so a broken transfer cannot become a storm."""
    cluster = lagging()
    cluster.send_snapshot = lambda *_arguments: None  # type: ignore[method-assign] # the test plays the member
    cluster.drop = lambda _flight: False
    cluster.run(30)
    assert cluster.step(1, SnapshotSent(3, 0)).send_snapshots == []
    cluster.servers[1].effects.clear()
    cluster.run(25)
    wanted = [wanted for effects in cluster.servers[1].effects for wanted in effects.send_snapshots]
    assert wanted == [SendSnapshot(3, 1)]


def test_acknowledgement_that_overtakes_the_end_of_the_transfer_is_enough() -> None:
    """The follower installed the snapshot before the leader's member noticed: entries follow at once."""
    cluster = lagging()
    cluster.send_snapshot = lambda *_arguments: None  # type: ignore[method-assign] # the test plays the member
    cluster.drop = lambda _flight: False
    cluster.run(30)
    effects = cluster.step(1, Received(3, AppendEntriesReply(1, True, 6, 0, 0)))
    (message,) = [out.message for out in at_once(effects) if out.to_server == 3]
    assert isinstance(message, AppendEntries)
    assert message.prev_log_index == 6
    cluster.step(1, SnapshotSent(3, 6))
    assert cluster.leader().raft.progress[3].state is ProgressState.PROBE


def test_silent_follower_is_not_sent_a_snapshot() -> None:
    """A server that is down would cost a transfer for each try: it must answer first."""
    cluster = lagging()
    cluster.run(300)
    assert not any(effects.send_snapshots for effects in cluster.servers[1].effects)


def test_store_that_compacts_ahead_of_its_report_leads_to_a_snapshot() -> None:
    """Entries may leave the log store before the core hears of it; what cannot be read is not sent."""
    settings = RaftSettings(heartbeat_interval_ms=10, election_timeout_ms=100, log_tail_bytes_max=1)
    cluster = Cluster([1, 2], settings=settings)
    cluster.elect(1)
    cluster.propose(*(b"x" for _ in range(8)))
    cluster.settle()
    cluster.servers[1].disk.compact(6)
    effects = cluster.step(1, Received(2, AppendEntriesReply(1, False, 9, 3, 1)))
    assert effects.send_snapshots == []
    cluster.servers[1].raft.progress[2].match_index = 2
    cluster.servers[1].raft.progress[2].unreachable(cluster.now_ms)
    cluster.now_ms += 10
    effects = cluster.step(1, Received(2, HeartbeatReply(1, 0, 2)))
    assert effects.send_snapshots == [SendSnapshot(2, 1)]


def test_end_of_a_transfer_to_a_stranger_or_after_the_leadership_is_ignored() -> None:
    """Members report what they began earlier."""
    cluster = lagging()
    cluster.step(1, SnapshotSent(9, 6))
    cluster.step(2, SnapshotSent(3, 6))
    assert cluster.role(1) is Role.LEADER


def test_snapshot_replaces_log_and_commits_what_it_covers() -> None:
    """Section 7: the follower discards its entire log; it is all superseded by the snapshot."""
    cluster = HeldInstall([1, 2, 3])
    cluster.step(1, Received(3, made_append(made_log([1, 1], payload=b"other"), 0, 2, term=1)))
    effects = cluster.step(1, Received(3, snapshot(8, clock_ms=77)))
    assert effects.install == snapshot(8, clock_ms=77)
    effects = cluster.step(1, SnapshotInstalled(8))
    raft = cluster.servers[1].raft
    assert (raft.first_log_index, raft.last_log_index, raft.commit_index, raft.last_applied) == (9, 8, 8, 8)
    assert effects.committed == []
    assert raft.log_clock_ms(0) == 77
    assert [out.message for out in at_once(effects)] == [AppendEntriesReply(1, True, 8, 0, 0)]


def test_entries_continue_behind_an_installed_snapshot() -> None:
    """Index, term and hash of the snapshot are the predecessor of the next entry."""
    cluster = HeldInstall([1, 2, 3])
    cluster.step(1, Received(3, snapshot(8)))
    cluster.step(1, SnapshotInstalled(8))
    cluster.servers[1].disk.base = cluster.servers[1].raft._state.log.base
    effects = cluster.step(1, Received(3, made_append(_LOG, 8, 10, term=1, commit=10)))
    assert [entry.index for entry in effects.committed] == [9, 10]


def test_nothing_is_appended_while_a_snapshot_is_put_in_place() -> None:
    """The log that entries would continue is about to be replaced; heartbeats are answered meanwhile."""
    cluster = HeldInstall([1, 2, 3])
    cluster.step(1, Received(3, snapshot(8)))
    cluster.lost()
    effects = cluster.step(1, Received(3, made_append(_LOG, 0, 3, term=1, commit=3)))
    assert effects.persist is None or effects.persist.entries == []
    assert effects.committed == []
    cluster.step(1, Received(3, Heartbeat(1, 0, 0, 4)))
    assert cluster.lost() == [HeartbeatReply(1, 4, 0)]


def test_second_snapshot_during_an_install_is_ignored() -> None:
    """One at a time; what it would bring comes as entries or as another snapshot."""
    cluster = HeldInstall([1, 2, 3])
    cluster.step(1, Received(3, snapshot(5)))
    assert cluster.step(1, Received(3, snapshot(8))).install is None
    cluster.step(1, SnapshotInstalled(5))
    assert cluster.servers[1].raft.commit_index == 5


def test_server_does_not_campaign_while_a_snapshot_is_put_in_place() -> None:
    """It could win with a log that is about to vanish. It still votes, by the log it has."""
    cluster = HeldInstall([1, 2, 3])
    cluster.step(1, Received(3, snapshot(8)))
    cluster.now_ms += 1000
    cluster.step(1)
    assert cluster.role(1) is Role.FOLLOWER
    assert cluster.servers[1].raft.leader_id == 0
    cluster.lost()
    cluster.step(1, Received(2, RequestVote(2, 10, 1, leadership_transfer=False)))
    assert cluster.lost() == [RequestVoteReply(2, granted=True)]
    cluster.step(1, SnapshotInstalled(8))
    assert cluster.servers[1].raft.commit_index == 8


def test_snapshot_at_or_below_the_commit_index_is_acknowledged_and_not_installed() -> None:
    """It would take state back; the leader learns where to go on."""
    cluster = Cluster([1, 2, 3])
    cluster.step(1, Received(3, made_append(_LOG, 0, 6, term=1, commit=5)))
    cluster.lost()
    effects = cluster.step(1, Received(3, snapshot(4)))
    assert effects.install is None
    assert cluster.lost() == [AppendEntriesReply(1, True, 5, 0, 0)]


def test_snapshot_that_the_log_already_contains_only_commits() -> None:
    """The log holds the snapshot's last entry: the rest of the log stays (section 7, last but one paragraph)."""
    cluster = Cluster([1, 2, 3])
    cluster.step(1, Received(3, made_append(_LOG, 0, 8, term=1, commit=2)))
    cluster.lost()
    effects = cluster.step(1, Received(3, snapshot(6)))
    raft = cluster.servers[1].raft
    assert effects.install is None
    assert (raft.commit_index, raft.last_log_index) == (6, 8)
    assert cluster.lost() == [AppendEntriesReply(1, True, 6, 0, 0)]


def test_snapshot_with_another_hash_stops_the_server() -> None:
    """Equal index and term, different history."""
    cluster = Cluster([1, 2, 3])
    cluster.step(1, Received(3, made_append(made_log([1] * 8, payload=b"other"), 0, 8, term=1)))
    effects = cluster.step(1, Received(3, snapshot(6)))
    assert effects.divergence is not None
    assert effects.install is None


def test_snapshot_of_a_deposed_leader_is_refused() -> None:
    """A lower term: its leader learns that it is over."""
    cluster = Cluster([1, 2, 3])
    cluster.step(1, Received(2, Heartbeat(5, 0, 0, 0)))
    cluster.lost()
    assert cluster.step(1, Received(3, snapshot(8))).install is None
    assert cluster.lost() == [AppendEntriesReply(5, False, 8, 0, 0)]


def test_configuration_of_the_snapshot_is_in_force_after_it() -> None:
    """The snapshot carries the configuration at its index (section 7)."""
    cluster = HeldInstall([1, 2, 3])
    message = snapshot(8)
    message.configuration = founded([1, 2, 3, 4])
    cluster.step(1, Received(3, message))
    effects = cluster.step(1, SnapshotInstalled(8))
    assert effects.configuration == founded([1, 2, 3, 4])


def test_late_application_from_before_the_snapshot_changes_nothing() -> None:
    """The applier may report what it had in hand when the snapshot came."""
    cluster = HeldInstall([1, 2, 3])
    cluster.step(1, Received(3, made_append(_LOG, 0, 3, term=1, commit=3)))
    cluster.step(1, Received(3, snapshot(8)))
    cluster.step(1, SnapshotInstalled(8))
    cluster.step(1)
    assert cluster.servers[1].raft.last_applied == 8


def test_followers_at_the_compaction_point_get_entries() -> None:
    """The predecessor's term and hash outlive the entry itself."""
    cluster = Cluster([1, 2])
    cluster.elect(1)
    cluster.propose(b"a")
    cluster.settle()
    cluster.drop = lambda _flight: True
    cluster.propose(b"b")
    cluster.settle()
    cluster.compact(1, 2)
    cluster.drop = lambda _flight: False
    cluster.run(30)
    assert cluster.commands(2) == [b"a", b"b"]
    assert not any(effects.send_snapshots for effects in cluster.servers[1].effects)


def test_compaction_reported_twice_or_late_changes_nothing() -> None:
    """The log's beginning never moves back."""
    cluster = Cluster([1])
    cluster.settle()
    cluster.propose(b"a", b"b", b"c")
    cluster.settle()
    cluster.compact(1, 3)
    cluster.step(1, LogCompacted(2))
    cluster.step(1, LogCompacted(3))
    assert cluster.servers[1].raft.first_log_index == 4


def test_unknown_compaction_point_costs_a_snapshot_and_nothing_else() -> None:
    """Only a follower that lacks exactly the first entry still held is affected."""
    settings = RaftSettings(heartbeat_interval_ms=10, election_timeout_ms=100, log_tail_bytes_max=1)
    cluster = Cluster([1, 2, 3], settings=settings)
    cluster.elect(1)
    cluster.drop = lambda flight: flight.to_server == 3
    cluster.propose(*(b"x" for _ in range(8)))
    cluster.settle()
    cluster.servers[1].disk.compact(6)
    cluster.step(1, LogCompacted(6))
    cluster.step(1, Received(3, AppendEntriesReply(1, False, 9, 6, 1)))
    effects = cluster.step(1, Received(3, AppendEntriesReply(1, True, 6, 0, 0)))
    assert effects.send_snapshots == [SendSnapshot(3, 1)]
    effects = cluster.step(1, Received(3, AppendEntriesReply(1, True, 7, 0, 0)))
    (message,) = [out.message for out in at_once(effects) if out.to_server == 3]
    assert isinstance(message, AppendEntries)
    assert [entry.index for entry in message.entries] == [8, 9]
