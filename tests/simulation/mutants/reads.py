"""Planted bugs of linearizable reads: M35 to M40."""

from typing import Any

from kvraft.raft import reads
from kvraft.raft.effects import ReadReady
from kvraft.raft.inputs import ReadRequest
from kvraft.raft.roles import Leader
from kvraft.raft.state import State
from tests.simulation.desk import Desk, Read
from tests.simulation.mutants.planting import Mutant, with_options, wrapped


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


def _before_applied(_may_answer: Any, _desk: Desk, _read: Read) -> bool:
    return True


def _join_round(advance: Any, state: State, leader: Leader) -> None:
    """A read that came during a round takes the index that the round began with."""
    if leader.read_round is not None:
        leader.read_round.reads.extend(leader.waiting_reads)
        leader.waiting_reads = []
    advance(state, leader)


_DEPOSING = ("isolate", "cut", "cut_one_way", "pause", "transfer")

MUTANTS = (
    Mutant(
        "M35",
        "a leader answers reads without asking anyone",
        ("I7",),
        wrapped(reads, "read_request", _answer_locally),
        with_options(fault_kinds=_DEPOSING, operations_per_second=50),
    ),
    Mutant(
        "M36",
        "a read index needs no quorum",
        ("I7",),
        wrapped(reads, "_confirmed_round", _confirm_itself),
        with_options(
            servers=3,
            fault_kinds=("drift", "isolate", "isolate", "cut"),
            drift_per_mille=400,
            operations_per_second=50,
            fault_interval_ms=1000,
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
        "M40",
        "a follower answers before it has applied the read index",
        ("I7",),
        wrapped(Desk, "may_answer", _before_applied),
        with_options(operations_per_second=50),
    ),
)
