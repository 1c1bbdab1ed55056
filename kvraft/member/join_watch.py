"""Tells the operator how far a member is that comes to a running cluster, and keeps clients away until it is in it."""

import asyncio
from typing import Final, final

from kvraft import logs
from kvraft.member.cluster import Cluster
from kvraft.raft.core import Raft

_TELL_EVERY_MS: Final = 5000
"""Often enough for somebody who waits at the terminal."""

log = logs.get(__name__)


@final
class JoinWatch:
    """Called now and then by the member's housekeeping."""

    def __init__(self, raft: Raft, cluster: Cluster) -> None:
        self.ended = asyncio.Event()
        """Set for a member that has applied that it belongs to the cluster."""
        self._raft = raft
        self._cluster = cluster
        self._told_ms: int | None = None
        self.is_newcomer: Final = not self._is_member()
        """Whether it did not belong to it, as far as it knew, when it was started."""
        if not self.is_newcomer:
            self.ended.set()

    def _is_member(self) -> bool:
        return self._cluster.own.member_id in self._cluster.member_ids()

    def look(self, now_ms: int) -> None:
        """Say every few seconds what is waited for, and once that it has come; `RebuildWatch` speaks first."""
        if self.ended.is_set() or self._raft.is_rebuilding:
            return
        name = self._cluster.own.name
        if self._is_member():
            log.info("this member has joined the cluster", member=name, index=self._raft.last_applied)
            self.ended.set()
        elif self._told_ms is None or now_ms - self._told_ms >= _TELL_EVERY_MS:
            self._told_ms = now_ms
            if self._raft.leader_id:
                log.info("joining: getting the log", member=name, index=self._raft.last_log_index)
            else:
                log.info("joining: waiting for a leader of the cluster", member=name)
