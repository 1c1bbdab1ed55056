"""Planted bugs of linearizable reads: M35 to M40, and three that only liveness finds: M40b to M40d."""

from typing import Any

from kvraft.raft import quorum, reads
from kvraft.raft.core import Raft
from kvraft.raft.effects import ReadReady
from kvraft.raft.inputs import ReadRequest
from kvraft.raft.roles import Follower, Leader
from kvraft.raft.state import State
from tests.simulation.desk import Desk, Read
from tests.simulation.mutants.planting import ANCHOR_SECONDS_MAX, Mutant, with_options, wrapped
from tests.simulation.mutants.schedules import handed_over_behind_a_cut


def _answer_locally(request_read: Any, state: State, request: ReadRequest) -> None:
    if isinstance(state.role, Leader):
        state.effects.reads_ready.append(ReadReady(request.read_id, state.commit_index))
    else:
        request_read(state, request)


def _confirm_itself(_confirmed: Any, _state: State, leader: Leader) -> int:
    return leader.read_round_id


def _before_own_term(begin: Any, state: State, leader: Leader) -> None:
    noop_index, leader.noop_index = leader.noop_index, 0
    begin(state, leader)
    leader.noop_index = noop_index


def _same_id(_next: Any, _ids: reads.RequestIds) -> int:
    return 7


def _swallow(_request_read: Any, _state: State, _request: ReadRequest) -> None:
    """The client waits until its own time-out."""


def _before_applied(_may_answer: Any, _desk: Desk, _read: Read) -> bool:
    return True


def _join_round(advance: Any, state: State, leader: Leader) -> None:
    """A read that came during a round takes the index that the round began with."""
    if leader.read_round is not None:
        leader.read_round.reads.extend(leader.waiting_reads)
        leader.waiting_reads = []
    advance(state, leader)


def _begin_anew(advance: Any, state: State, leader: Leader) -> None:
    """Every heartbeat asks for a new round in place of the unfinished one, whose answers then come too late."""
    if leader.read_round is not None and state.now_ms >= leader.heartbeat_deadline_ms:
        leader.waiting_reads = leader.read_round.reads + leader.waiting_reads
        leader.read_round = None
    advance(state, leader)


def _give_up(_ask_again: Any, state: State, follower: Follower) -> None:
    """A read that is not answered within an election timeout is asked anew with a fresh id: no answer is in time."""
    for request_id, (deadline_ms, read_ids) in list(follower.reads.items()):
        if deadline_ms <= state.now_ms:
            state.effects.reads_failed.extend(read_ids)
            del follower.reads[request_id]


def _trust_lease(confirmed: Any, state: State, leader: Leader) -> int:
    """A majority was in contact within an election timeout: nobody else can lead, if nothing ends a lease early."""
    heard_ms = quorum.reached_by_majority(
        [
            state.now_ms if voter == state.server_id else leader.progress[voter].last_contact_ms
            for voter in state.configuration.voters
        ]
    )
    if state.now_ms < heard_ms + state.settings.election_timeout_ms:
        return leader.read_round_id
    return int(confirmed(state, leader))


def _lease_of_an_earlier_look(step: Any, core: Raft, inputs: Any, now_ms: int) -> Any:
    """Time is looked at before the process is stopped, the reads after it goes on."""
    leader, state = core._state.role, core._state
    local = [item for item in inputs if isinstance(item, ReadRequest)]
    if not isinstance(leader, Leader) or not local or state.commit_index < leader.noop_index:
        return step(core, inputs, now_ms)
    effects = step(core, [item for item in inputs if not isinstance(item, ReadRequest)], now_ms)
    effects.reads_ready.extend(ReadReady(item.read_id, state.commit_index) for item in local)
    return effects


_DEPOSING = ("depose", "isolate", "cut", "cut_one_way", "pause", "transfer")

MUTANTS = (
    Mutant(
        "M35",
        "a leader answers reads without asking anyone",
        ("I7",),
        wrapped(reads, "read_request", _answer_locally),
        with_options(fault_kinds=_DEPOSING, operations_per_second=50),
        seconds_max=ANCHOR_SECONDS_MAX,
    ),
    Mutant(
        "M36",
        "a read index needs no quorum",
        ("I7",),
        wrapped(reads, "_confirmed_round", _confirm_itself),
        with_options(
            servers=3,
            election_timeout_ms=1000,
            heartbeat_interval_ms=100,
            fault_kinds=("depose",),
            operations_per_second=50,
            fault_interval_ms=2000,
        ),
    ),
    Mutant(
        "M37",
        "a new leader names a read index before it has committed in its term",
        ("I7",),
        wrapped(reads, "_begin_round_if_idle", _before_own_term),
        with_options(
            servers=3,
            fault_kinds=("crash", "crash", "disconnect"),
            fault_interval_ms=1000,
            operations_per_second=50,
            sync_us=60_000,
            latency_us=2000,
        ),
    ),
    Mutant(
        "M38",
        "a retried read has the id of an earlier one (#20418)",
        ("I7",),
        wrapped(reads.RequestIds, "next", _same_id),
        with_options(operations_per_second=50),
    ),
    Mutant(
        "M38b",
        "a read joins a round that began before it",
        ("I7",),
        wrapped(reads, "advance_reads", _join_round),
        with_options(
            operations_per_second=200, latency_us=20_000, step_delay_us=50, fault_kinds=("drift",), sync_us=100
        ),
    ),
    Mutant(
        "M39",
        "a read lease that a transfer of leadership does not void",
        ("I7",),
        wrapped(reads, "_confirmed_round", _trust_lease),
        with_options(
            servers=3,
            spares=0,
            election_timeout_ms=1000,
            heartbeat_interval_ms=100,
            sync_us=10_000,
            latency_us=500,
            jitter_us=500,
            step_delay_us=500,
            fault_kinds=("transfer", "isolate"),
            wipe_interval_ms=0,
            operations_per_second=50,
        ),
        handed_over_behind_a_cut,
    ),
    Mutant(
        "M39b",
        "a read lease that a broken connection does not void",
        ("I7",),
        wrapped(reads, "_confirmed_round", _trust_lease),
        with_options(servers=3, fault_kinds=("depose",), operations_per_second=50, fault_interval_ms=2000),
    ),
    Mutant(
        "M39c",
        "a read lease that a pause of the process does not void",
        ("I7",),
        wrapped(Raft, "step", _lease_of_an_earlier_look),
        with_options(servers=3, fault_kinds=("pause",), operations_per_second=50, fault_interval_ms=2000),
    ),
    Mutant(
        "M40",
        "a follower answers before it has applied the read index",
        ("I7",),
        wrapped(Desk, "may_answer", _before_applied),
        with_options(operations_per_second=50),
    ),
    Mutant(
        "M40b",
        "a read is never answered",
        ("I13",),
        wrapped(reads, "read_request", _swallow),
        with_options(safety_ms=20_000),
    ),
    Mutant(
        "M40c",
        "every heartbeat begins the round of the reads anew",
        ("I13",),
        wrapped(reads, "advance_reads", _begin_anew),
        with_options(safety_ms=20_000, heartbeat_interval_ms=30, election_timeout_ms=300, latency_us=40_000),
    ),
    Mutant(
        "M40d",
        "a read that is not answered in time is asked with a fresh id",
        ("I13",),
        wrapped(reads, "ask_again", _give_up),
        with_options(
            safety_ms=20_000,
            heartbeat_interval_ms=30,
            election_timeout_ms=300,
            latency_us=85_000,
            jitter_us=0,
            sync_us=100,
            loss_per_mille=0,
            fault_kinds=("compact",),
        ),
    ),
)
