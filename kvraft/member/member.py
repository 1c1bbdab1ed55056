"""One running member: the way of a write through this file is the list in docs/architecture.md.

`submit` -> waiter -> router -> core (`RaftLoop`) -> disk and peers -> committed -> applier -> answer and watchers.
Everything here runs on the event loop; only storage has threads.
"""

import asyncio
import gc
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import final

from kvraft import clock, logs
from kvraft.keyspace.command_codec import encode_command
from kvraft.keyspace.commands import Command
from kvraft.keyspace.errors import EtcdError
from kvraft.keyspace.keyspace import Keyspace
from kvraft.keyspace.watchers import WatcherHub
from kvraft.member import outcomes
from kvraft.member.applier import Applier
from kvraft.member.chores import Chores
from kvraft.member.cluster import Cluster
from kvraft.member.disk_watch import DiskWatch
from kvraft.member.durable_state import DurableState
from kvraft.member.figures import Figures
from kvraft.member.forwarding import Forwarding
from kvraft.member.garbage import FullCollections, GivingBack, anonymous_bytes
from kvraft.member.handover import Handover
from kvraft.member.interfaces import (
    ForwardedCommand,
    ForwardRefused,
    Frame,
    LogStore,
    MatchIndices,
    StateHash,
    StateStore,
    Transport,
)
from kvraft.member.leader_watch import LeaderWatch
from kvraft.member.peer_memory import PeerMemory
from kvraft.member.raft_loop import RaftLoop
from kvraft.member.rebuild_watch import RebuildWatch
from kvraft.member.requests import Requests
from kvraft.member.settings import MemberSettings
from kvraft.member.state_hashes import StateHashes
from kvraft.member.stats import SLOW_APPLY_MS, ServerStats
from kvraft.member.waiters import REQUEST_ID_BYTES, Waiter
from kvraft.metrics import Metrics
from kvraft.peer_frames import GreetingRefusalReason, GreetingRefused, PeerHello
from kvraft.raft.configuration import Configuration
from kvraft.raft.core import Raft
from kvraft.raft.effects import Effects, ProposalRefusalReason, Role, RoleChange
from kvraft.raft.entries import Entry
from kvraft.raft.inputs import (
    PeerConnected,
    PeerDisconnected,
    PeerUnreachable,
    Propose,
    Received,
    SnapshotInstalled,
    TransferLeadership,
)
from kvraft.raft.messages import AppendEntries, AppendEntriesReply, InstallSnapshot, Message
from kvraft.raft.restored import LogPosition
from kvraft.records import MemberRecord, Written

_HOUSEKEEPING_S = 0.1
"""How often what is not urgent is looked at: publishing, flushing, remembering peers."""

log = logs.get(__name__)


