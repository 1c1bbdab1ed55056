"""Log replication: appending, sending, acknowledging, committing (sections 5.3 and 5.4.2).

The leader's half comes first, the follower's second. Handlers on the leader only record what they learn;
`advance_commit_index` and `send_to_followers` run once at the end of a step and turn it into at most one commit and one
stream of messages per follower, so that a step costs the same for one acknowledgement as for hundreds.
"""

from collections.abc import Iterable
from typing import Final, final

from kvraft.raft.configuration import Configuration
from kvraft.raft.effects import Accepted, ProposalRefusalReason, ProposalRefused
from kvraft.raft.entries import Entry, EntryKind, chain
from kvraft.raft.inputs import Propose
from kvraft.raft.messages import AppendEntries, AppendEntriesReply, Heartbeat, HeartbeatReply
from kvraft.raft.progress import Progress, ProgressState
from kvraft.raft.quorum import reached_by_majority
from kvraft.raft.roles import Leader, hear_leader
from kvraft.raft.snapshots import request_snapshot
from kvraft.raft.state import State

_MESSAGES_PER_STEP_MAX: Final = 4
"""Full AppendEntries to one follower in a step, or in several that follow at once. The acknowledgements ask for the
rest: on a network that loses or reorders, more would be refused and sent again, over and over."""

_CONFIGURATION: Final = EntryKind.CONFIGURATION
_PROBE: Final = ProgressState.PROBE
_REPLICATE: Final = ProgressState.REPLICATE


# -- the leader's half


def propose(state: State, proposal: Propose) -> None:
    """Append a command, or say why not."""
    role = state.role
    effects = state.effects
    if not isinstance(role, Leader):
        effects.refused.append(ProposalRefused(proposal.token, ProposalRefusalReason.NOT_LEADER))
        return
    if role.transfer is not None:
        effects.refused.append(ProposalRefused(proposal.token, ProposalRefusalReason.TRANSFERRING))
        return
    # The others may commit what the disk of this server has not taken yet; until then it is held in memory.
    log = state.log
    held = log.bytes_beyond(min(state.commit_index, log.durable_index))
    if held and held + len(proposal.payload) > state.settings.uncommitted_bytes_max:
        role.disk_lags = log.durable_index < state.commit_index
        reason = ProposalRefusalReason.TRANSFERRING if role.disk_lags else ProposalRefusalReason.TOO_MANY
        effects.refused.append(ProposalRefused(proposal.token, reason))
        return
    index = state.append_new(EntryKind.COMMAND, proposal.payload, role.clock_ms(state.now_ms))
    effects.accepted.append(Accepted(proposal.token, index, state.current_term))


def handle_append_entries_reply(state: State, from_server: int, message: AppendEntriesReply) -> None:
    """A follower acknowledges, or refuses and hints where the logs may agree."""
    role = state.role
    if not isinstance(role, Leader):
        return
    progress = role.progress.get(from_server)
    if progress is None or message.match_index > state.log.last_index:
        return
    heard_follower(state, progress)
    if message.success:
        if progress.acknowledged(message.match_index, state.now_ms):
            role.commit_pending = True
        if progress.state is ProgressState.SNAPSHOT and _continues(state, progress.match_index):
            progress.snapshot_superseded()
    elif not progress.is_stale_rejection(message.match_index):
        agree_index = state.log.last_index_with_term_at_most(message.hint_index, message.hint_term)
        progress.rejected(message.match_index, agree_index)


def handle_heartbeat_reply(state: State, from_server: int, message: HeartbeatReply) -> None:
    """A follower confirms this leader, and with it a read round; what was lost on the way to it is asked for again."""
    role = state.role
    if not isinstance(role, Leader):
        return
    progress = role.progress.get(from_server)
    if progress is None:
        return
    heard_follower(state, progress)
    progress.read_id = max(progress.read_id, message.read_id)
    if progress.heartbeat_answered(state.now_ms, state.settings.heartbeat_interval_ms):
        # An empty message behind everything sent: its refusal shows a loss, its acknowledgement replaces a lost one.
        _Appends(state, role).ask(from_server, progress)


def answer_may_wait(state: State, from_server: int, message: AppendEntriesReply | HeartbeatReply) -> bool:
    """Whether a follower's answer neither commits, nor asks for anything, nor ends anything that waits.

    Of three servers, one acknowledges each entry when the others have committed it. What it says counts as heard when
    the next step takes it in, which the heartbeat brings at the latest. It then says what it would have said now: what
    comes in between makes an answer older, which every answer may be.
    """
    role = state.role
    if not isinstance(role, Leader) or message.term != state.current_term or role.transfer is not None:
        return False
    progress = role.progress.get(from_server)
    if progress is None or progress.state is not _REPLICATE or progress.next_index <= state.log.last_index:
        return False
    if from_server in state.configuration.learners:
        return False  # its promotion may wait for this answer
    if isinstance(message, AppendEntriesReply):
        return message.success and message.match_index <= state.commit_index
    return role.read_round is None and progress.match_index + 1 == progress.next_index


