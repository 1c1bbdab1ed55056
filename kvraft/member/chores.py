"""Commands that no client asked for: what a member publishes about itself, what a leader settles, and the syncs."""

import asyncio
from collections.abc import Callable
from typing import final

from kvraft.keyspace.commands import Command
from kvraft.keyspace.errors import EtcdError
from kvraft.member.applier import Applier
from kvraft.member.cluster import Cluster
from kvraft.member.expirer import Expirer
from kvraft.raft.core import Raft
from kvraft.raft.effects import Role
from kvraft.records import Written

_EXPIRY_LOOK_MS_MAX = 500
"""A key with a shorter TTL than the others may come at any time: etcd looks this often too."""


@final
class Chores:
    """One command of each kind is under way at a time; whatever fails is still to be done and goes out again."""

    def __init__(
        self,
        cluster: Cluster,
        raft: Raft,
        applier: Applier,
        submit: Callable[[Command, Callable[[Written | EtcdError], None]], object],
        log_clock_ms: Callable[[], int],
        idle_sync_ms: int,
        newest_protocol: Callable[[int], int],
    ) -> None:
        self._cluster = cluster
        self._raft = raft
        self._applier = applier
        self._submit = submit
        self._log_clock_ms = log_clock_ms
        self._newest_protocol = newest_protocol
        self._expirer = Expirer(idle_sync_ms)
        self._timer: asyncio.TimerHandle | None = None
        self._stopped = False
        self._under_way: set[str] = set()
        """"own" while this member's publication is, "duty" while something that a leader settles is."""
        self._settled: asyncio.Event | None = None
        """While somebody waits in `settle`."""
        self._led_since: float | None = None
        """By the event loop's clock; None: no leader, or it has not looked yet."""

    def start_anew(self) -> None:
        """Another leader or term: what is under way will be told its end, and finds its way to the new one."""
        self._led_since = None
        self._expirer.reset()

    def stop(self) -> None:
        """No chore after this."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()

    async def settle(self) -> None:
        """Return once this member has published itself and a new cluster has its version (`Cluster.is_settled`)."""
        self._settled = asyncio.Event()
        try:
            self.publish()
            await self._settled.wait()
        finally:
            self._settled = None

    def applied(self) -> None:
        """Something was applied: while somebody waits for the next chore, it goes out at once."""
        if self._settled is not None:
            self.publish()

    def publish(self) -> None:
        """Submit what this member has to publish, and a leader to settle, if anything."""
        if self._settled is not None and self._cluster.is_settled():
            self._settled.set()
        if self._stopped or not self._raft.leader_id:
            return
        if self._raft.role is Role.LEADER:
            now = asyncio.get_running_loop().time()
            if self._led_since is None:
                self._led_since = now
            self._start("duty", self._cluster.leader_duty(now - self._led_since, self._newest_protocol))
        self._start("own", self._cluster.unpublished())

    def _start(self, kind: str, command: Command | None) -> None:
        if command is None or kind in self._under_way:
            return
        self._under_way.add(kind)
        self._submit(command, lambda _outcome: self._under_way.discard(kind))

    def expire(self) -> None:
        """On a leader: submit a sync if a key is due, otherwise look again when one will be."""
        if self._timer is not None or self._raft.role is not Role.LEADER:
            return
        next_deadline_ms = self._applier.keyspace.next_deadline_ms()
        if next_deadline_ms is None:
            return
        log_clock_ms = self._log_clock_ms()
        last_clock_ms = self._applier.position.clock_ms
        sync = self._expirer.due(log_clock_ms, last_clock_ms, next_deadline_ms)
        if sync is not None:
            self._submit(sync, self._on_synced)
            return
        wait_ms = self._expirer.wait_ms(log_clock_ms, last_clock_ms, next_deadline_ms)
        if wait_ms is not None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(min(wait_ms, _EXPIRY_LOOK_MS_MAX) / 1000, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self.expire()

    def _on_synced(self, _outcome: Written | EtcdError) -> None:
        self._expirer.applied()
