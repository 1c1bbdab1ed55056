"""Tells the operator that the cluster has had no leader for long, and which members this one still reaches."""

from collections.abc import Callable
from typing import Final, final

from kvraft import logs
from kvraft.member.cluster import Cluster
from kvraft.raft.core import Raft

_TELL_AFTER_MS: Final = 5000
"""An election is over long before, unless the timeouts are the longest that are accepted."""
_TELL_EVERY_MS: Final = 60_000

log = logs.get(__name__)


@final
class LeaderWatch:
    """Called now and then by the member's housekeeping."""

    def __init__(self, raft: Raft, cluster: Cluster, is_connected: Callable[[int], bool]) -> None:
        self._raft = raft
        self._cluster = cluster
        self._is_connected = is_connected
        self._lost_ms: int | None = None
        """When the leader was first missed."""
        self._tell_ms = 0

    def look(self, now_ms: int) -> None:
        """Say that there is no leader, after a while and now and then. `RebuildWatch` speaks for one that rebuilds."""
        if self._raft.leader_id or self._raft.is_rebuilding:
            self._lost_ms = None
        elif self._lost_ms is None:
            self._lost_ms, self._tell_ms = now_ms, now_ms + _TELL_AFTER_MS
        elif now_ms >= self._tell_ms:
            self._tell_ms = now_ms + _TELL_EVERY_MS
            log.warning(
                "no leader: writes and quorum reads are refused until a majority of the members agrees on one",
                member=self._cluster.own.name,
                seconds=(now_ms - self._lost_ms) // 1000,
                connected=self._peers(connected=True),
                missing=self._peers(connected=False),
            )

    def _peers(self, *, connected: bool) -> str:
        own_id = self._cluster.own.member_id
        voters = self._raft.configuration.voters or self._cluster.others()
        peers = (peer for peer in voters if peer != own_id and self._is_connected(peer) is connected)
        return ",".join(sorted(self._cluster.peer_name(peer) for peer in peers)) or "nobody"
