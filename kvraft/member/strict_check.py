"""`--strict-reconfig-check`: changes of the members that put a cluster at risk are refused before they are submitted.

After etcd v3.4.23 etcdserver/server.go (`mayAddMember`, `mayRemoveMember`) and membership/cluster.go, which ask at the
member that the request comes to as well. One thing is less strict: etcd adds nobody unless every member has been
connected for 5 s, as an added one counts in the quorum at once (etcd#10499, #10738). Here it does not count before it
has caught up, so a quorum of those that have started suffices, and a dead member can be replaced before it is removed.
"""

from collections.abc import Callable
from typing import Final, final

from kvraft.keyspace.commands import AddMember, MembershipCommand, RemoveMember
from kvraft.member.cluster import Cluster

NOT_ENOUGH_STARTED: Final = "not enough started members"
UNHEALTHY: Final = "not enough connected members"


@final
class StrictCheck:
    """As this member sees the cluster now."""

    def __init__(self, cluster: Cluster, is_connected: Callable[[int], bool]) -> None:
        self._cluster = cluster
        self._is_connected = is_connected

    def risk_of(self, command: MembershipCommand) -> str | None:
        """What is at risk; None: nothing, or the change is judged where it is applied."""
        if isinstance(command, AddMember):
            return self._risk_of_adding()
        if isinstance(command, RemoveMember):
            return self._risk_of_removing(command.member_id)
        return None

    def _risk_of_adding(self) -> str | None:
        members = self._cluster.member_ids()
        started = [member_id for member_id in members if self._cluster.has_started(member_id)]
        # A second member may come to the only one: otherwise no cluster would ever grow.
        if len(members) > 1 and len(started) < _quorum(len(members) + 1):
            return NOT_ENOUGH_STARTED
        return UNHEALTHY if sum(map(self._is_there, started)) < _quorum(len(started)) else None

    def _risk_of_removing(self, removed_id: int) -> str | None:
        members = self._cluster.member_ids()
        rest = [member_id for member_id in members if member_id != removed_id]
        started = sum(map(self._cluster.has_started, rest))
        if not rest or started < _quorum(len(rest)):
            return NOT_ENOUGH_STARTED
        if not self._is_there(removed_id):
            return None  # it is no part of the quorum that is there
        return UNHEALTHY if sum(map(self._is_there, members)) - 1 < 1 + (len(members) - 1) // 2 else None

    def _is_there(self, member_id: int) -> bool:
        return member_id == self._cluster.own.member_id or self._is_connected(member_id)


def _quorum(members: int) -> int:
    return members // 2 + 1
