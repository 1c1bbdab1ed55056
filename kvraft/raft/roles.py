"""The four roles with the variables of each (section 5.1; PreCandidate: thesis 9.6), and becoming a follower."""

from dataclasses import dataclass, field
from typing import final

from kvraft.raft.effects import Role
from kvraft.raft.messages import ReadIndexReply
from kvraft.raft.progress import Progress
from kvraft.raft.state import State


@final
@dataclass(slots=True)
class Follower:
    """Follows the leader of its term, if it knows one."""

    election_timeout_ms: int
    """This follower's randomized timeout (section 5.2)."""
    election_deadline_ms: int
    lease_until_ms: int = 0
    """Vote requests are ignored before this: a leader has been heard (section 6, last paragraph)."""
    voted_until_ms: int = 0
    """Nobody but who has its vote gets a pre-vote before this: that election may be won, and is not to be disturbed."""
    unsent_reads: list[int] = field(default_factory=list)
    """Reads of this step, to be asked for together."""
    reads: dict[int, tuple[int, list[int]]] = field(default_factory=dict)
    """Id of a ReadIndexRequest under way: (when it fails, the reads it stands for). Oldest first."""

    @property
    def kind(self) -> Role:
        """Which role this is."""
        return Role.FOLLOWER

    @property
    def deadline_ms(self) -> int:
        """The election, or the oldest unanswered read."""
        if self.reads:
            oldest_ms = next(iter(self.reads.values()))[0]
            return min(oldest_ms, self.election_deadline_ms)
        return self.election_deadline_ms

    def check(self, state: State) -> None:
        """A follower does not follow itself, and asks nobody when there is nobody."""
        assert state.leader_id != state.server_id, "a follower does not lead"
        assert state.leader_id or not self.reads, "reads wait for a known leader only"


@final
@dataclass(slots=True)
class PreCandidate:
    """Asks whether it would be elected, without disturbing anybody (thesis section 9.6)."""

    election_deadline_ms: int
    resend_ms: int
    votes: dict[int, bool] = field(default_factory=dict)

    @property
    def kind(self) -> Role:
        """Which role this is."""
        return Role.PRE_CANDIDATE

    @property
    def deadline_ms(self) -> int:
        """The next try, or repeating the requests that were not answered."""
        return min(self.election_deadline_ms, self.resend_ms)

    def check(self, state: State) -> None:
        """It knows no leader, and may become one."""
        assert state.leader_id == 0, "a pre-candidate has lost its leader"
        assert state.may_campaign, "only voters campaign"


@final
@dataclass(slots=True)
class Candidate:
    """Stands for election in the current term (section 5.2)."""

    election_deadline_ms: int
    resend_ms: int
    leadership_transfer: bool
    asked_ms: int
    """When it first asked."""
    refused: bool = False
    """Somebody has refused, so that the deadline is a new try of a split vote."""
    best_rival: tuple[int, int, int] = (0, 0, 0)
    """Of those that stand in the same term the best (last term, last index, id); zeros while none is known."""
    votes: dict[int, bool] = field(default_factory=dict)

    @property
    def kind(self) -> Role:
        """Which role this is."""
        return Role.CANDIDATE

    @property
    def deadline_ms(self) -> int:
        """The next try, or repeating the requests that were not answered."""
        return min(self.election_deadline_ms, self.resend_ms)

    def check(self, state: State) -> None:
        """It voted for itself in this term."""
        assert state.voted_for == state.server_id, "a candidate votes for itself"
        assert state.leader_id == 0, "a candidate knows no leader"
        assert state.may_campaign, "only voters campaign"


@final
@dataclass(slots=True)
class Transfer:
    """Leadership is being handed over (thesis section 3.10)."""

    to_server: int
    deadline_ms: int
    """Aborted after one election timeout, so that proposals are not refused for good."""
    sent_ms: int | None = None
    """When TimeoutNow last left."""


@final
@dataclass(slots=True)
class ReadRound:
    """A heartbeat round that confirms leadership for every read registered before it began (thesis section 6.4)."""

    round_id: int
    """Carried by heartbeats as `read_id`; grows within the term and is never used twice."""
    read_index: int
    reads: list[tuple[int, int]]
    """(server that asked, its read id)."""


