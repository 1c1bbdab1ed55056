"""The end of a member that was removed from its cluster: it is told by any other, or finds it in its own log."""

from typing import final

from kvraft.member.cluster import Cluster
from kvraft.member.failure import Failure
from kvraft.raft.core import Raft


@final
class Leaving:
    """Called now and then by the member's housekeeping, and when a peer says so.

    That it is not wanted any more is no reason to go: until its removal is committed, the others may need its vote.
    """

    def __init__(self, cluster: Cluster, raft: Raft, failure: Failure, patience_ms: int) -> None:
        self._cluster = cluster
        self._raft = raft
        self._failure = failure
        self._patience_ms = patience_ms
        """So long a member that knows of its removal by itself stays, for the others to hear of it, too, from it."""
        self._since_ms: int | None = None

    def told(self, by_member: int) -> None:
        """A peer knows that the removal of this member is committed."""
        self._failure.tell_removed(self._cluster.peer_name(by_member))

    def look(self, now_ms: int) -> None:
        """Go, if this member's log says so and nobody else has in time."""
        own_id = self._cluster.own.member_id
        if own_id not in self._raft.committed_configuration.removed:
            self._since_ms = None
        elif self._since_ms is None:
            self._since_ms = now_ms
        elif now_ms - self._since_ms >= self._patience_ms:
            self._failure.tell_removed(self._cluster.own.name)
