"""What correct servers never do: noticed, reported, and not acted upon (design decision 4)."""

from kvraft.raft.effects import Role
from kvraft.raft.entries import Entry, EntryKind, make_entry
from kvraft.raft.inputs import Received
from kvraft.raft.messages import AppendEntries, AppendEntriesReply, Heartbeat
from tests.raft.cluster import Cluster
from tests.raft.made import follower_with, made_append, made_log


def test_equal_term_with_another_hash_stops_the_follower() -> None:
    """Log Matching cannot break between correct servers (design decision 4)."""
    cluster = follower_with([1, 1, 1], term=1)
    effects = cluster.step(1, Received(3, made_append(made_log([1, 1, 1, 1], payload=b"other"), 3, 4, term=1)))
    assert effects.divergence is not None
    assert effects.divergence.index == 3
    assert cluster.lost() == []


def test_conflict_below_the_commit_index_stops_the_follower() -> None:
    """Leader Completeness: a leader whose log lacks what is committed here is no leader."""
    cluster = follower_with([1, 1, 1], term=1, commit=3)
    effects = cluster.step(1, Received(2, made_append(made_log([1, 2, 2, 2]), 1, 4, term=2)))
    assert effects.divergence is not None
    assert effects.persist is None or not effects.persist.truncate_from


def test_equal_term_with_another_hash_inside_a_message_stops_the_follower() -> None:
    """The predecessor matches, but an entry of the same term does not."""
    cluster = follower_with([1, 1, 1], term=1)
    entry = made_log([1, 1, 1])[0]
    other = make_entry(entry.chain_hash, 2, 1, EntryKind.COMMAND, 0, b"other")
    effects = cluster.step(1, Received(3, AppendEntries(1, 1, 1, entry.chain_hash, [other], 0, 0)))
    assert effects.divergence is not None
    assert effects.divergence.index == 2
    assert cluster.servers[1].raft.last_log_index == 3


def test_predecessor_that_differs_from_a_committed_entry_stops_the_follower() -> None:
    """A leader whose log conflicts with what is committed here is not refused but reported."""
    cluster = follower_with([1, 1, 1], term=1, commit=3)
    effects = cluster.step(1, Received(2, made_append(made_log([1, 2, 2, 2]), 2, 4, term=2)))
    assert effects.divergence is not None
    assert cluster.lost() == []


def test_entry_that_does_not_fit_its_hash_is_dropped_as_if_lost() -> None:
    """What was damaged on the way is asked for again; a broken sender must not stop its receivers."""
    cluster = follower_with([1], term=1)
    message = made_append(made_log([1, 1, 1]), 1, 3, term=1)
    broken = message.entries[1]
    message.entries[1] = Entry(
        broken.index, broken.term, broken.kind, broken.clock_ms, broken.chain_hash, broken.record[:-1] + b"?"
    )
    effects = cluster.step(1, Received(3, message))
    assert effects.divergence is None
    assert effects.corrupt_from == [3]
    assert cluster.servers[1].raft.last_log_index == 2
    assert cluster.lost() == [AppendEntriesReply(1, True, 2, 0, 0)]


def test_commit_index_beyond_the_log_stops_a_server_that_lost_its_disk() -> None:
    """A heartbeat's commit index was acknowledged here; if it is not here, the disk was rolled back."""
    cluster = follower_with([1, 1], term=1)
    effects = cluster.step(1, Received(3, Heartbeat(1, 5, 0, 0)))
    assert effects.divergence is not None
    assert effects.divergence.index == 5


def test_leader_never_overwrites_its_own_log() -> None:
    """Leader Append-Only (Figure 3): another server claiming its term changes nothing in it."""
    cluster = Cluster([1, 2, 3])
    leader = cluster.elect(1)
    effects = cluster.step(1, Received(2, made_append(made_log([1, 1]), 0, 2, term=1)))
    assert effects.divergence is not None
    assert leader.raft.role is Role.LEADER
    assert leader.raft.last_log_index == 1