@final
@dataclass(slots=True)
class Leader:
    """Leads the current term."""

    progress: dict[int, Progress]
    """Every other server of the configuration, in ascending order of ids."""
    noop_index: int
    """Its first entry of this term: nothing is committed by counting below it (section 5.4.2)."""
    clock_start_ms: int
    """The log clock when it became leader."""
    became_leader_ms: int
    heartbeat_deadline_ms: int
    quorum_deadline_ms: int
    """When contact with a majority must be looked at again (CheckQuorum, thesis section 6.2)."""
    commit_pending: bool = False
    """An acknowledgement came in this step, so the commit index may move."""
    kept_waiting: int = 0
    """The follower that was to be sent entries from disk when the step had read enough; 0: nobody."""
    heartbeat_wanted: bool = False
    """Heartbeats leave at the end of this step, due or not."""
    transfer: Transfer | None = None
    disk_lags: bool = False
    """The others commit, and this server's own disk holds writes up: one of them should lead."""
    read_round_id: int = 0
    read_round: ReadRound | None = None
    waiting_reads: list[tuple[int, int]] = field(default_factory=list)
    """Reads that wait for the next round, as in `ReadRound.reads`."""

    @property
    def kind(self) -> Role:
        """Which role this is."""
        return Role.LEADER

    @property
    def deadline_ms(self) -> int:
        """Heartbeat, quorum check or end of a transfer, whichever is first; at once if somebody was kept waiting."""
        if self.kept_waiting:
            return 0
        deadline_ms = min(self.heartbeat_deadline_ms, self.quorum_deadline_ms)
        if self.transfer is not None:
            deadline_ms = min(deadline_ms, self.transfer.deadline_ms)
        return deadline_ms

    def clock_ms(self, now_ms: int) -> int:
        """The log clock: where the log's time stood, and the monotonic time since this server leads."""
        return self.clock_start_ms + now_ms - self.became_leader_ms

    def check(self, state: State) -> None:
        """It leads, and no follower is credited with more than it can have."""
        assert state.leader_id == state.server_id, "a leader knows itself"
        assert self.noop_index <= state.log.last_index, "a leader's log never shrinks"
        assert state.server_id not in self.progress, "a leader does not replicate to itself"
        last_index = state.log.last_index
        for progress in self.progress.values():
            assert progress.match_index < progress.next_index <= last_index + 1, "match < next <= end of log"


def random_election_timeout_ms(state: State) -> int:
    """A timeout in [1, 2) times the setting (section 5.2)."""
    base_ms = state.settings.election_timeout_ms
    return base_ms + state.random.randrange(base_ms)


def become_follower(state: State, term: int, leader_id: int) -> None:
    """Follow in `term`, not lower than the current one; `leader_id` is 0 if only the term is known.

    The lease begins when the leader's message is handled, in `hear_leader`.
    """
    assert term >= state.current_term, "terms never decrease"
    release_reads(state)
    if isinstance(state.role, Leader):
        # It was the leader of its own entries' term, so what its clock reached counts for the next leader of its log.
        state.hear_clock(max(state.role.clock_ms(state.now_ms), state.log.last_clock_ms))
    if term != state.current_term:
        state.current_term = term
        state.voted_for = 0
    state.leader_id = leader_id
    timeout_ms = random_election_timeout_ms(state)
    state.role = Follower(timeout_ms, state.now_ms + timeout_ms)


def hear_leader(state: State, leader_id: int) -> bool:
    """A message of the current term's leader arrived: follow it and restart the election timer.

    False if that contradicts what this server knows: two leaders in one term.
    """
    role = state.role
    if state.leader_id != leader_id:
        if state.leader_id:
            state.diverged(0, f"servers {state.leader_id} and {leader_id} both lead term {state.current_term}")
            return False
        if not isinstance(role, Follower):
            become_follower(state, state.current_term, leader_id)
            role = state.role
        state.leader_id = leader_id
    assert isinstance(role, Follower), "only a follower knows another server as leader"
    role.election_deadline_ms = state.now_ms + role.election_timeout_ms
    role.lease_until_ms = state.now_ms + state.settings.election_timeout_ms
    return True


def leader_lost(state: State) -> None:
    """A follower no longer counts on its leader: its lease is void, and what was asked of it failed."""
    role = state.role
    assert isinstance(role, Follower), "only a follower loses its leader"
    release_reads(state)
    state.leader_id = 0
    role.lease_until_ms = 0
    role.voted_until_ms = 0


def release_reads(state: State) -> None:
    """Fail every read that waits in this role; whoever asked asks again with a fresh id."""
    role = state.role
    failed = state.effects.reads_failed
    if isinstance(role, Follower):
        for _, read_ids in role.reads.values():
            failed.extend(read_ids)
        failed.extend(role.unsent_reads)
        role.reads.clear()
        role.unsent_reads.clear()
    elif isinstance(role, Leader):
        waiting = role.waiting_reads
        if role.read_round is not None:
            waiting = role.read_round.reads + waiting
        for server, read_id in waiting:
            if server == state.server_id:
                failed.append(read_id)
            else:
                state.send(server, ReadIndexReply(state.current_term, read_id, 0))
        role.read_round = None
        role.waiting_reads = []