@final
class Member:
    """Joins core, storage, transport and keyspace; satisfies `api_v2.backend.Backend`."""

    def __init__(
        self,
        *,
        raft: Raft,
        keyspace: Keyspace,
        cluster: Cluster,
        log_store: LogStore,
        state_store: StateStore,
        make_transport: Callable[["Member"], Transport],
        settings: MemberSettings,
        configuration: Configuration,
        load_keyspace: Callable[[], Awaitable[Keyspace]],
        free_bytes: Callable[[], int],
        created_now: bool,
        boot_nonce: int,
    ) -> None:
        self.settings = settings
        self.cluster = cluster
        self.failure: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        """Resolves with the reason when the member cannot go on; its process must end then."""
        self.rebuild_helps = False
        """Whether that reason is its data, which the other members have: it can begin anew with `--rebuild`."""
        self._raft = raft
        self.metrics = Metrics()
        transport = self._transport = make_transport(self)
        self._requests = Requests(cluster.own.member_id, boot_nonce, settings)
        self._applier = Applier(
            keyspace,
            state_store.position,
            configuration,
            self._requests.writes,
            self.on_applied,
            self.on_later_term,
            self.on_state_hash,
            clock.monotonic_ms,
            settings.apply_slice_ms,
        )
        slow_commit_ms = max(1, settings.heartbeat_interval_ms // 2)
        self._loop = RaftLoop(
            raft,
            log_store,
            transport,
            clock.monotonic_ms,
            self.before_step,
            self.after_step,
            self.on_append_sent,
            self.fail,
            slow_commit_ms,
        )
        self._handover = Handover(cluster.own.name, self._loop, transport.is_connected, settings.election_timeout_ms)
        self._durable = DurableState(
            self._applier,
            log_store,
            state_store,
            transport,
            self._loop,
            settings,
            self.failure,
            self.fail,
            load_keyspace,
            self.on_installed,
            self._has_room,
        )
        self._memory = PeerMemory(
            cluster.cluster_id,
            cluster.own.member_id,
            raft,
            log_store,
            created_now=created_now,
        )
        self._disk = DiskWatch(log_store, free_bytes, self._durable.owed_bytes, settings.uncommitted_bytes_max)
        self._rebuilding = RebuildWatch(raft, cluster)
        self._leader = LeaderWatch(raft, cluster, transport.is_connected)
        self._chores = Chores(cluster, raft, self._applier, self.submit, self.log_clock_ms, settings.idle_sync_ms)
        self._disk_was_full = False
        self._forwarding = Forwarding(self._disk.refuses, settings.request_timeout_ms)
        self._hashes = StateHashes(len(cluster.founders) // 2 + 1)
        self._stats = ServerStats(cluster.own.member_id, cluster.own.name)
        self._figures = Figures(
            self.metrics,
            self.member_id,
            raft,
            self._applier,
            self._requests,
            self._stats,
            self._durable,
            self._disk,
        )
        self.metrics.before_scrape.append(self._figures.measure)
        self._full_collections = FullCollections(clock.monotonic_ms())
        self._giving_back = GivingBack(clock.monotonic_ms(), anonymous_bytes())
        self._leader_elected_ms = 0
        self._housekeeping: asyncio.Task[None] | None = None
        self._apply_scheduled = False
        self._stopping = False

    # -- life ---------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Connect to the peers and wait until clients may be served.

        That is once the commit index that the first leader names is applied here, so that no index goes back on a
        member across its restart, and once nothing is to be published any more, so that clients find members and
        no index moves between their writes; or after a while without a leader, as a member in a minority serves too.
        A member that lost its data serves nothing before it has everything back.
        """
        await self._transport.start(self)
        self._loop.wake()
        self._housekeeping = asyncio.get_running_loop().create_task(self._keep_house())
        self._housekeeping.add_done_callback(self._on_housekeeping_ended)
        await self._rebuilding.ended.wait()
        if not await self._is_caught_up():
            log.warning("serving without a leader", member=self.name)
            return
        try:
            async with asyncio.timeout(self.settings.request_timeout_ms / 1000):
                await self._chores.settle()
        except TimeoutError:
            log.warning("serving before this member is published and the cluster has its version", member=self.name)

    async def _is_caught_up(self) -> bool:
        """Whether a leader says within three election timeouts that what is applied here is what it has committed.

        A member of a cluster that has no version yet has nothing to serve, and waits as long as a request does.
        """
        answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.read_barrier(lambda error: None if answer.done() else answer.set_result(error is None))
        try:
            async with asyncio.timeout(3 * self.settings.election_timeout_ms / 1000):
                return await asyncio.shield(answer)
        except TimeoutError:
            return not self.keyspace.cluster_version and await answer

    async def transfer_leadership(self) -> None:
        """Hand leadership over if this server has it and somebody can take it; one election timeout at most."""
        await self._handover.run()

    async def stop(self) -> None:
        """Answer what still waits, flush the state, and release network and disk."""
        self._stopping = True
        self._loop.stop()
        if self._housekeeping is not None:
            self._housekeeping.cancel()
        self._chores.stop()
        self._requests.end_all(outcomes.STOPPED)
        await self._transport.stop()
        if not self.failure.done():
            await self._durable.final_flush()

    def fail(self, reason: str, error: Exception | None = None, *, rebuild_helps: bool = False) -> None:
        """Stop taking part at once: a member that cannot trust its disk or its state must not speak.

        `error` is what the reason tells of; storage marks those that say that data is damaged.
        """
        self._loop.stop()
        if not self.failure.done():
            self.rebuild_helps = rebuild_helps or bool(getattr(error, "rebuild_helps", False))
            log.error("the member stops", member=self.name, reason=reason)
            self.failure.set_result(reason)

    # -- api_v2.backend.Backend ---------------------------------------------------------------------------------

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
        return self.cluster.cluster_id

    @property
    def member_id(self) -> int:
        """This member."""
        return self.cluster.own.member_id

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
        return self.cluster.own.name

    def members(self) -> list[MemberRecord]:
        """Every member by ascending id."""
        return self.cluster.records(self.keyspace)

    def cluster_version(self) -> str:
        """Empty while not decided."""
        return self.keyspace.cluster_version

    def wall_ns(self) -> int:
        """Unix nanoseconds."""
        return clock.wall_ns()

    def log_clock_ms(self) -> int:
        """The log clock now, as far as this member knows it."""
        return self._raft.log_clock_ms(clock.monotonic_ms())

    def submit(self, command: Command, done: Callable[[Written | EtcdError], None]) -> None:
        """Replicate a command; `done` is called exactly once, never from inside this call."""
        refusal = self._refusal(command)
        if refusal is not None:
            asyncio.get_running_loop().call_soon(outcomes.tell, done, outcomes.internal_error(refusal))
            return
        self._requests.writes.add(encode_command(command), done, clock.monotonic_ms())
        self._loop.wake()

    def _refusal(self, command: Command) -> bytes | None:
        """Why a command is not taken now."""
        if self._stopping:
            return outcomes.STOPPED
        if self._requests.is_full():
            return outcomes.TOO_MANY_REQUESTS
        if self._disk.refuses(command):
            return outcomes.NO_SPACE
        return None

    def read_barrier(self, done: Callable[[EtcdError | None], None]) -> None:
        """Call `done(None)` once local reads are linearizable from this call on."""
        if self._stopping or self._requests.is_full():
            cause = outcomes.STOPPED if self._stopping else outcomes.TOO_MANY_REQUESTS
            asyncio.get_running_loop().call_soon(outcomes.tell, done, outcomes.internal_error(cause))
            return
        self._requests.reads.add(done, clock.monotonic_ms())
        self._loop.wake()

    def self_stats(self) -> dict[str, object]:
        """/v2/stats/self."""
        return self._stats.self_stats(self._raft.role, self._raft.leader_id)

    def leader_stats(self) -> dict[str, object] | None:
        """/v2/stats/leader, None on a follower."""
        if self._raft.role is not Role.LEADER:
            return None
        return self._stats.leader_stats(self.cluster.founders)

    def on_persisted(self, batch_id: int) -> None:
        """The log thread made a batch durable."""
        self._loop.on_persisted(batch_id)

    # -- RaftLoop -----------------------------------------------------------------------------------------------

    def before_step(self, now_ms: int) -> None:
        """Route new requests and start a read round with this step."""
        self._disk.look_if_much_was_written()
        if self._raft.role is Role.LEADER:
            late_ms = now_ms - self._raft.next_deadline_ms
            self._stats.late_heartbeats += late_ms >= self.settings.heartbeat_interval_ms
        for proposal in self._requests.writes.route(self._raft, self._transport):
            self._loop.add(proposal)
        reads = self._requests.reads
        if reads.wants_round() and self._raft.leader_id:
            self._loop.add(reads.start_round())

    def after_step(self, effects: Effects, now_ms: int) -> None:
        """Carry out everything but persistence and messages."""
        if effects.divergence is not None:
            self.fail(f"log diverges from a peer's at index {effects.divergence.index}: {effects.divergence.detail}")
            return
        for server in effects.corrupt_from:
            log.error("an entry did not fit its own hash and was dropped", peer=self.cluster.peer_name(server))
        if effects.role_change is not None:
            self._on_role_change(effects.role_change, now_ms)
        for refused in effects.refused:
            self._on_refused_proposal(refused.token, refused.reason)
        self._forwarding.end_step()
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

    def on_append_sent(self, to_server: int, entries: Sequence[Entry]) -> None:
        """Statistics."""
        self._stats.on_append_sent(to_server, entries)

    def _apply(self) -> None:
        self._apply_scheduled = False
        if self.failure.done():
            return
        started_ms = clock.monotonic_ms()
        try:
            more = self._applier.apply_slice()
        except Exception as error:
            self.fail(f"applying entry {self._applier.position.index + 1} failed: {error!r}")
            raise
        self._stats.slow_applies += clock.monotonic_ms() - started_ms > SLOW_APPLY_MS
        if more:
            self._apply_scheduled = True
            asyncio.get_running_loop().call_soon(self._apply)

    def _on_role_change(self, change: RoleChange, now_ms: int) -> None:
        self._stats.on_role_change(change)
        self._handover.look_again()
        self._chores.start_anew()
        if change.leader_id:
            self._leader_elected_ms = now_ms
            self._requests.writes.release()
            log.info(
                "leader elected" if change.leader_id != self.member_id else "became leader",
                member=self.name,
                term=change.term,
                leader=self.cluster.peer_name(change.leader_id),
            )
            self._loop.wake()
        else:
            log.info("no leader", member=self.name, term=change.term, role=str(change.role))
        if change.role is Role.LEADER:
            self._chores.expire()

    def _on_refused_proposal(self, token: int, reason: ProposalRefusalReason) -> None:
        refusal = self._forwarding.refusal(token, reason)
        if refusal is not None:
            from_member, frame = refusal
            self._transport.send(from_member, (frame,))
            return
        self._requests.writes.refused(token, reason)

    # -- Applier ------------------------------------------------------------------------------------------------

    def on_applied(self, index: int) -> None:
        """Feed the core, answer the reads that waited for this."""
        self._loop.applied(index)
        self._requests.reads.applied(index)
        self._chores.applied()
        if self._raft.role is Role.LEADER:
            self._chores.expire()

    def on_later_term(self, term: int) -> None:
        """Propose anew what was given to leaders of earlier terms and certainly was not committed."""
        self._requests.writes.later_term(term)
        self._chores.start_anew()
        self._loop.wake()

    def on_state_hash(self, index: int, state_hash: bytes) -> None:
        """Tell the others and compare with what they told."""
        self._tell_others(StateHash(index, state_hash))
        self._compare_hash(self.member_id, index, state_hash)

    def _tell_others(self, frame: Frame) -> None:
        for member_id in self.cluster.founders:
            if member_id != self.member_id:
                self._transport.send(member_id, (frame,))

    def _compare_hash(self, member_id: int, index: int, state_hash: bytes) -> None:
        disagreement = self._hashes.report(member_id, index, state_hash)
        if disagreement is None:
            return
        names = ", ".join(self.cluster.peer_name(astray) for astray in disagreement.members)
        if self.member_id in disagreement.members:
            self.fail(
                f"the state at index {disagreement.index} differs from the majority's ({names}); "
                "start this member once with --rebuild",
                rebuild_helps=True,
            )
        else:
            log.error("state of a member differs from the majority's", index=disagreement.index, peer=names)

    def on_installed(self, keyspace: Keyspace, position: LogPosition) -> None:
        """Go on from an installed snapshot; open watches get what it holds of their events."""
        keyspace.succeed(self._applier.keyspace)
        self._requests.writes.mark_unknown()
        self._applier.replace(keyspace, position)
        self._loop.put(SnapshotInstalled(position.index))
        self._requests.reads.applied(position.index)
        self._catch_watchers_up()

    def _catch_watchers_up(self) -> None:
        if not self._stopping and self.watchers.catch_up():
            asyncio.get_running_loop().call_soon(self._catch_watchers_up)

    def local_hello(self) -> PeerHello:
        """What this member says about itself to a peer."""
        return self._memory.local_hello()

    def judge(self, hello: PeerHello, instance: bytes) -> GreetingRefused | None:
        """Whether a peer may take part."""
        return self._memory.judge(hello, instance)

    # -- Transport ----------------------------------------------------------------------------------------------

    def on_frames(self, from_member: int, frames: Iterable[Frame]) -> None:
        """Hand messages to the core, forwarded commands to the log."""
        try:
            self._take_frames(from_member, frames)
        except Exception as error:
            self.fail(f"internal error: {error!r}", error)  # a frame half taken in: its stream would go on without it
            raise

    def _take_frames(self, from_member: int, frames: Iterable[Frame]) -> None:
        refused: list[Frame] = []
        for frame in frames:
            if isinstance(frame, ForwardedCommand):
                outcome = self._forwarding.propose(from_member, frame, self._raft)
                if isinstance(outcome, Propose):
                    self._loop.add(outcome)
                else:
                    refused.append(outcome)
            elif isinstance(frame, ForwardRefused):
                self._requests.writes.forward_refused(frame.request_id, frame.reason, frame.term)
            elif isinstance(frame, StateHash):
                self._compare_hash(from_member, frame.index, frame.state_hash)
            elif isinstance(frame, MatchIndices):
                self._on_match_indices(from_member, frame)
            else:
                if self._disk.is_exhausted and isinstance(frame, AppendEntries) and frame.entries:
                    continue  # as if lost: Raft repeats it, and the leader's heartbeats go on being heard
                self._count(from_member, frame)
                self._memory.saw(from_member, frame.term)
                self._loop.add(Received(from_member, frame))
        if refused:
            self._transport.send(from_member, refused)
        self._loop.wake()

    def _on_match_indices(self, from_member: int, frame: MatchIndices) -> None:
        wrong = self._memory.contradiction(frame)
        if wrong is not None:
            self.fail(f"{self.cluster.peer_name(from_member)} knows of more: {wrong}", rebuild_helps=True)
        elif not self._disk.is_exhausted:
            self._memory.remember(frame)

    def _count(self, from_member: int, message: Message) -> None:
        if isinstance(message, AppendEntries):
            if not message.notice:
                self._stats.on_append_received(message.entries)
        elif isinstance(message, AppendEntriesReply):
            self._stats.on_append_reply(from_member)

    def on_connected(self, member_id: int) -> None:
        """A peer is reachable: requests may wait for it, and a leader can be found."""
        voters = self._raft.configuration.voters
        reached = [voter for voter in voters if voter == self.member_id or self._transport.is_connected(voter)]
        higher = sum(voter > self.member_id for voter in reached)
        self._loop.put(PeerConnected(member_id, len(reached) > len(voters) // 2, higher))

    def on_disconnected(self, member_id: int) -> None:
        """A peer's process has gone or went silent."""
        self._loop.put(PeerDisconnected(member_id))
        self._handover.look_again()

    def on_dropped(self, member_id: int, frames: Sequence[Frame]) -> None:
        """Frames for a peer were dropped: Raft repeats its own, commands and refusals are this member's to repeat."""
        self._stats.on_unreachable(member_id)
        self._loop.add(PeerUnreachable(member_id))
        for frame in frames:
            if isinstance(frame, ForwardedCommand):
                # The leader never got it, which for its client is the same as a refusal.
                request_id = frame.payload[:REQUEST_ID_BYTES]
                self._requests.writes.forward_refused(request_id, ProposalRefusalReason.NOT_LEADER, frame.term)
            elif isinstance(frame, ForwardRefused):
                self._forwarding.owe(member_id, frame, clock.monotonic_ms())

    def on_refused(self, member_id: int, refusal: GreetingRefused, *, fatal: bool) -> None:
        """A peer refused this member."""
        if fatal:
            forgot = refusal.reason in {GreetingRefusalReason.WIPED, GreetingRefusalReason.SHORTER_LOG}
            self.fail(f"refused by {self.cluster.peer_name(member_id)}: {refusal.detail}", rebuild_helps=forgot)

    def on_snapshot(self, from_member: int, snapshot: InstallSnapshot) -> None:
        """A snapshot lies in the spool: the core decides whether it is wanted."""
        self._loop.put(Received(from_member, snapshot))

    # -- what is not urgent -------------------------------------------------------------------------------------

    async def _keep_house(self) -> None:
        looked_ms = clock.monotonic_ms()
        while True:
            await asyncio.sleep(_HOUSEKEEPING_S)
            now_ms = clock.monotonic_ms()
            self._figures.stalled(now_ms - looked_ms - int(_HOUSEKEEPING_S * 1000))
            looked_ms = now_ms
            try:
                self._look_around(now_ms)
            except Exception as error:
                self.fail(f"internal error: {error!r}", error)
                raise

    def _on_housekeeping_ended(self, _task: asyncio.Task[None]) -> None:
        """An exception has stopped the member already; a stray cancellation must not leave it without time-outs."""
        if not self._stopping and not self.failure.done():
            self.fail("internal error: housekeeping has ended by itself")

    def _look_around(self, now_ms: int) -> None:
        self._requests.end_overdue(now_ms, self._timeout_cause)
        self._chores.publish()
        self._durable.look_around(now_ms)
        self._chores.expire()
        if not self.failure.done() and not self._disk.is_exhausted:
            held = self._memory.look_around(now_ms)
            if held is not None:
                self._tell_others(held)
        self._watch_disk()
        for member_id, refusals in self._forwarding.take_owed(self._transport.is_connected, now_ms):
            self._transport.send(member_id, refusals)
        self._rebuilding.look(now_ms)
        self._leader.look(now_ms)
        self._requests.writes.release()
        if self._requests.wants_leader():
            self._loop.wake()
        if self._full_collections.is_due(self.raft_index, now_ms):
            gc.collect()
        if self._giving_back.is_due(self.raft_index, anonymous_bytes(), now_ms):
            self._durable.give_back(idle=self._giving_back.is_idle(now_ms))

    def _has_room(self, size_bytes: int) -> bool:
        return self._disk.has_room(size_bytes)

    def _watch_disk(self) -> None:
        self._disk.scrub()
        self._disk.look()
        if self._disk.is_full and not self._disk_was_full and self._raft.role is Role.LEADER:
            self._loop.put(TransferLeadership(0))  # once: the others' disks may be full as well
        self._disk_was_full = self._disk.is_full

    def _timeout_cause(self, waiter: Waiter) -> bytes:
        """As etcd tells them apart (server/v2_server: parseProposeCtxErr)."""
        lost_ms = self._leader_elected_ms - 2 * self.settings.election_timeout_ms
        if lost_ms < waiter.started_ms < self._leader_elected_ms:
            return outcomes.TIMED_OUT_LEADER_LOST
        leader_id = self._raft.leader_id
        if leader_id not in (0, self.member_id) and not self._transport.is_connected(leader_id):
            return outcomes.TIMED_OUT_CONNECTION_LOST
        return outcomes.TIMED_OUT
