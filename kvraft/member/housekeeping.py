"""What is looked at ten times a second, because nothing tells when it is due."""

import asyncio
import gc
from typing import Final, final

from kvraft import clock
from kvraft.member import outcomes
from kvraft.member.applier import Applier
from kvraft.member.backups import Backups
from kvraft.member.chores import Chores
from kvraft.member.cluster import Cluster
from kvraft.member.disk_watch import DiskWatch
from kvraft.member.durable_state import DurableState
from kvraft.member.failure import Failure
from kvraft.member.figures import Figures
from kvraft.member.forwarding import Forwarding
from kvraft.member.garbage import FullCollections, GivingBack, anonymous_bytes, collect_young
from kvraft.member.interfaces import Transport
from kvraft.member.join_watch import JoinWatch
from kvraft.member.known_members import KnownMembers
from kvraft.member.leader_watch import LeaderWatch
from kvraft.member.leaving import Leaving
from kvraft.member.membership_watch import MembershipWatch
from kvraft.member.peer_memory import PeerMemory
from kvraft.member.peer_port import PeerPort
from kvraft.member.raft_loop import RaftLoop
from kvraft.member.rebuild_watch import RebuildWatch
from kvraft.member.reconfiguration import Reconfiguration
from kvraft.member.replacement import Replacement
from kvraft.member.requests import Requests
from kvraft.member.settings import MemberSettings
from kvraft.member.waiters import Waiter
from kvraft.raft.effects import Role
from kvraft.raft.inputs import TransferLeadership

_EVERY_S: Final = 0.1


@final
class Housekeeping:
    """Requests whose time is over, chores, flushes, the disk, what peers hold, what the operator should hear."""

    def __init__(
        self,
        cluster: Cluster,
        loop: RaftLoop,
        transport: Transport,
        applier: Applier,
        durable: DurableState,
        backups: Backups,
        requests: Requests,
        forwarding: Forwarding,
        chores: Chores,
        peers: PeerPort,
        memory: PeerMemory,
        disk: DiskWatch,
        figures: Figures,
        rebuild_watch: RebuildWatch,
        join_watch: JoinWatch,
        replacement: Replacement,
        known_members: KnownMembers,
        membership_watch: MembershipWatch,
        reconfiguration: Reconfiguration,
        leaving: Leaving,
        failure: Failure,
        settings: MemberSettings,
    ) -> None:
        self._own_id = cluster.own.member_id
        self._loop = loop
        self._transport = transport
        self._applier = applier
        self._durable = durable
        self._backups = backups
        self._requests = requests
        self._forwarding = forwarding
        self._chores = chores
        self._peers = peers
        self._memory = memory
        self._disk = disk
        self._figures = figures
        self._rebuild_watch = rebuild_watch
        self._join_watch = join_watch
        self._replacement = replacement
        self._known_members = known_members
        self._membership_watch = membership_watch
        self._reconfiguration = reconfiguration
        self._leaving = leaving
        self._leader_watch = LeaderWatch(loop.raft, cluster, transport.is_connected)
        self._failure = failure
        self._settings = settings
        self._disk_was_full = False
        self._full_collections = FullCollections(clock.monotonic_ms())
        self._giving_back = GivingBack(clock.monotonic_ms(), anonymous_bytes)
        self._task: asyncio.Task[None] | None = None
        self._stopped = False

    def start(self) -> None:
        """From now on."""
        self._task = asyncio.get_running_loop().create_task(self._keep_house())
        self._task.add_done_callback(self._on_ended)

    def stop(self) -> None:
        """No look after this."""
        self._stopped = True
        if self._task is not None:
            self._task.cancel()

    async def _keep_house(self) -> None:
        looked_ms = clock.monotonic_ms()
        while True:
            await asyncio.sleep(_EVERY_S)
            now_ms = clock.monotonic_ms()
            self._figures.stalled(now_ms - looked_ms - int(_EVERY_S * 1000))
            looked_ms = now_ms
            try:
                self.look_around(now_ms)
            except Exception as error:
                self._failure.tell_of(error)
                raise

    def _on_ended(self, _task: asyncio.Task[None]) -> None:
        """An exception has stopped the member already; a stray cancellation must not leave it without time-outs."""
        if not self._stopped and not self._failure.reason.done():
            self._failure.tell("internal error: housekeeping has ended by itself")

    def look_around(self, now_ms: int) -> None:
        """One look at everything."""
        self._requests.end_overdue(now_ms, self._timeout_cause)
        self._chores.publish()
        self._durable.look_around(now_ms)
        self._backups.look(now_ms)
        self._chores.expire()
        self._remember_peers(now_ms)
        self._watch_disk()
        for member_id, refusals in self._forwarding.take_owed(self._transport.is_connected, now_ms):
            self._transport.send(member_id, refusals)
        self._rebuild_watch.look(now_ms)
        self._join_watch.look(now_ms)
        self._replacement.look(now_ms)
        self._known_members.look()
        self._leader_watch.look(now_ms)
        self._membership_watch.look()
        self._membership_watch.look_ahead()
        self._reconfiguration.look(now_ms)
        self._leaving.look(now_ms)
        self._requests.writes.release()
        if self._requests.wants_leader():
            self._loop.wake()
        self._clear_memory(now_ms)

    def _remember_peers(self, now_ms: int) -> None:
        if self._failure.reason.done() or self._disk.is_exhausted:
            return
        held = self._memory.look_around(now_ms)
        if held is not None:
            self._peers.tell_others(held)

    def _watch_disk(self) -> None:
        self._disk.scrub()
        self._disk.look()
        if self._disk.is_full and not self._disk_was_full and self._loop.raft.role is Role.LEADER:
            self._loop.put(TransferLeadership(0))  # once: the others' disks may be full as well
        self._disk_was_full = self._disk.is_full

    def _clear_memory(self, now_ms: int) -> None:
        applied_index = self._applier.position.index
        collect_young()
        if self._full_collections.is_due(applied_index, now_ms):
            gc.collect()
        if self._giving_back.is_due(applied_index, now_ms):
            self._durable.give_back(idle=self._giving_back.is_idle(now_ms))

    def _timeout_cause(self, waiter: Waiter) -> bytes:
        """As etcd tells them apart (server/v2_server: parseProposeCtxErr)."""
        elected_ms = self._requests.leader_elected_ms
        if elected_ms - 2 * self._settings.election_timeout_ms < waiter.started_ms < elected_ms:
            return outcomes.TIMED_OUT_LEADER_LOST
        leader_id = self._loop.raft.leader_id
        if leader_id not in {0, self._own_id} and not self._transport.is_connected(leader_id):
            return outcomes.TIMED_OUT_CONNECTION_LOST
        return outcomes.TIMED_OUT
