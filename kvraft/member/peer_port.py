"""What peers send to a member, and what the transport tells of them.

Messages of Raft go to the core, commands of other members' clients to the log, and what leaders and others say about
this member's data decides whether it may go on.
"""

from collections.abc import Iterable, Sequence
from typing import Final, final

from kvraft import clock, logs
from kvraft.member.cluster import Cluster
from kvraft.member.disk_watch import DiskWatch
from kvraft.member.failure import Failure
from kvraft.member.forwarding import Forwarding
from kvraft.member.handover import Handover
from kvraft.member.interfaces import ForwardedCommand, ForwardRefused, Frame, MatchIndices, StateHash, Transport
from kvraft.member.leaving import Leaving
from kvraft.member.peer_memory import PeerMemory
from kvraft.member.raft_loop import RaftLoop
from kvraft.member.requests import Requests
from kvraft.member.state_hashes import StateHashes
from kvraft.member.stats import ServerStats
from kvraft.member.waiters import REQUEST_ID_BYTES
from kvraft.peer_frames import ForwardFence, ForwardFenced, GreetingRefusalReason, GreetingRefused
from kvraft.raft.effects import ProposalRefusalReason
from kvraft.raft.inputs import PeerConnected, PeerDisconnected, PeerUnreachable, Propose, Received
from kvraft.raft.messages import (
    AppendEntries,
    AppendEntriesReply,
    HeartbeatReply,
    InstallSnapshot,
    Message,
    RebuildRequest,
)
from kvraft.raft.quorum import majority

_OF_MEMBERS: Final = (ForwardedCommand, ForwardRefused, ForwardFence, ForwardFenced, StateHash, MatchIndices)
"""Frames that are none of the core's."""

log = logs.get(__name__)


