"""The core's door: one server of the Raft algorithm as a function of inputs and time (design: "The core's door").

Nothing happens in here but computing. What must be stored, sent, applied or answered comes back as `Effects`, in the
order in which the caller owes it.
"""

import random
from collections.abc import Collection, Mapping, Sequence
from typing import Final, final

from kvraft.raft import election, membership, reads, rebuild, replication, snapshots
from kvraft.raft.configuration import Configuration
from kvraft.raft.effects import Effects, Role
from kvraft.raft.entries import Entry
from kvraft.raft.inputs import (
    Input,
    LogCompacted,
    PeerConnected,
    PeerDisconnected,
    PeerUnreachable,
    Propose,
    ProposeConfiguration,
    ReadRequest,
    Received,
    SnapshotInstalled,
    SnapshotSent,
    TransferLeadership,
)
from kvraft.raft.invariants import Invariants
from kvraft.raft.messages import (
    AppendEntries,
    AppendEntriesReply,
    Heartbeat,
    HeartbeatReply,
    InstallSnapshot,
    Message,
    ReadIndexReply,
    ReadIndexRequest,
    RebuildReply,
    RebuildRequest,
    RequestPreVote,
    RequestPreVoteReply,
    RequestVote,
    RequestVoteReply,
    TimeoutNow,
)
from kvraft.raft.progress import Progress
from kvraft.raft.restored import LogPosition, LogReader, Restored
from kvraft.raft.roles import Candidate, Follower, Leader, PreCandidate, become_follower
from kvraft.raft.settings import RaftSettings
from kvraft.raft.state import State

_OF_A_LEADER: Final = (AppendEntries, Heartbeat, InstallSnapshot, TimeoutNow)
_ANSWERS: Final = (AppendEntriesReply, HeartbeatReply)
_TERM_IS_ONLY_TOLD: Final = (RequestPreVote, RequestPreVoteReply, RebuildRequest, RebuildReply)