def heard_follower(state: State, progress: Progress) -> None:
    """A follower answered in the current term (CheckQuorum counts on it)."""
    progress.last_contact_ms = state.now_ms
    progress.recent_active = True


def follower_unreachable(state: State, server: int) -> None:
    """Something sent to `server` was dropped."""
    if isinstance(state.role, Leader):
        progress = state.role.progress.get(server)
        if progress is not None:
            progress.unreachable(state.now_ms)


def send_to_followers(state: State, leader: Leader) -> None:
    """The end of a leader's step: send each follower what it lacks, a new commit index, and a heartbeat if one is due.

    What is read from disk comes out of one budget for all of them; whom it left with nothing is first next time.
    """
    if leader.heartbeat_wanted:
        leader.heartbeat_wanted = False
        _broadcast_heartbeat(state, leader)
    last_index = state.log.last_index
    appends = _Appends(state, leader)
    followers = _in_turn(leader) if leader.kept_waiting else leader.progress.items()
    for server, progress in followers:
        # In PROBE there is more to ask than what to send.
        if progress.next_index <= last_index or progress.state is _PROBE:
            appends.send_entries(server, progress)
        if progress.sent_commit < state.commit_index:
            appends.tell_commit_index(server, progress)


def _in_turn(leader: Leader) -> Iterable[tuple[int, Progress]]:
    """The followers, from the one on that had to wait for this step."""
    first = leader.kept_waiting
    leader.kept_waiting = 0
    return sorted(leader.progress.items(), key=lambda follower: follower[0] < first)


def tell_commit_index(state: State, leader: Leader) -> None:
    """Send the commit index to every follower that can use it and has not heard it."""
    appends = _Appends(state, leader)
    for server, progress in leader.progress.items():
        appends.tell_commit_index(server, progress)


def advance_commit_index(state: State, leader: Leader) -> None:
    """Commit what a majority of voters holds durably, counting only entries of this term (section 5.4.2, Figure 8)."""
    if not leader.commit_pending:
        return
    leader.commit_pending = False
    index = _held_by_majority(state, leader)
    if index <= state.commit_index or index < leader.noop_index:
        return
    state.commit_index = index


def commits_more(state: State, leader: Leader) -> bool:
    """Whether `advance_commit_index` would find something to commit."""
    return _held_by_majority(state, leader) > max(state.commit_index, leader.noop_index - 1)


def _held_by_majority(state: State, leader: Leader) -> int:
    reached = []
    for voter in state.configuration.voters:
        if voter == state.server_id:
            reached.append(state.log.durable_index)
        else:
            reached.append(leader.progress[voter].match_index)
    return reached_by_majority(reached)


def _broadcast_heartbeat(state: State, leader: Leader) -> None:
    """One heartbeat to everyone; the commit index in it is limited to what the receiver holds for certain."""
    clock_ms = leader.clock_ms(state.now_ms)
    for server, progress in leader.progress.items():
        commit_index = min(state.commit_index, progress.match_index)
        progress.sent_commit = max(progress.sent_commit, commit_index)
        state.send(server, Heartbeat(state.current_term, commit_index, clock_ms, leader.read_round_id))
    leader.heartbeat_deadline_ms = state.now_ms + state.settings.heartbeat_interval_ms


