"""Planted bugs of elections: M1 to M10, and after the death of a leader M63 and M64."""

from typing import Any

from kvraft.raft import election
from kvraft.raft.core import Raft
from kvraft.raft.effects import HardState, Persist
from kvraft.raft.invariants import Invariants
from kvraft.raft.roles import Candidate, Leader, PreCandidate
from kvraft.raft.state import State
from tests.simulation.disk import SimulatedDisk
from tests.simulation.member import SimulatedMember
from tests.simulation.mutants.planting import ANCHOR_SECONDS_MAX, Mutant, together, with_options, wrapped
from tests.simulation.mutants.schedules import OVERWRITTEN, overwritten_and_back


def _unchecked(_check: Any, _invariants: Invariants, _state: State) -> None:
    """Switch the core's own assertions off, to see what notices from outside."""


def _forget_vote(handle: Any, state: State, from_server: int, message: Any) -> None:
    state.voted_for = 0
    handle(state, from_server, message)


def _send_at_once(_hold: Any, member: SimulatedMember, messages: Any) -> None:
    member.send_now(messages)


def _any_log_will_do(_check: Any, _state: State, _index: int, _term: int) -> bool:
    return True


def _count_pre_vote(handle: Any, state: State, from_server: int, message: Any) -> None:
    handle(state, from_server, message)
    role = state.role
    if isinstance(role, Candidate) and message.granted:
        election.handle_request_vote_reply(state, from_server, message)


def _drop_higher_term(receive: Any, core: Raft, from_server: int, message: Any) -> None:
    state = core._state
    if isinstance(state.role, Candidate | PreCandidate) and message.term > state.current_term:
        return
    receive(core, from_server, message)


def _store_without_term(store: Any, disk: SimulatedDisk, batch: Persist) -> None:
    before = disk.hard_state
    store(disk, batch)
    after = disk.hard_state
    if before.current_term:
        disk.hard_state = HardState(before.current_term, 0, after.commit_index, after.rebuilding)


def _trust_silence(tick: Any, state: State, leader: Leader) -> None:
    leader.quorum_deadline_ms = state.now_ms + 1_000_000
    tick(state, leader)


def _stand_at_once(_ask: Any, state: State) -> None:
    election.become_candidate(state, leadership_transfer=False)


def _keep_progress(become: Any, state: State) -> None:
    kept = _KEPT_MATCHES.get(id(state), {})
    become(state)
    role = state.role
    if isinstance(role, Leader):
        for server, progress in role.progress.items():
            progress.match_index = min(kept.get(server, 0), state.log.last_index)
            progress.next_index = max(progress.next_index, progress.match_index + 1)


def _note_progress(step_down: Any, state: State, term: int, leader_id: int) -> None:
    if isinstance(state.role, Leader):
        _KEPT_MATCHES[id(state)] = {server: each.match_index for server, each in state.role.progress.items()}
    step_down(state, term, leader_id)


def _rest_after_split_vote(_when: Any, _state: State, role: Candidate) -> int:
    return role.election_deadline_ms


def _hear_the_dead(receive: Any, core: Raft, from_server: int, message: Any) -> None:
    core._state.gone_leader_id = 0
    receive(core, from_server, message)


_KEPT_MATCHES: dict[int, dict[int, int]] = {}


MUTANTS = (
    Mutant(
        "M1",
        "votes twice in a term",
        ("I1", "I4"),
        together(
            wrapped(election, "handle_request_vote", _forget_vote),
            wrapped(Invariants, "check", _unchecked),
        ),
        seconds_max=ANCHOR_SECONDS_MAX,
    ),
    Mutant(
        "M2",
        "sends a vote before it is on disk",
        ("I1", "I6"),
        wrapped(SimulatedMember, "hold_until_durable", _send_at_once),
    ),
    Mutant(
        "M3",
        "votes for a log that lacks committed entries",
        ("I4", "I8", "I5"),
        wrapped(election, "_log_is_up_to_date", _any_log_will_do),
    ),
    Mutant(
        "M4",
        "counts a pre-vote as a vote",
        ("I1",),
        wrapped(election, "handle_request_pre_vote_reply", _count_pre_vote),
    ),
    Mutant(
        "M5",
        "a pre-vote resets the vote",
        ("I1", "I4"),
        together(
            wrapped(election, "handle_request_pre_vote", _forget_vote),
            wrapped(Invariants, "check", _unchecked),
        ),
    ),
    Mutant(
        "M6",
        "a candidate ignores higher terms",
        ("I13",),
        wrapped(Raft, "_receive", _drop_higher_term),
    ),
    Mutant(
        "M7",
        "the term is not stored",
        ("I6", "I1"),
        wrapped(SimulatedDisk, "_store", _store_without_term),
    ),
    Mutant(
        "M8",
        "a leader that hears nobody goes on (no CheckQuorum)",
        ("I13",),
        wrapped(election, "leader_tick", _trust_silence),
        with_options(
            quorum_core_only=True, safety_ms=15_000, servers=3, spares=0, fault_kinds=("transfer", "pause", "cut")
        ),
    ),
    Mutant(
        "M9",
        "stands without asking first (no PreVote)",
        ("I13",),
        wrapped(election, "become_pre_candidate", _stand_at_once),
    ),
    Mutant(
        "M10",
        "a new leader keeps what it knew of followers in an earlier term",
        ("I4", "I8", "I3"),
        together(
            wrapped(election, "become_leader", _keep_progress),
            wrapped(election, "become_follower", _note_progress),
        ),
        OVERWRITTEN,
        overwritten_and_back,
    ),
    Mutant(
        "M63",
        "rivals of a split vote wait for a whole election timeout",
        ("I13",),
        wrapped(election, "_after_split_vote_ms", _rest_after_split_vote),
        test="tests/simulation/test_kills.py::test_no_death_of_a_leader_is_felt[3-idle-1000]",
    ),
    Mutant(
        "M64",
        "what a dead leader sent before its end renews its lease",
        ("I13",),
        wrapped(Raft, "_receive", _hear_the_dead),
        test="tests/simulation/test_kills.py::test_no_death_of_a_leader_is_felt[3-busy-500]",
    ),
)
