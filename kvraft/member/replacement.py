"""A member that came in the place of another removes it, once it is a voter itself (`--replace`).

Which one is kept in its data directory until that is done, so that whoever is killed in between goes on at the next
start, and a member that gets the same name later is safe.
"""

from collections.abc import Callable
from typing import Final, final

from kvraft import logs
from kvraft.keyspace.commands import Command, RemoveMember
from kvraft.keyspace.errors import EtcdError
from kvraft.member.applier import Applier
from kvraft.member.cluster import Cluster
from kvraft.records import Written

_AGAIN_MS: Final = 1000

log = logs.get(__name__)


@final
class Replacement:
    """Called now and then by the member's housekeeping."""

    def __init__(
        self,
        cluster: Cluster,
        applier: Applier,
        submit: Callable[[Command, Callable[[Written | EtcdError], None]], object],
        replaces: int,
        forget: Callable[[], None],
    ) -> None:
        """`replaces` is the member that is to go, 0 for nobody; `forget` makes that no later start's business."""
        self._cluster = cluster
        self._applier = applier
        self._submit = submit
        self._replaces = replaces
        self._forget = forget
        self._next_ms = 0
        self._is_under_way = False

    def look(self, now_ms: int) -> None:
        """Remove the other one when it is time, and again if that failed."""
        if not self._replaces or self._is_under_way or now_ms < self._next_ms:
            return
        if self._cluster.own.member_id not in self._applier.configuration.voters:
            return
        if self._replaces in self._cluster.member_ids():
            self._next_ms = now_ms + _AGAIN_MS
            self._is_under_way = True
            self._submit(RemoveMember(self._replaces), self._on_done)
        else:
            log.info("the replaced member is removed", member=self._cluster.own.name, replaced=f"{self._replaces:x}")
            self._replaces = 0
            self._forget()

    def _on_done(self, _outcome: Written | EtcdError) -> None:
        """Whatever it was: the applied state tells whether it is gone."""
        self._is_under_way = False
