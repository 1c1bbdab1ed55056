"""One running member: its life, and how its parts are joined. Each part has a file of its own (`kvraft.member`).

Everything here runs on the event loop; only storage has threads.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import final

from kvraft import clock, logs
from kvraft.keyspace.keyspace import Keyspace
from kvraft.member.applier import Applier
from kvraft.member.backups import Backups
from kvraft.member.chores import Chores
from kvraft.member.client_port import ClientPort
from kvraft.member.cluster import Cluster
from kvraft.member.disk_watch import DiskWatch
from kvraft.member.durable_state import DurableState
from kvraft.member.failure import Failure
from kvraft.member.figures import Figures
from kvraft.member.flush_turns import FlushTurns
from kvraft.member.forwarding import Forwarding
from kvraft.member.handover import Handover
from kvraft.member.housekeeping import Housekeeping
from kvraft.member.interfaces import IdentityStore, LogStore, StateStore, Transport
from kvraft.member.join_watch import JoinWatch
from kvraft.member.known_members import KnownMembers, NoIdentity
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
from kvraft.member.stats import ServerStats
from kvraft.member.status import Status
from kvraft.member.steps import Steps
from kvraft.member.strict_check import StrictCheck
from kvraft.metrics import Metrics
from kvraft.raft.configuration import Configuration
from kvraft.raft.core import Raft

log = logs.get(__name__)


@final
class Member:
    """Joins core, storage, transport and keyspace."""

    def __init__(
        self,
        *,
        raft: Raft,
        keyspace: Keyspace,
        cluster: Cluster,
        memory: PeerMemory,
        log_store: LogStore,
        state_store: StateStore,
        transport: Transport,
        settings: MemberSettings,
        configuration: Configuration,
        load_keyspace: Callable[[], Awaitable[Keyspace]],
        free_bytes: Callable[[], int],
        boot_nonce: int,
        identity: IdentityStore | None = None,
        replaces: int = 0,
    ) -> None:
        """`identity` is None where no later start reads one; `replaces` is whom this member removes, 0 for nobody."""
        identity = identity or NoIdentity()
        own = cluster.own
        self.settings = settings
        self.metrics = Metrics()
        self.failure = Failure(own.name)
        self.memory = memory
        self._raft = raft
        self._transport = transport
        self._requests = Requests(own.member_id, boot_nonce, settings)
        stats = ServerStats(own.member_id, own.name)
        slow_commit_ms = max(1, settings.heartbeat_interval_ms // 2)
        self.loop = RaftLoop(raft, log_store, transport, clock.monotonic_ms, stats, self.failure, slow_commit_ms)
        applier = Applier(
            keyspace,
            state_store.position,
            configuration,
            self._requests.writes,
            clock.monotonic_ms,
            settings.apply_slice_ms,
        )
        disk = DiskWatch(log_store, free_bytes, applier.owed_bytes, settings.uncommitted_bytes_max)
        strict_check = StrictCheck(cluster, transport.is_connected) if settings.strict_reconfig_check else None
        self.clients = ClientPort(
            cluster, self.loop, applier, self._requests, disk, stats, strict_check, transport.newest_protocol
        )
        self._durable = DurableState(
            applier,
            log_store,
            state_store,
            transport,
            self.loop,
            settings,
            self.clients.on_installed,
            self.failure,
            load_keyspace,
            disk.has_room,
            FlushTurns(own.member_id, settings, clock.monotonic_ms()),
        )
        self.clients.status = Status(cluster, raft, applier, log_store, state_store, transport, disk, stats)
        self.clients.backups = Backups(cluster, self._durable, state_store, self.clients.log_clock_ms)
        self._chores = Chores(
            cluster,
            raft,
            applier,
            self.clients.submit,
            self.clients.log_clock_ms,
            settings.idle_sync_ms,
            transport.newest_protocol,
        )
        self._handover = Handover(own.name, self.loop, transport.is_connected, settings.election_timeout_ms)
        self._membership_watch = MembershipWatch(cluster, raft, applier, transport)

        def can_be_counted_on(member_id: int) -> bool:
            return transport.is_connected(member_id) and not memory.has_forgotten(member_id)

        reconfiguration = Reconfiguration(cluster, self.loop, can_be_counted_on, settings.election_timeout_ms)
        leaving = Leaving(cluster, raft, self.failure, settings.election_timeout_ms)
        forwarding = Forwarding(disk.refuses, settings.request_timeout_ms)
        self.peers = PeerPort(
            cluster,
            self.loop,
            transport,
            memory,
            self._requests,
            forwarding,
            self._handover,
            disk,
            stats,
            leaving,
            self.failure,
        )
        figures = Figures(self.metrics, own.member_id, raft, applier, self._requests, stats, self._durable, disk)
        self.metrics.before_scrape.append(figures.measure)
        self._rebuild_watch = RebuildWatch(raft, cluster)
        self._join_watch = JoinWatch(raft, cluster)
        self._housekeeping = Housekeeping(
            cluster,
            self.loop,
            transport,
            applier,
            self._durable,
            self.clients.backups,
            self._requests,
            forwarding,
            self._chores,
            self.peers,
            memory,
            disk,
            figures,
            self._rebuild_watch,
            self._join_watch,
            Replacement(cluster, applier, self.clients.submit, replaces, identity.forget_replaced),
            KnownMembers(cluster, self._membership_watch, identity),
            self._membership_watch,
            reconfiguration,
            leaving,
            self.failure,
            settings,
        )
        steps = Steps(
            cluster,
            self.loop,
            transport,
            applier,
            self._durable,
            self._requests,
            forwarding,
            self._chores,
            self._handover,
            disk,
            stats,
            reconfiguration,
            self._membership_watch,
            self.failure,
            settings,
        )
        # Loop and applier were made before what they lead to: here the circle closes.
        self.loop.before_step, self.loop.after_step = steps.before_step, steps.after_step
        applier.on_later_term, applier.on_applied = steps.on_later_term, steps.on_applied
        applier.on_state_hash = self.peers.on_own_hash

    async def start(self) -> None:
        """Connect to the peers and wait until clients may be served.

        That is once the commit index that the first leader names is applied here, so that no index goes back on a
        member across its restart, and once nothing is to be published any more, so that clients find members and
        no index moves between their writes; or after a while without a leader, as a member in a minority serves too.
        A member that lost its data serves nothing before it has everything back, nor one that comes to the cluster
        before it has caught up.
        """
        self._membership_watch.follow()
        await self._transport.start(self.peers)
        self.loop.wake()
        self._housekeeping.start()
        await self._rebuild_watch.ended.wait()
        await self._join_watch.ended.wait()
        name = self.clients.name
        if not await self._is_caught_up():
            log.warning("serving without a leader", member=name)
            return
        try:
            async with asyncio.timeout(self.settings.request_timeout_ms / 1000):
                await self._chores.settle()
        except TimeoutError:
            log.warning("serving before this member is published and the cluster has its version", member=name)

    async def _is_caught_up(self) -> bool:
        """Whether a leader says within three election timeouts that what is applied here is what it has committed.

        A member of a cluster that has no version yet has nothing to serve, and waits as long as a request does.
        """
        answer = self._barrier()
        while self._join_watch.is_newcomer:
            if await answer:
                return True
            answer = self._barrier()
        try:
            async with asyncio.timeout(3 * self.settings.election_timeout_ms / 1000):
                return await asyncio.shield(answer)
        except TimeoutError:
            return not self.clients.cluster_version() and await answer

    def _barrier(self) -> asyncio.Future[bool]:
        """Whether a leader answers a read barrier within the time of a request."""
        answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.clients.read_barrier(lambda error: None if answer.done() else answer.set_result(error is None))
        return answer

    async def transfer_leadership(self) -> None:
        """Hand leadership over if this server has it and somebody can take it; one election timeout at most."""
        await self._handover.run()

    def last_requests_s(self) -> float:
        """How long a stop waits for requests under way: they are committed within a moment, or not before it is over.

        Without a leader not at all, as etcd does not; otherwise until another leader can be there.
        """
        return self.settings.election_timeout_ms / 1000 if self._raft.leader_id else 0

    async def stop(self) -> None:
        """Answer what still waits, flush the state, and release network and disk."""
        self.loop.stop()
        self._housekeeping.stop()
        self._chores.stop()
        self.clients.stop()
        await self._transport.stop()
        if not self.failure.reason.done():
            await self._durable.final_flush()
