"""What a member shows in /metrics, copied when it is asked for: a write must not cost anything for it."""

from typing import final

from kvraft.member.applier import Applier
from kvraft.member.disk_watch import DiskWatch
from kvraft.member.durable_state import DurableState
from kvraft.member.requests import Requests
from kvraft.member.stats import ServerStats
from kvraft.metrics import Metrics
from kvraft.raft.core import Raft
from kvraft.raft.effects import Role


@final
class Figures:
    """The bridge from a running member to its metrics."""

    def __init__(
        self,
        metrics: Metrics,
        member_id: int,
        raft: Raft,
        applier: Applier,
        requests: Requests,
        stats: ServerStats,
        durable: DurableState,
        disk: DiskWatch,
    ) -> None:
        self._metrics = metrics
        self._member_id = member_id
        self._raft = raft
        self._applier = applier
        self._requests = requests
        self._stats = stats
        self._durable = durable
        self._disk = disk
        self._longest_stall_ms = 0

    def stalled(self, milliseconds: int) -> None:
        """The event loop came back this late."""
        self._longest_stall_ms = max(self._longest_stall_ms, milliseconds)

    def measure(self) -> None:
        """Copy the figures; the longest stall begins anew with each scrape."""
        metrics, raft, keyspace = self._metrics, self._raft, self._applier.keyspace
        metrics.has_leader.set(int(raft.leader_id != 0))
        metrics.is_leader.set(int(raft.role is Role.LEADER))
        metrics.is_learner.set(int(self._member_id in raft.configuration.learners))
        metrics.leader_changes_seen.set(self._stats.leader_changes)
        metrics.proposals_committed.set(raft.commit_index)
        metrics.proposals_applied.set(self._applier.position.index)
        metrics.proposals_pending.set(len(self._requests.writes))
        metrics.proposals_failed.set(self._requests.timed_out)
        metrics.slow_applies.set(self._stats.slow_applies)
        metrics.heartbeat_send_failures.set(self._stats.late_heartbeats)
        metrics.read_indexes_failed.set(self._requests.reads.timed_out)
        metrics.snapshot_apply_in_progress.set(int(self._durable.is_installing))
        metrics.history_events.set(keyspace.history.last_index - keyspace.history.floor + 1)
        metrics.disk_full.set(int(self._disk.is_full))
        metrics.server_id.labels(f"{self._member_id:x}").set(1)
        if keyspace.cluster.version:
            metrics.cluster_version.clear()
            metrics.cluster_version.labels(keyspace.cluster.version.rpartition(".")[0]).set(1)
        metrics.history_start_index.set(keyspace.history.floor)
        metrics.store_watchers.set(keyspace.watchers.count)
        metrics.store_expires.set(keyspace.stats.expire_count)
        metrics.loop_stall_seconds.set(self._longest_stall_ms / 1000)
        self._longest_stall_ms = 0
