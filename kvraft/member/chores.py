"""Commands that no client asked for: what a member publishes about itself, what a leader settles, and the syncs."""

import asyncio
from collections.abc import Callable
from typing import Protocol, final

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


class Submitter(Protocol):
    """The member, as it takes requests."""

    def submit(self, command: Command, done: Callable[[Written | EtcdError], None]) -> None:
        """Replicate a command."""
        ...

    def log_clock_ms(self) -> int:
        """The log clock now."""
        ...


@final
class Chores:
    """One command of each kind is under way at a time; whatever fails is still to be done and goes out again."""

    def __init__(self, cluster: Cluster, raft: Raft, applier: Applier, member: Submitter, idle_sync_ms: int) -> None:
        self._cluster = cluster
        self._raft = raft
        self._applier = applier
        self._member = member
        self._expirer = Expirer(idle_sync_ms)
        self._timer: asyncio.TimerHandle | None = None
        self._publishing = False
        self._led_since: float | None = None
        """By the event loop's clock; None: no leader, or it has not looked yet."""

    def start_anew(self) -> None:
        """Another leader or term: what was under way may be lost."""
        self._publishing = False
        self._led_since = None
        self._expirer.reset()

    def stop(self) -> None:
        """No chore after this."""
        self._publishing = True
        if self._timer is not None:
            self._timer.cancel()

    def publish(self) -> None:
        """Submit what this member has to publish, or a leader to settle, if anything."""
        if self._publishing or not self._raft.leader_id:
            return
        keyspace = self._applier.keyspace
        command = self._cluster.unpublished(keyspace)
        if command is None and self._raft.role is Role.LEADER:
            now = asyncio.get_running_loop().time()
            if self._led_since is None:
                self._led_since = now
            command = self._cluster.leader_duty(keyspace, now - self._led_since)
        if command is not None:
            self._publishing = True
            self._member.submit(command, self._on_published)

    def _on_published(self, _outcome: Written | EtcdError) -> None:
        self._publishing = False

    def expire(self) -> None:
        """On a leader: submit a sync if a key is due, otherwise look again when one will be."""
        if self._timer is not None or self._raft.role is not Role.LEADER:
            return
        next_deadline_ms = self._applier.keyspace.next_deadline_ms()
        if next_deadline_ms is None:
            return
        log_clock_ms = self._member.log_clock_ms()
        last_clock_ms = self._applier.position.clock_ms
        sync = self._expirer.due(log_clock_ms, last_clock_ms, next_deadline_ms)
        if sync is not None:
            self._member.submit(sync, self._on_synced)
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
