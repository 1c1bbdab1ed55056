"""What a member does around each step of its core: requests go in before, and what is committed is applied after.

`RaftLoop` carries out what a step owes to disk and network; the rest of its effects ends here.
"""

import asyncio
from typing import final

from kvraft import clock, logs
from kvraft.member.applier import Applier
from kvraft.member.chores import Chores
from kvraft.member.cluster import Cluster
from kvraft.member.disk_watch import DiskWatch
from kvraft.member.durable_state import DurableState
from kvraft.member.failure import Failure
from kvraft.member.forwarding import Forwarding
from kvraft.member.handover import Handover
from kvraft.member.interfaces import Transport
from kvraft.member.membership_watch import MembershipWatch
from kvraft.member.raft_loop import RaftLoop
from kvraft.member.reconfiguration import Reconfiguration
from kvraft.member.requests import Requests
from kvraft.member.settings import MemberSettings
from kvraft.member.stats import SLOW_APPLY_MS, ServerStats
from kvraft.raft.effects import Effects, ProposalRefusalReason, Role, RoleChange

log = logs.get(__name__)


@final
class Steps:
    """Told by `RaftLoop` of each step, and by `Applier` of each slice."""

    def __init__(
        self,
        cluster: Cluster,
        loop: RaftLoop,
        transport: Transport,
        applier: Applier,
        durable: DurableState,
        requests: Requests,
        forwarding: Forwarding,
        chores: Chores,
        handover: Handover,
        disk: DiskWatch,
        stats: ServerStats,
        reconfiguration: Reconfiguration,
        membership_watch: MembershipWatch,
        failure: Failure,
        settings: MemberSettings,
    ) -> None:
        self._cluster = cluster
        self._loop = loop
        self._raft = loop.raft
        self._transport = transport
        self._applier = applier
        self._durable = durable
        self._requests = requests
        self._forwarding = forwarding
        self._chores = chores
        self._handover = handover
        self._disk = disk
        self._stats = stats
        self._reconfiguration = reconfiguration
        self._membership_watch = membership_watch
        self._failure = failure
        self._settings = settings
        self._apply_scheduled = False

    def before_step(self, now_ms: int) -> None:
        """Route new requests and start a read round with this step."""
        if self._raft.role is Role.LEADER:
            late_ms = now_ms - self._raft.next_deadline_ms
            self._stats.late_heartbeats += late_ms >= self._settings.heartbeat_interval_ms
        writes = self._requests.writes
        if writes.fencing.is_clear(self._applier.position.index):
            writes.resend_lost()
        for proposal in writes.route(self._raft, self._transport):
            self._loop.add(proposal)
        reads = self._requests.reads
        if reads.wants_round() and self._raft.leader_id:
            self._loop.add(reads.start_round())

    def after_step(self, effects: Effects, now_ms: int) -> None:
        """Carry out everything but persistence and messages."""
        if effects.divergence is not None:
            where, detail = effects.divergence.index, effects.divergence.detail
            self._failure.tell(f"log diverges from a peer's at index {where}: {detail}")
            return
        if effects.persist is not None:
            self._disk.wrote(effects.persist.entries)
        for server in effects.corrupt_from:
            log.error("an entry did not fit its own hash and was dropped", peer=self._cluster.peer_name(server))
        if effects.role_change is not None:
            self._on_role_change(effects.role_change, now_ms)
        self._end_proposals(effects)
        if effects.committed:
            self._applier.enqueue(effects.committed)
            if not self._apply_scheduled:
                self._apply()
        for ready in effects.reads_ready:
            self._requests.reads.ready(ready, self._applier.position.index)
        for read_id in effects.reads_failed:
            self._requests.reads.failed(read_id)
        for wanted in effects.send_snapshots:
            self._durable.send_snapshot(wanted)
        if effects.install is not None:
            self._durable.install(effects.install)
        if effects.configuration is not None:
            self._membership_watch.follow()
        if self._reconfiguration.is_due or effects.role_change is not None:
            self._reconfiguration.look(now_ms)

    def _on_role_change(self, change: RoleChange, now_ms: int) -> None:
        own = self._cluster.own
        self._stats.on_role_change(change)
        self._handover.look_again()
        self._chores.start_anew()
        if change.leader_id:
            self._requests.on_leader(now_ms)
            log.info(
                "leader elected" if change.leader_id != own.member_id else "became leader",
                member=own.name,
                term=change.term,
                leader=self._cluster.peer_name(change.leader_id),
            )
            self._loop.wake()
        else:
            log.info("no leader", member=own.name, term=change.term, role=str(change.role))
        if change.role is Role.LEADER:
            self._chores.expire()

    def _end_proposals(self, effects: Effects) -> None:
        """Every proposal of the step is in the log or refused."""
        for refused in effects.refused:
            self._on_refused_proposal(refused.token, refused.reason)
        for from_member, fenced in self._forwarding.end_step(self._raft):
            self._transport.send(from_member, (fenced,))

    def _on_refused_proposal(self, token: int, reason: ProposalRefusalReason) -> None:
        refusal = self._forwarding.refusal(token, reason)
        if refusal is not None:
            from_member, frame = refusal
            self._transport.send(from_member, (frame,))
            return
        self._requests.writes.refused(token, reason)

    # -- applying -----------------------------------------------------------------------------------------------

    def _apply(self) -> None:
        self._apply_scheduled = False
        if self._failure.reason.done():
            return
        started_ms = clock.monotonic_ms()
        try:
            more = self._applier.apply_slice()
        except Exception as error:
            self._failure.tell(f"applying entry {self._applier.position.index + 1} failed: {error!r}")
            raise
        self._stats.slow_applies += clock.monotonic_ms() - started_ms > SLOW_APPLY_MS
        if more:
            self._apply_scheduled = True
            asyncio.get_running_loop().call_soon(self._apply)

    def on_applied(self, index: int) -> None:
        """Feed the core, answer the reads that waited for this."""
        self._loop.applied(index)
        self._requests.reads.applied(index)
        if self._requests.writes.fencing.in_doubt:
            self._loop.wake()
        self._chores.applied()
        if self._membership_watch.look():
            self._reconfiguration.look(clock.monotonic_ms())
        if self._raft.role is Role.LEADER:
            self._chores.expire()

    def on_later_term(self, term: int) -> None:
        """Propose anew what was given to leaders of earlier terms and certainly was not committed."""
        self._requests.writes.later_term(term)
        self._chores.start_anew()
        self._loop.wake()