@final
class Raft:
    """One server. Not thread-safe; every call returns at once.

    Starts as a follower of nobody with what `restored` holds, except that the only voter of a cluster stands for
    election in its first step. Call `step` whenever there is input, and with none when `next_deadline_ms` is reached.

    Raises:
        AssertionError: from `step`, if this server broke a rule of its own. It must not go on.
    """

    def __init__(
        self,
        server_id: int,
        restored: Restored,
        settings: RaftSettings,
        random: random.Random,
        log_reader: LogReader,
        now_ms: int,
    ) -> None:
        assert server_id > 0, "0 stands for no server"
        timeout_ms = settings.election_timeout_ms + random.randrange(settings.election_timeout_ms)
        role = Follower(timeout_ms, now_ms + timeout_ms)
        self._state = State(server_id, restored, settings, random, log_reader, now_ms, role)
        if self._state.configuration.voters == (server_id,):
            role.election_deadline_ms = now_ms
        self._read_ids = reads.RequestIds(random)
        rebuilding = restored.hard_state.rebuilding
        self._asking = rebuild.Asking(random, now_ms) if rebuilding is not None and rebuilding.asking else None
        self._invariants = Invariants(self._state)
        self._next_deadline_ms = 0
        self._set_deadline()

    # -- what the caller may look at

    @property
    def next_deadline_ms(self) -> int:
        """When `step` must be called even without input; on the clock of `now_ms`, and not later than it if overdue."""
        return self._next_deadline_ms

    @property
    def role(self) -> Role:
        """What this server is now."""
        return self._state.role.kind

    @property
    def current_term(self) -> int:
        """The latest term this server has seen."""
        return self._state.current_term

    @property
    def leader_id(self) -> int:
        """The leader of the current term; 0 while unknown."""
        return self._state.leader_id

    @property
    def commit_index(self) -> int:
        """The highest entry known to be committed."""
        return self._state.commit_index

    @property
    def last_applied(self) -> int:
        """The highest entry that the caller has reported as applied."""
        return self._state.last_applied

    @property
    def last_log_index(self) -> int:
        """The highest entry of the log, durable or not."""
        return self._state.log.last_index

    def entries_behind(self, index: int, bytes_max: int) -> Sequence[Entry]:
        """Entries of the log after `index`, committed or not: some of them, and none only if there are none."""
        return self._state.log.slice(index + 1, self._state.log.last_index, bytes_max)

    @property
    def durable_index(self) -> int:
        """The highest entry that the disk holds for certain in the version that the log now has."""
        return self._state.log.durable_index

    @property
    def durable_position(self) -> LogPosition:
        """The end of the log that is on disk: what a restart would find."""
        return self._state.log.durability.position

    @property
    def durable_batch(self) -> int:
        """Batches up to this one are on disk."""
        return self._state.log.durability.durable_id

    @property
    def first_log_index(self) -> int:
        """The lowest entry that the log still holds; `last_log_index + 1` if it is empty."""
        return self._state.log.first_index

    @property
    def configuration(self) -> Configuration:
        """The configuration in force: the latest in the log."""
        return self._state.configuration

    @property
    def committed_configuration(self) -> Configuration:
        """The latest that is known to be committed; of nobody if there is none."""
        state = self._state
        committed = [held for index, held in state.configurations if index <= state.commit_index]
        return committed[-1] if committed else Configuration(())

    @property
    def may_reconfigure(self) -> bool:
        """Whether this server leads and would change its configuration now (`membership`), if the change is allowed."""
        role = self._state.role
        return isinstance(role, Leader) and role.transfer is None and membership.is_settled(self._state, role)

    def keeps_up(self, server: int) -> bool:
        """On a leader: whether it would promote this learner."""
        progress = self.progress.get(server)
        return progress is not None and membership.keeps_up(self._state, progress)

    @property
    def founding(self) -> bytes:
        """Which history this server's is (`Configuration.founding`); empty while none is known to be committed."""
        return self.committed_configuration.founding

    @property
    def progress(self) -> Mapping[int, Progress]:
        """What a leader knows of each other server, for statistics; empty in other roles. Not to be modified."""
        role = self._state.role
        return role.progress if isinstance(role, Leader) else {}

    @property
    def is_rebuilding(self) -> bool:
        """Whether this server lost its disk and does not hold again what it may have acknowledged."""
        return self._state.rebuilding is not None

    @property
    def unanswered(self) -> Sequence[int]:
        """Who must answer before this server, which lost its disk, takes part."""
        return () if self._asking is None else rebuild.unanswered(self._state, self._asking)

    @property
    def lost_as_well(self) -> Collection[int]:
        """Who of those has answered that it lost its disk, too. If it is all of them, too many have."""
        return () if self._asking is None else self._asking.blank.intersection(self.unanswered)

    def log_clock_ms(self, now_ms: int) -> int:
        """The log clock (design decision 7): a leader's runs, any other server's stands at what it last heard."""
        role = self._state.role
        if isinstance(role, Leader):
            return role.clock_ms(max(now_ms, self._state.now_ms))
        return self._state.restored_clock_ms()

    # -- what needs no step

    def persisted(self, batch_id: int) -> bool:
        """Batches up to `batch_id` are on disk. True if a step now commits something by it; nobody else waits for one.

        The caller sends what waited for them (`Outgoing.after_batch`) without asking again.
        """
        state = self._state
        if not state.log.durability.persisted(batch_id) or not isinstance(state.role, Leader):
            return False
        state.role.commit_pending = True
        return replication.commits_more(state, state.role)

    def applied(self, index: int) -> bool:
        """The keyspace has applied every entry up to `index`. True if a step now hands out more that is committed."""
        self._state.applied(index)
        return self._state.more_to_deliver

    def may_wait(self, from_server: int, message: Message) -> bool:
        """Whether nothing follows from a message yet: it can be given to the next step, whenever one is wanted."""
        return isinstance(message, _ANSWERS) and replication.answer_may_wait(self._state, from_server, message)

    # -- the door

    def step(self, inputs: Sequence[Input], now_ms: int) -> Effects:
        """Take in everything that happened, in order, and return what follows from it.

        Inputs come before time: after a stall, messages that waited are heard before a timeout is believed.
        """
        state = self._state
        state.now_ms = max(state.now_ms, now_ms)
        state.effects = effects = Effects()
        before = (state.role, state.current_term, state.leader_id, state.configurations[-1][1])
        for item in inputs:
            if isinstance(item, Propose):
                replication.propose(state, item)
            elif isinstance(item, Received):
                self._receive(item.from_server, item.message)
                if effects.divergence is not None:
                    break
            else:
                self._take_rare(item)
        self._tick()
        self._close()
        state.report_changes(before)
        self._invariants.check(state)
        self._set_deadline()
        return effects

    def _take_rare(
        self,
        item: ProposeConfiguration
        | ReadRequest
        | LogCompacted
        | SnapshotInstalled
        | SnapshotSent
        | PeerConnected
        | PeerDisconnected
        | PeerUnreachable
        | TransferLeadership,
    ) -> None:
        state = self._state
        match item:
            case ReadRequest():
                reads.read_request(state, item)
            case LogCompacted():
                snapshots.log_compacted(state, item)
            case SnapshotInstalled():
                snapshots.snapshot_installed(state, item)
            case SnapshotSent():
                snapshots.snapshot_sent(state, item)
            case PeerConnected():
                election.peer_connected(state, item)
            case PeerDisconnected():
                replication.follower_unreachable(state, item.server)
                election.peer_disconnected(state, item.server)
            case PeerUnreachable():
                replication.follower_unreachable(state, item.server)
            case TransferLeadership():
                membership.transfer_leadership(state, item)
            case ProposeConfiguration():
                membership.propose_configuration(state, item)

    def _receive(self, from_server: int, message: Message) -> None:
        """Section 5.1: a higher term is adopted, a lower one refused; then the message itself.

        Neither for what asks or tells of a term without speaking for it.
        """
        state = self._state
        if self._asking is not None and not isinstance(message, RebuildRequest | RebuildReply):
            return  # What it has forgotten may forbid whatever it would answer.
        if message.term != state.current_term and not isinstance(message, _TERM_IS_ONLY_TOLD):
            if message.term < state.current_term:
                self._refuse_lower_term(from_server, message)
                return
            if isinstance(message, RequestVote) and not message.leadership_transfer and election.lease_stands(state):
                return
            become_follower(state, message.term, from_server if isinstance(message, _OF_A_LEADER) else 0)
        elif isinstance(message, RequestPreVoteReply) and message.term > state.current_term:
            become_follower(state, message.term, 0)
        elif (
            from_server == state.gone_leader_id
            and state.now_ms < state.gone_until_ms
            and isinstance(message, _OF_A_LEADER)
        ):
            return
        self._handle(from_server, message)

    def _handle(self, from_server: int, message: Message) -> None:
        state = self._state
        match message:
            case AppendEntriesReply():
                replication.handle_append_entries_reply(state, from_server, message)
            case AppendEntries():
                replication.handle_append_entries(state, from_server, message)
            case Heartbeat():
                replication.handle_heartbeat(state, from_server, message)
            case HeartbeatReply():
                replication.handle_heartbeat_reply(state, from_server, message)
            case ReadIndexRequest():
                reads.handle_read_index_request(state, from_server, message)
            case ReadIndexReply():
                reads.handle_read_index_reply(state, from_server, message)
            case RequestPreVote():
                election.handle_request_pre_vote(state, from_server, message)
            case RequestPreVoteReply():
                election.handle_request_pre_vote_reply(state, from_server, message)
            case RequestVote():
                election.handle_request_vote(state, from_server, message)
            case RequestVoteReply():
                election.handle_request_vote_reply(state, from_server, message)
            case InstallSnapshot():
                snapshots.handle_install_snapshot(state, from_server, message)
            case TimeoutNow():
                election.handle_timeout_now(state, from_server)
            case RebuildRequest() | RebuildReply():
                self._rebuild(from_server, message)

    def _rebuild(self, from_server: int, message: RebuildRequest | RebuildReply) -> None:
        asking = self._asking
        if isinstance(message, RebuildRequest):
            rebuild.handle_rebuild_request(self._state, from_server, message)
        elif asking is not None and rebuild.handle_rebuild_reply(self._state, asking, from_server, message):
            self._asking = None

    def _refuse_lower_term(self, from_server: int, message: Message) -> None:
        """Answer with the current term, so that a deposed leader steps down.

        This is also how a server whose term ran ahead of a live leader's comes back: its vote requests are ignored
        while the lease stands, so the leader must learn of the term from it (etcd-io/raft: raft.go, Step).
        """
        state = self._state
        term = state.current_term
        match message:
            case AppendEntries():
                state.send(from_server, AppendEntriesReply(term, False, message.prev_log_index, 0, 0))
            case InstallSnapshot():
                state.send(from_server, AppendEntriesReply(term, False, message.last_included_index, 0, 0))
            case Heartbeat():
                state.send(from_server, HeartbeatReply(term, 0, state.log.durable_index))
            case RequestVote():
                state.send(from_server, RequestVoteReply(term, False))
            case ReadIndexRequest():
                state.send(from_server, ReadIndexReply(term, message.read_id, 0))
            case _:
                pass  # An answer to something of an earlier term: nobody waits for it.

    def _tick(self) -> None:
        """What time alone brings, after everything that was heard."""
        state = self._state
        role = state.role
        if self._asking is not None:
            rebuild.ask(state, self._asking)
        if isinstance(role, Leader):
            election.leader_tick(state, role)
        elif isinstance(role, Follower):
            if role.reads:
                reads.ask_again(state, role)
            if state.now_ms >= role.election_deadline_ms:
                election.follower_timed_out(state, role)
        elif isinstance(role, PreCandidate):
            election.pre_candidate_tick(state, role)
        elif isinstance(role, Candidate):
            election.candidate_tick(state, role)

    def _close(self) -> None:
        """Turn what the step has gathered into effects: commit, answer, send, deliver, persist."""
        state = self._state
        role = state.role
        if isinstance(role, Leader):
            replication.advance_commit_index(state, role)
            if not membership.leave_if_removed(state, role):
                if role.disk_lags:
                    role.disk_lags = False
                    membership.transfer_leadership(state, TransferLeadership(0))
                if role.transfer is not None:
                    membership.advance_transfer(state, role, role.transfer)
                if role.waiting_reads or role.read_round is not None:
                    reads.advance_reads(state, role)
                replication.send_to_followers(state, role)
        elif isinstance(role, Follower) and role.unsent_reads:
            reads.ask_leader(state, role, self._read_ids)
        if state.rebuilding is not None:
            rebuild.settle(state)
        if state.delivered_index < state.commit_index:
            state.deliver_committed()
        state.log.bound_tail(state.commit_index)
        state.close_step()

    def _set_deadline(self) -> None:
        state = self._state
        if state.delivered_index < state.commit_index and state.more_to_deliver:
            self._next_deadline_ms = state.now_ms
            return
        deadline_ms = state.role.deadline_ms
        if self._asking is not None:
            deadline_ms = min(deadline_ms, self._asking.next_ms)
        if state.commit_index != state.stored.commit_index:
            deadline_ms = min(deadline_ms, state.commit_store_deadline_ms)
        self._next_deadline_ms = deadline_ms
