"""What clients ask of a member: writes, reads that are linearizable, and what it shows of itself and its cluster."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Final, final, get_args

from kvraft import clock, logs
from kvraft.keyspace.account_commands import AccountCommand
from kvraft.keyspace.command_codec import encode_command
from kvraft.keyspace.commands import Authorized, Command, MembershipCommand
from kvraft.keyspace.errors import EtcdError
from kvraft.keyspace.keyspace import Keyspace
from kvraft.keyspace.watchers import WatcherHub
from kvraft.member import outcomes
from kvraft.member.applier import Applier
from kvraft.member.backups import Backups
from kvraft.member.cluster import Cluster
from kvraft.member.disk_watch import DiskWatch
from kvraft.member.raft_loop import RaftLoop
from kvraft.member.requests import Requests
from kvraft.member.stats import ServerStats
from kvraft.member.status import Status
from kvraft.member.strict_check import StrictCheck
from kvraft.member.waiters import Waiter
from kvraft.raft.effects import Role
from kvraft.raft.inputs import SnapshotInstalled
from kvraft.raft.restored import LogPosition
from kvraft.records import MemberRecord, Written

_UNKNOWN_TO_OLDER: Final = frozenset((*get_args(MembershipCommand), *get_args(AccountCommand)))
"""The types of what members of the first protocol stop at: every write is asked whether it is one."""

log = logs.get(__name__)


@final
class ClientPort:
    """Satisfies `api_v2.backend.Backend`."""

    def __init__(
        self,
        cluster: Cluster,
        loop: RaftLoop,
        applier: Applier,
        requests: Requests,
        disk: DiskWatch,
        stats: ServerStats,
        strict_check: StrictCheck | None,
        newest_protocol: Callable[[int], int],
    ) -> None:
        """Without a strict check every change of the members that can be is made."""
        self._cluster = cluster
        self._strict_check = strict_check
        self._newest_protocol = newest_protocol
        self._loop = loop
        self._raft = loop.raft
        self._applier = applier
        self._requests = requests
        self._disk = disk
        self._stats = stats
        self._stopped = False
        self.backups: Backups
        """Copies of the state; set once there is what makes them."""
        self.status: Status
        """Called for what it shows; set once there is what it shows."""

    # -- writes and reads ---------------------------------------------------------------------------------------

    def submit(self, command: Command, done: Callable[[Written | EtcdError], None]) -> Callable[[], None]:
        """Replicate a command; `done` is called exactly once, never from inside this call, unless it is abandoned."""
        refusal = self._refusal(command)
        if refusal is not None:
            return asyncio.get_running_loop().call_soon(outcomes.tell, done, outcomes.internal_error(refusal)).cancel
        waiter = self._requests.writes.add(encode_command(command), done, clock.monotonic_ms())
        self._loop.wake()
        return partial(self._abandon_write, waiter)

    def _abandon_write(self, waiter: Waiter) -> None:
        self._requests.writes.abandon(waiter)
        self._loop.wake()

    def change_members(self, command: Command, done: Callable[[Written | EtcdError], None]) -> Callable[[], None]:
        """`submit` for a change of the members, unless the strict check is against it."""
        change = command.command if isinstance(command, Authorized) else command
        assert isinstance(change, MembershipCommand), "what changes the members is such a command"
        risk = None if self._strict_check is None else self._strict_check.risk_of(change)
        if risk is None:
            return self.submit(command, done)
        log.warning("change of the members refused", member=self.name, change=type(change).__name__, risk=risk)
        refusal = outcomes.internal_error(risk.encode())
        return asyncio.get_running_loop().call_soon(outcomes.tell, done, refusal).cancel

    def _refusal(self, command: Command) -> bytes | None:
        """Why a command is not taken now."""
        if self._stopped:
            return outcomes.STOPPED
        if self._requests.is_full():
            return outcomes.TOO_MANY_REQUESTS
        if self._disk.refuses(command):
            return outcomes.NO_SPACE
        if type(command) in _UNKNOWN_TO_OLDER:
            older = self._cluster.older_members(self._newest_protocol)
            if older:
                names = ",".join(map(self._cluster.peer_name, older))
                log.warning("change refused: first start this version on every member", older=names)
                return outcomes.OLDER_MEMBERS
        return None

    def read_barrier(self, done: Callable[[EtcdError | None], None]) -> Callable[[], None]:
        """Call `done(None)` once local reads are linearizable from this call on, unless it is abandoned."""
        if self._stopped or self._requests.is_full():
            cause = outcomes.STOPPED if self._stopped else outcomes.TOO_MANY_REQUESTS
            return asyncio.get_running_loop().call_soon(outcomes.tell, done, outcomes.internal_error(cause)).cancel
        read = self._requests.reads.add(done, clock.monotonic_ms())
        self._loop.wake()
        return partial(self._requests.reads.abandon, read)

    def on_installed(self, keyspace: Keyspace, position: LogPosition) -> None:
        """Go on from an installed snapshot; open watches get what it holds of their events."""
        keyspace.succeed(self._applier.keyspace)
        self._requests.writes.mark_unknown()
        self._applier.replace(keyspace, position)
        self._cluster.follow(keyspace)
        self._loop.put(SnapshotInstalled(position.index))
        self._requests.reads.applied(position.index)
        keyspace.watchers.rights_changed()
        self._catch_watchers_up()

    def _catch_watchers_up(self) -> None:
        if not self._stopped and self.watchers.catch_up():
            asyncio.get_running_loop().call_soon(self._catch_watchers_up)

    def stop(self) -> None:
        """Take nothing more, and answer what still waits."""
        self._stopped = True
        self._requests.end_all(outcomes.STOPPED)
        self.backups.stop()

    # -- views --------------------------------------------------------------------------------------------------

    @property
    def keyspace(self) -> Keyspace:
        """The applied state."""
        return self._applier.keyspace

    @property
    def watchers(self) -> WatcherHub:
        """Where watches are opened."""
        return self._applier.keyspace.watchers

    @property
    def raft_index(self) -> int:
        """Applied log index."""
        return self._applier.position.index

    @property
    def raft_term(self) -> int:
        """The server's current term."""
        return self._raft.current_term

    @property
    def cluster_id(self) -> int:
        """As etcd computes it."""
        return self._cluster.cluster_id

    @property
    def member_id(self) -> int:
        """This member."""
        return self._cluster.own.member_id

    @property
    def leader_id(self) -> int:
        """0 while no leader is known."""
        return self._raft.leader_id

    @property
    def is_disk_full(self) -> bool:
        """Whether clients' writes are refused for want of space."""
        return self._disk.is_full

    @property
    def name(self) -> str:
        """This member's name."""
        return self._cluster.own.name

    def members(self) -> list[MemberRecord]:
        """Every member by ascending id."""
        return self._cluster.members()

    def cluster_version(self) -> str:
        """Empty while not decided."""
        return self._cluster.cluster_version()

    def wall_ns(self) -> int:
        """Unix nanoseconds."""
        return clock.wall_ns()

    def log_clock_ms(self) -> int:
        """The log clock now, as far as this member knows it."""
        return self._raft.log_clock_ms(clock.monotonic_ms())

    def self_stats(self) -> dict[str, object]:
        """/v2/stats/self."""
        return self._stats.self_stats(self._raft.role, self._raft.leader_id)

    def leader_stats(self) -> dict[str, object] | None:
        """/v2/stats/leader, None on a follower."""
        if self._raft.role is not Role.LEADER:
            return None
        return self._stats.leader_stats(self._cluster.member_ids())
