"""What the HTTP API asks of the member behind it. `member.client_port.ClientPort` satisfies this; tests pass fakes."""

import abc
from collections.abc import Callable, Sequence
from typing import Protocol

from kvraft.keyspace.commands import Command
from kvraft.keyspace.errors import EtcdError
from kvraft.keyspace.keyspace import Keyspace
from kvraft.keyspace.watchers import WatcherHub
from kvraft.records import BackupCopy, BackupRefused, MemberRecord, Written

__all__ = ["Abandon", "Backend", "Clocked", "MemberRecord", "Written"]

Abandon = Callable[[], None]
"""Says that nobody waits for an answer any more. Nothing once the answer is there."""


class Clocked(Protocol):
    """Time as answers show it."""

    def wall_ns(self) -> int:
        """Unix nanoseconds, for `expiration`."""
        ...

    def log_clock_ms(self) -> int:
        """The log clock now, as far as this member knows it; `ttl` in a GET counts from it."""
        ...


class Backups(Protocol):
    """Copies of the state, as files that clients fetch."""

    def take(self, *, with_history: bool, done: Callable[[BackupCopy | BackupRefused], None]) -> Abandon:
        """Make a copy of what is applied here, and call `done` once, never from inside this call.

        Returns what to call if nobody waits for it any more: it is given up.
        """
        ...

    def find(self, copy_id: str) -> BackupCopy | None:
        """A copy that is here still."""
        ...

    def opened(self, copy: BackupCopy) -> None:
        """Somebody reads it: it stays until that is `closed`."""
        ...

    def closed(self, copy: BackupCopy, *, to_its_end: bool) -> None:
        """And no longer."""
        ...


class Backend(Clocked, Protocol):
    """One member. Everything here is called on the event loop."""

    @property
    @abc.abstractmethod
    def keyspace(self) -> Keyspace:
        """The applied state, for local reads."""

    @property
    @abc.abstractmethod
    def watchers(self) -> WatcherHub:
        """Where watches are opened."""

    @property
    @abc.abstractmethod
    def backups(self) -> Backups:
        """Where copies of the state are made."""

    @property
    @abc.abstractmethod
    def raft_index(self) -> int:
        """Applied log index (`X-Raft-Index`)."""

    @property
    @abc.abstractmethod
    def raft_term(self) -> int:
        """The server's current term (`X-Raft-Term` of reads)."""

    @property
    @abc.abstractmethod
    def cluster_id(self) -> int:
        """The cluster's id, as etcd computes it (`X-Etcd-Cluster-Id`)."""

    @property
    @abc.abstractmethod
    def member_id(self) -> int:
        """This member's id."""

    @property
    @abc.abstractmethod
    def leader_id(self) -> int:
        """0 while no leader is known."""

    @property
    @abc.abstractmethod
    def is_disk_full(self) -> bool:
        """Whether this member refuses clients' writes for want of space: etcd's alarm NOSPACE."""

    @property
    @abc.abstractmethod
    def name(self) -> str:
        """This member's name."""

    @abc.abstractmethod
    def members(self) -> Sequence[MemberRecord]:
        """Every member of the cluster, by ascending id."""

    @abc.abstractmethod
    def cluster_version(self) -> str:
        """`3.4.0`, or empty while not decided."""

    @abc.abstractmethod
    def submit(self, command: Command, done: Callable[[Written | EtcdError], None]) -> Abandon:
        """Replicate a command and call `done` exactly once, never from inside this call; what it raises is logged.

        `done` gets an `EtcdError` RAFT_INTERNAL (index 0) when the outcome is unknown or there is no quorum within
        the request timeout; `Written` when this member has applied it.

        Returns what to call if nobody waits for the answer any more: `done` is let go of and never called, while the
        command may still be done.
        """

    @abc.abstractmethod
    def change_members(self, command: Command, done: Callable[[Written | EtcdError], None]) -> Abandon:
        """`submit` for a change of the members, judged (`Authorized`) or not.

        `done` gets an `EtcdError` as well if it would put the cluster at risk (`--strict-reconfig-check`).
        """

    @abc.abstractmethod
    def read_barrier(self, done: Callable[[EtcdError | None], None]) -> Abandon:
        """Call `done(None)` once local reads are linearizable from this call on (ReadIndex), or with the error.

        Returns what to call if nobody waits any more, as `submit` does.
        """

    @abc.abstractmethod
    def status(self) -> dict[str, object]:
        """/v2/kvraft/status: this member's place, its indices, and how it is."""

    @abc.abstractmethod
    def self_stats(self) -> dict[str, object]:
        """/v2/stats/self, in etcd's field order."""

    @abc.abstractmethod
    def leader_stats(self) -> dict[str, object] | None:
        """/v2/stats/leader, or None on a follower."""