@final
class _Appends:
    """The AppendEntries of one step. Followers at the same place get the same object, which is then encoded once."""

    __slots__ = ("_disk_bytes", "_has_nothing", "_leader", "_made", "_state")

    def __init__(self, state: State, leader: Leader) -> None:
        self._state = state
        self._leader = leader
        self._disk_bytes = state.settings.disk_read_bytes_max
        """What may still be read from disk in this step."""
        self._has_nothing = False
        """Whether the follower that is kept waiting gets nothing in this step."""
        self._made: dict[tuple[int, bool, bool], tuple[AppendEntries, int]] = {}
        """By first index, whether it carries entries and is a notice: the message with the bytes of its entries."""

    def send_entries(self, server: int, progress: Progress) -> None:
        """Send entries that a follower lacks, as far as its window and this step's budget allow."""
        settings = self._state.settings
        last_index = self._state.log.last_index
        for sent in range(_MESSAGES_PER_STEP_MAX):
            probing = progress.state is _PROBE
            if progress.next_index > last_index and not (probing and progress.match_index < last_index):
                return
            if not progress.may_send(settings.inflight_messages_max, settings.inflight_bytes_max):
                return
            with_entries = progress.next_index <= last_index and not (probing and progress.probe_repeated)
            if with_entries and self._must_wait(progress.next_index):
                if progress.unheard < _MESSAGES_PER_STEP_MAX:
                    self._keep_waiting(server, has_nothing=not sent)
                return
            if not self._send(server, progress, with_entries=with_entries):
                return

    def ask(self, server: int, progress: Progress) -> None:
        """Ask whether what was sent has arrived."""
        self._send(server, progress, with_entries=False)

    def tell_commit_index(self, server: int, progress: Progress) -> None:
        """A notice that nobody answers, unless the follower was told or lacks what it would be told of.

        It follows the entries on their way, so that the follower holds them when it comes. A lost one is made good by
        the next heartbeat.
        """
        tellable = min(self._state.commit_index, progress.next_index - 1)
        if progress.state is _REPLICATE and progress.sent_commit < tellable:
            self._send(server, progress, with_entries=False, notice=True)

    def _keep_waiting(self, server: int, *, has_nothing: bool) -> None:
        if not self._leader.kept_waiting or (has_nothing and not self._has_nothing):
            self._leader.kept_waiting = server
            self._has_nothing = has_nothing

    def _must_wait(self, first: int) -> bool:
        """Whether these entries are on disk only and the budget is spent."""
        return (
            self._disk_bytes <= 0 and not self._state.log.is_in_memory(first) and (first, True, False) not in self._made
        )

    def _send(self, server: int, progress: Progress, *, with_entries: bool, notice: bool = False) -> bool:
        """Send one AppendEntries in front of `next_index`. False if a snapshot must do, as the log begins later."""
        state = self._state
        key = (progress.next_index, with_entries, notice)
        made = self._made.get(key)
        if made is None:
            made = self._make(*key)
            if made is None:
                request_snapshot(state, server, progress)
                return False
            self._made[key] = made
        message, size = made
        state.send(server, message)
        last_index = message.prev_log_index + len(message.entries)
        progress.sent(last_index, size, state.now_ms)
        progress.sent_commit = max(progress.sent_commit, min(message.leader_commit, last_index))
        return True

    def _make(self, first: int, with_entries: bool, notice: bool) -> tuple[AppendEntries, int] | None:
        state = self._state
        log = state.log
        entries: list[Entry] = []
        size = 0
        if with_entries:
            entries, size = self._read(first)
            if not entries:
                return None
        previous = log.position(first - 1)
        if previous is None:
            return None
        clock_ms = self._leader.clock_ms(state.now_ms)
        message = AppendEntries(
            state.current_term,
            previous.index,
            previous.term,
            previous.chain_hash,
            entries,
            state.commit_index,
            clock_ms,
            notice,
        )
        return message, size

    def _read(self, first: int) -> tuple[list[Entry], int]:
        """The entries of one message, with their bytes."""
        log = self._state.log
        bytes_max = self._state.settings.message_bytes_max
        in_memory = log.is_in_memory(first)
        if not in_memory:
            bytes_max = min(bytes_max, self._disk_bytes)
        entries = log.slice(first, log.last_index, bytes_max)
        if not entries:
            return entries, 0
        size = log.size_of(entries)
        if not in_memory:
            self._disk_bytes -= size
        return entries, size


def _continues(state: State, match_index: int) -> bool:
    """Whether the log holds everything behind `match_index`, and the position itself."""
    return state.log.position(match_index) is not None


# -- the follower's half


def handle_heartbeat(state: State, from_server: int, message: Heartbeat) -> None:
    """The leader is alive. Its commit index is limited to what it knows this server to hold."""
    if not hear_leader(state, from_server):
        return
    state.hear_clock(message.clock_ms)
    if state.installing is None and message.leader_commit > state.commit_index:
        if message.leader_commit <= state.log.last_index:
            state.commit_index = message.leader_commit
        elif state.rebuilding is None:
            # It was acknowledged as durable here, and it is not here: a disk was rolled back or exchanged.
            state.diverged(
                message.leader_commit,
                f"leader {from_server} was told that this server holds index {message.leader_commit}, "
                f"but its log ends at {state.log.last_index}",
            )
            return
    state.send(from_server, HeartbeatReply(state.current_term, message.read_id, state.log.durable_index))