@final
class PeerPort:
    """Satisfies `TransportEvents`; greetings are judged by `PeerMemory`."""

    def __init__(
        self,
        cluster: Cluster,
        loop: RaftLoop,
        transport: Transport,
        memory: PeerMemory,
        requests: Requests,
        forwarding: Forwarding,
        handover: Handover,
        disk: DiskWatch,
        stats: ServerStats,
        leaving: Leaving,
        failure: Failure,
    ) -> None:
        self._cluster = cluster
        self._loop = loop
        self._transport = transport
        self._memory = memory
        self._requests = requests
        self._forwarding = forwarding
        self._handover = handover
        self._disk = disk
        self._stats = stats
        self._leaving = leaving
        self._failure = failure
        self._hashes = StateHashes(lambda: majority(len(loop.raft.configuration.voters)))

    # -- frames -------------------------------------------------------------------------------------------------

    def on_frames(self, from_member: int, frames: Iterable[Frame]) -> None:
        """Hand messages to the core, forwarded commands to the log."""
        try:
            self._take_frames(from_member, frames)
        except Exception as error:
            # A frame is half taken in: its stream would go on without it.
            self._failure.tell_of(error)
            raise

    def _take_frames(self, from_member: int, frames: Iterable[Frame]) -> None:
        refused: list[Frame] = []
        raft, wanted = self._loop.raft, False
        for frame in frames:
            if not isinstance(frame, _OF_MEMBERS):
                if self._disk.is_exhausted and isinstance(frame, AppendEntries) and frame.entries:
                    continue  # as if lost: Raft repeats it, and the leader's heartbeats go on being heard
                self._count(from_member, frame)
                self._memory.saw(from_member, frame.term)
                self._loop.add(Received(from_member, frame))
                wanted = wanted or not raft.may_wait(from_member, frame)
            elif isinstance(frame, ForwardedCommand):
                wanted = True
                outcome = self._forwarding.propose(from_member, frame, raft)
                if isinstance(outcome, Propose):
                    self._loop.add(outcome)
                elif outcome is not None:
                    refused.append(outcome)
            elif isinstance(frame, ForwardRefused):
                wanted = True  # It may be sent anew.
                self._requests.writes.forward_refused(frame.request_id, frame.reason, frame.term, frame.epoch)
            elif isinstance(frame, ForwardFence):
                wanted = True
                self._forwarding.fence(from_member, frame, raft)
            elif isinstance(frame, ForwardFenced):
                wanted = True
                self._requests.writes.fencing.answered(frame)
            elif isinstance(frame, StateHash):
                self._compare_hash(from_member, frame.index, frame.state_hash)
            else:
                self._on_match_indices(from_member, frame)
        if refused:
            self._transport.send(from_member, refused)
        if wanted:
            self._loop.wake()

    def _count(self, from_member: int, message: Message) -> None:
        if isinstance(message, AppendEntries):
            if not message.notice:
                self._stats.on_append_received(message.entries)
        elif isinstance(message, AppendEntriesReply):
            self._stats.on_append_reply(from_member)
            self._memory.took_part(from_member)
        elif isinstance(message, HeartbeatReply):
            self._memory.took_part(from_member)
        elif isinstance(message, RebuildRequest):
            self._memory.asks(from_member)

    def on_snapshot(self, from_member: int, snapshot: InstallSnapshot) -> None:
        """A snapshot lies in the spool: the core decides whether it is wanted."""
        self._loop.put(Received(from_member, snapshot))

    # -- what is said about this member's data ------------------------------------------------------------------

    def tell_others(self, frame: Frame) -> None:
        """The same for every other member; whoever is not connected misses it."""
        for member_id in self._cluster.others():
            self._transport.send(member_id, (frame,))

    def on_own_hash(self, index: int, state_hash: bytes) -> None:
        """Tell the others what this member's state is at a compared index, and compare with what they told."""
        self.tell_others(StateHash(index, state_hash))
        self._compare_hash(self._cluster.own.member_id, index, state_hash)

    def _compare_hash(self, member_id: int, index: int, state_hash: bytes) -> None:
        disagreement = self._hashes.report(member_id, index, state_hash)
        if disagreement is None:
            return
        names = ", ".join(self._cluster.peer_name(astray) for astray in disagreement.members)
        if self._cluster.own.member_id in disagreement.members:
            self._failure.tell(
                f"the state at index {disagreement.index} differs from the majority's ({names}); "
                "start this member once with --rebuild",
                rebuild_helps=True,
            )
        else:
            log.error("state of a member differs from the majority's", index=disagreement.index, peer=names)

    def _on_match_indices(self, from_member: int, frame: MatchIndices) -> None:
        wrong = self._memory.contradiction(frame)
        if wrong is not None:
            peer = self._cluster.peer_name(from_member)
            self._failure.tell(f"{peer} knows of more: {wrong}", rebuild_helps=True)
        elif not self._disk.is_exhausted:
            self._memory.remember(frame)

    def on_refused(self, member_id: int, refusal: GreetingRefused, *, fatal: bool) -> None:
        """A peer refused this member."""
        if refusal.reason is GreetingRefusalReason.REMOVED:
            self._leaving.told(member_id)
        elif fatal:
            forgot = refusal.reason in {GreetingRefusalReason.WIPED, GreetingRefusalReason.SHORTER_LOG}
            peer = self._cluster.peer_name(member_id)
            self._failure.tell(f"refused by {peer}: {refusal.detail}", rebuild_helps=forgot)

    # -- sessions -----------------------------------------------------------------------------------------------

    def on_connected(self, member_id: int) -> None:
        """A peer is reachable: requests may wait for it, and a leader can be found."""
        voters = self._loop.raft.configuration.voters
        own_id = self._cluster.own.member_id
        reached = [voter for voter in voters if voter == own_id or self._transport.is_connected(voter)]
        higher = sum(voter > own_id for voter in reached)
        self._loop.put(PeerConnected(member_id, len(reached) > len(voters) // 2, higher))

    def on_session_ended(self, member_id: int) -> None:
        """Commands that were on their way to a leader may be lost: it is asked as soon as it can be reached."""
        self._requests.writes.fencing.session_ended(member_id, self._transport)
        self._loop.wake()

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
                reason = ProposalRefusalReason.NOT_LEADER
                self._requests.writes.forward_refused(request_id, reason, frame.term, frame.epoch)
            elif isinstance(frame, ForwardRefused):
                self._forwarding.owe(member_id, frame, clock.monotonic_ms())
