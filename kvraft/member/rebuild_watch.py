"""Tells the operator how far a member is that lost its data, and keeps clients away until it has it back."""

import asyncio
from collections.abc import Iterable
from typing import Final, final

from kvraft import logs
from kvraft.member.cluster import Cluster
from kvraft.raft.core import Raft

_TELL_EVERY_MS: Final = 5000
"""Often enough for somebody who waits at the terminal."""

log = logs.get(__name__)


@final
class RebuildWatch:
    """Called now and then by the member's housekeeping."""

    def __init__(self, raft: Raft, cluster: Cluster) -> None:
        self.ended = asyncio.Event()
        """Set for a member that lost nothing, or has everything back."""
        self._raft = raft
        self._cluster = cluster
        self._told: tuple[int, ...] | None = None
        """Who was missing when it was last told."""
        self._told_ms = 0
        if not raft.is_rebuilding:
            self.ended.set()

    def look(self, now_ms: int) -> None:
        """Say what is missing whenever that changes and every few seconds, and once that nothing is."""
        if self.ended.is_set():
            return
        name = self._cluster.own.name
        if not self._raft.is_rebuilding:
            log.info("everything is back from the other members", member=name, index=self._raft.last_log_index)
            self.ended.set()
        elif (unanswered := tuple(self._raft.unanswered)) != self._told or now_ms - self._told_ms >= _TELL_EVERY_MS:
            self._told, self._told_ms = unanswered, now_ms
            missing = [peer for peer in self._raft.unanswered if peer not in self._raft.lost_as_well]
            if missing:
                log.warning(
                    "rebuilding: every other member must answer once, or be removed",
                    member=name,
                    missing=self._names(missing),
                )
            elif self._raft.unanswered:
                log.error(
                    "rebuilding: too many members have lost their data: stop one and give it back what it had",
                    member=name,
                    lost=self._names(self._raft.unanswered),
                )
            else:
                log.info("rebuilding: getting the log", member=name, index=self._raft.last_log_index)

    def _names(self, peers: Iterable[int]) -> str:
        return ",".join(map(self._cluster.peer_name, peers))
