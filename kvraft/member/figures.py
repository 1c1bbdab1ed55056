"""What a member shows in /metrics, copied when it is asked for: a write must not cost anything for it."""

from typing import Protocol, final

from kvraft.keyspace.keyspace import Keyspace
from kvraft.keyspace.watchers import WatcherHub
from kvraft.member.stats import ServerStats
from kvraft.member.waiters import Waiters
from kvraft.metrics import Metrics
from kvraft.raft.core import Raft
from kvraft.raft.effects import Role


class Measured(Protocol):
    """The member, as far as it is measured."""

    metrics: Metrics

    @property
    def keyspace(self) -> Keyspace:
        """The applied state."""
        ...

    @property
    def watchers(self) -> WatcherHub:
        """Open watches."""
        ...

    @property
    def member_id(self) -> int:
        """This member."""
        ...

    @property
    def raft_index(self) -> int:
        """Applied log index."""
        ...


@final
class Figures:
    """The bridge from a running member to its metrics."""

    def __init__(self, member: Measured, raft: Raft, waiters: Waiters, stats: ServerStats) -> None:
        self._member = member
        self._raft = raft
        self._waiters = waiters
        self._stats = stats
        self._longest_stall_ms = 0

    def stalled(self, milliseconds: int) -> None:
        """The event loop came back this late."""
        self._longest_stall_ms = max(self._longest_stall_ms, milliseconds)

    def measure(self) -> None:
        """Copy the figures; the longest stall begins anew with each scrape."""
        member, raft, keyspace = self._member, self._raft, self._member.keyspace
        metrics = member.metrics
        metrics.has_leader.set(int(raft.leader_id != 0))
        metrics.is_leader.set(int(raft.role is Role.LEADER))
        metrics.is_learner.set(int(member.member_id in raft.configuration.learners))
        metrics.leader_changes_seen.values[""] = self._stats.leader_changes
        metrics.proposals_committed.set(raft.commit_index)
        metrics.proposals_applied.set(member.raft_index)
        metrics.proposals_pending.set(len(self._waiters))
        metrics.proposals_failed.values[""] = self._stats.timed_out
        metrics.server_id.labels(f"{member.member_id:x}").set(1)
        metrics.cluster_version.labels(keyspace.cluster_version).set(1)
        metrics.history_start_index.set(keyspace.history.floor)
        metrics.store_watchers.set(member.watchers.count)
        metrics.store_expires.values[""] = keyspace.stats.expire_count
        metrics.loop_stall_seconds.set(self._longest_stall_ms / 1000)
        self._longest_stall_ms = 0
