"""What /v2/kvraft/status shows of a member: made when it is asked for, of what is in memory."""

from collections.abc import Callable
from typing import Final, final

from kvraft.member.applier import Applier
from kvraft.member.cluster import Cluster
from kvraft.member.disk_watch import DiskWatch
from kvraft.member.interfaces import LogStore, StateStore, Transport
from kvraft.member.stats import ServerStats, go_time
from kvraft.raft.core import Raft

NO_SPACE: Final = "NOSPACE"
"""etcd's name for the alarm of a full disk."""


@final
class Status:
    """Satisfies `api_v2.backend.Backend.status`, as a part of the client port."""

    def __init__(
        self,
        cluster: Cluster,
        raft: Raft,
        applier: Applier,
        log_store: LogStore,
        state_store: StateStore,
        transport: Transport,
        disk: DiskWatch,
        stats: ServerStats,
    ) -> None:
        self._cluster = cluster
        self._raft = raft
        self._applier = applier
        self._log_store = log_store
        self._state_store = state_store
        self._transport = transport
        self._disk = disk
        self._stats = stats
        self.more: Final[list[Callable[[], dict[str, object]]]] = []
        """What others know of this member: its program, its disk, its certificates."""

    def __call__(self) -> dict[str, object]:
        """The fields of the answer, in its order. Sizes are bytes; ids are hexadecimal, an empty one is nobody's."""
        raft, keyspace, own = self._raft, self._applier.keyspace, self._cluster.own
        shown: dict[str, object] = {
            "id": f"{own.member_id:x}",
            "name": own.name,
            "clusterId": f"{self._cluster.cluster_id:x}",
            "clusterVersion": self._cluster.cluster_version(),
            "role": "learner" if own.member_id in raft.configuration.learners else str(raft.role),
            "leader": f"{raft.leader_id:x}" if raft.leader_id else "",
            "term": raft.current_term,
            "commitIndex": raft.commit_index,
            "appliedIndex": self._applier.position.index,
            "firstIndex": raft.first_log_index,
            "lastIndex": raft.last_log_index,
            "etcdIndex": keyspace.etcd_index,
            "historyStart": keyspace.history.floor,
            "historyEvents": keyspace.history.last_index - keyspace.history.floor + 1,
            "watchers": keyspace.watchers.count,
            "startTime": go_time(self._stats.started_wall_ns),
            "logBytes": self._log_store.held_bytes(),
            "stateBytes": self._state_store.size_bytes(),
            "alarms": [NO_SPACE] if self._disk.is_full else [],
            "followers": self._followers(),
        }
        for more in self.more:
            shown |= more()
        return shown

    def _followers(self) -> list[dict[str, object]]:
        """How far a leader knows the others to be; empty elsewhere."""
        return [
            {
                "id": f"{server:x}",
                "matchIndex": progress.match_index,
                "state": str(progress.state),
                "isConnected": self._transport.is_connected(server),
            }
            for server, progress in sorted(self._raft.progress.items())
        ]
