"""Snapshots take the place of entries that the leader's log no longer holds (section 7).

The bytes travel beside the core. Here are only the decisions: whether one is wanted, and what follows from it.
"""

from kvraft.raft.effects import SendSnapshot
from kvraft.raft.inputs import LogCompacted, SnapshotInstalled, SnapshotSent
from kvraft.raft.messages import InstallSnapshot
from kvraft.raft.progress import Progress
from kvraft.raft.restored import LogPosition
from kvraft.raft.roles import Follower, Leader, hear_leader
from kvraft.raft.state import State


def handle_install_snapshot(state: State, from_server: int, message: InstallSnapshot) -> None:
    """A verified snapshot of the current term's leader lies in the spool. At most one is put in place at a time."""
    if not hear_leader(state, from_server) or state.installing is not None:
        return
    index = message.last_included_index
    if index <= state.commit_index:
        # What is committed here equals the leader's log, so the acknowledgement tells it where to go on.
        state.acknowledge(from_server, state.commit_index)
        return
    held = state.log.position(index)
    if held is not None and held.term == message.last_included_term:
        if held.chain_hash != message.last_included_hash:
            state.diverged(index, f"snapshot of server {from_server} has another hash than the entry held here")
            return
        # The log already contains the snapshot's history; keeping it is cheaper (etcd-io/raft: raft.go, restore).
        state.commit_index = index
        state.acknowledge(from_server, index)
        return
    state.installing = message
    state.effects.install = message


def snapshot_installed(state: State, done: SnapshotInstalled) -> None:
    """The member has replaced state and log durably: go on from there."""
    snapshot = state.installing
    assert snapshot is not None, "installed only what was asked for"
    assert snapshot.last_included_index == done.last_included_index, "installed only what was asked for"
    index = snapshot.last_included_index
    state.log.reset(
        LogPosition(index, snapshot.last_included_term, snapshot.last_included_hash, snapshot.last_included_clock_ms)
    )
    state.configurations = [(index, snapshot.configuration)]
    state.restart_at_snapshot(index)
    state.installing = None
    if isinstance(state.role, Follower) and state.leader_id:
        state.acknowledge(state.leader_id, index)


def request_snapshot(state: State, server: int, progress: Progress) -> None:
    """A follower needs entries below the log: ask the member to stream a snapshot, once until that has ended."""
    progress.snapshot_needed()
    state.effects.send_snapshots.append(SendSnapshot(server, state.current_term))


def snapshot_sent(state: State, done: SnapshotSent) -> None:
    """A transfer has ended. If it failed, the next answered heartbeat leads to another try."""
    if isinstance(state.role, Leader):
        progress = state.role.progress.get(done.server)
        if progress is not None:
            progress.snapshot_ended(done.last_included_index, state.now_ms)


def log_compacted(state: State, done: LogCompacted) -> None:
    """The log store dropped entries. The configuration in force at the new base stays known."""
    state.log.compact(LogPosition(done.index, done.term, done.chain_hash, done.clock_ms))
    configurations = state.configurations
    while len(configurations) > 1 and configurations[1][0] <= done.index:
        configurations.pop(0)