def handle_append_entries(state: State, from_server: int, message: AppendEntries) -> None:
    """Append what continues this log, remove what conflicts, acknowledge once durable (Figure 2, AppendEntries)."""
    if not hear_leader(state, from_server):
        return
    state.hear_clock(message.clock_ms)
    if state.installing is not None:
        return
    log = state.log
    if message.prev_log_index > log.last_index:
        _refuse(state, from_server, message)
        return
    entries = message.entries
    previous_index = message.prev_log_index
    if previous_index == log.last_index and message.prev_log_term == log.last_term:
        if not _hashes_agree(state, previous_index, log.last_hash, message.prev_log_hash):
            return
    else:
        held = log.position(previous_index)
        # What is no longer held was compacted: committed, and so the leader's as well.
        if held is not None and held.term != message.prev_log_term:
            if previous_index <= state.commit_index:
                state.diverged(previous_index, "the leader's entry differs from one that is committed here")
            else:
                _refuse(state, from_server, message)
            return
        if held is not None and not _hashes_agree(state, previous_index, held.chain_hash, message.prev_log_hash):
            return
    if entries:
        verified = _verified_count(message)
        if verified < len(entries):
            state.effects.corrupt_from.append(from_server)
            entries = entries[:verified]
        if entries and not _append(state, entries):
            return
    match_index = previous_index + len(entries)
    state.commit_index = max(state.commit_index, min(message.leader_commit, match_index))
    if message.notice:
        return
    # An old message may end below what is committed here, which is the leader's too.
    state.acknowledge(from_server, max(match_index, state.commit_index))


def _append(state: State, entries: list[Entry]) -> bool:
    """Take over verified entries whose predecessor this log holds. False on divergence.

    Entries that are already here stay untouched: a message may be old, and the log may have grown since
    (section 5.3, "if an existing entry conflicts"; cutting a matching tail would lose acknowledged entries).
    """
    log = state.log
    if entries[0].index <= state.commit_index:
        committed = min(state.commit_index - entries[0].index + 1, len(entries))
        last = entries[committed - 1]
        held = log.position(last.index)
        if held is not None and held.chain_hash != last.chain_hash:
            state.diverged(last.index, "the leader's entry differs from one that is committed here")
            return False
        entries = entries[committed:]
    if entries and entries[0].index <= log.last_index:
        entries = entries[_already_held(state, entries) :]
    configurations = _configurations(state, entries)
    if state.effects.divergence is not None:
        return False
    if entries:
        if entries[0].index <= log.last_index:
            state.truncate_log(entries[0].index)
        log.extend(entries)
        state.configurations.extend(configurations)
    return True


def _configurations(state: State, entries: list[Entry]) -> list[tuple[int, Configuration]]:
    """The configurations among entries. One that cannot be read was written by no leader of this protocol version."""
    found = []
    for entry in entries:
        if entry.kind is _CONFIGURATION:
            try:
                found.append((entry.index, Configuration.decode(entry.payload)))
            except ValueError as error:
                state.diverged(entry.index, f"the leader's configuration cannot be read: {error}")
    return found


def _already_held(state: State, entries: list[Entry]) -> int:
    """How many of `entries`, all uncommitted and so all readable, this log has in the same terms."""
    log = state.log
    overlap = min(len(entries), log.last_index - entries[0].index + 1)
    last = entries[overlap - 1]
    held = log.position(last.index)
    if held is not None and held.term == last.term and held.chain_hash == last.chain_hash:
        return overlap  # The chain makes one comparison enough for all before it.
    for count in range(overlap):
        entry = entries[count]
        if log.term_at(entry.index) != entry.term:
            return count
        held = log.position(entry.index)
        if held is not None:
            _hashes_agree(state, entry.index, held.chain_hash, entry.chain_hash)
    return overlap


def _hashes_agree(state: State, index: int, ours: bytes, theirs: bytes) -> bool:
    """Equal index and term must mean equal history (section 5.3, Log Matching); otherwise somebody's disk lied."""
    if ours == theirs:
        return True
    state.diverged(index, f"chain hash {ours.hex()} here, {theirs.hex()} at the leader, for equal index and term")
    return False


def _verified_count(message: AppendEntries) -> int:
    """How many of the message's entries follow one another in index, term and hash."""
    index = message.prev_log_index
    previous_hash = message.prev_log_hash
    term = message.prev_log_term
    for entry in message.entries:
        index += 1
        if (
            entry.index != index
            or not term <= entry.term <= message.term
            or chain(previous_hash, entry.record) != entry.chain_hash
        ):
            return index - message.prev_log_index - 1
        term = entry.term
        previous_hash = entry.chain_hash
    return len(message.entries)


def _refuse(state: State, leader_id: int, message: AppendEntries) -> None:
    """This log does not hold the entry before the leader's. The hint lets it skip every term that cannot match."""
    hint_index = min(message.prev_log_index - 1, state.log.last_index)
    hint_index = state.log.last_index_with_term_at_most(hint_index, message.prev_log_term)
    hint_index = max(hint_index, state.commit_index)
    state.send_after_persist(
        leader_id,
        AppendEntriesReply(
            state.current_term, False, message.prev_log_index, hint_index, state.log.term_at(hint_index)
        ),
    )
