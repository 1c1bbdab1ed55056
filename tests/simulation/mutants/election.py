"""Planted bugs of elections: M1 to M10."""

from typing import Any

from kvraft.raft import election, replication
from kvraft.raft.effects import HardState
from kvraft.raft.messages import RequestVote
from kvraft.raft.roles import Candidate
from kvraft.raft.state import State
from tests.simulation.disk import SimulatedDisk
from tests.simulation.member import SimulatedMember
from tests.simulation.mutants.planting import Mutant, together, with_options, wrapped


def _forget_vote(handle: Any, state: State, from_server: int, message: RequestVote) -> None:
    state.voted_for = 0
    handle(state, from_server, message)


def _without_hold(hold: Any, member: SimulatedMember, messages: Any) -> None:
    member.send_now(messages)


def _store_without_vote(store: Any, disk: SimulatedDisk, batch: Any) -> None:
    store(disk, batch)
    hard = disk.hard_state
    disk.hard_state = HardState(hard.current_term, 0, hard.commit_index)


def _store_without_term(store: Any, disk: SimulatedDisk, batch: Any) -> None:
    before = disk.hard_state
    store(disk, batch)
    hard = disk.hard_state
    if before.current_term:
        disk.hard_state = HardState(before.current_term, 0, hard.commit_index)


def _any_log_will_do(_check: Any, _state: State, _index: int, _term: int) -> bool:
    return True


def _pre_vote_is_vote(handle: Any, state: State, from_server: int, message: Any) -> None:
    handle(state, from_server, message)
    if isinstance(state.role, Candidate) and message.granted:
        state.role.votes[from_server] = True
        if sum(state.role.votes.values()) * 2 > len(state.configuration.voters):
            election.become_leader(state)


def _pre_vote_resets_vote(handle: Any, state: State, from_server: int, message: Any) -> None:
    handle(state, from_server, message)
    if message.term + 1 > state.current_term:
        state.current_term = message.term + 1
        state.voted_for = 0
        state.leader_id = 0


MUTANTS = (
    Mutant(
        "M1",
        "votes twice in a term",
        ("I1", "assert"),
        wrapped(election, "handle_request_vote", _forget_vote),
    ),
    Mutant(
        "M2",
        "a vote is not on disk before it is sent",
        ("I1", "I6"),
        wrapped(SimulatedMember, "hold_until_durable", _without_hold),
    ),
    Mutant(
        "M3",
        "votes for a log that lacks committed entries",
        ("I4", "I8", "I5", "I3", "assert"),
        wrapped(election, "_log_is_up_to_date", _any_log_will_do),
    ),
    Mutant(
        "M4",
        "a pre-vote counts as a vote",
        ("I1",),
        wrapped(election, "handle_request_pre_vote_reply", _pre_vote_is_vote),
    ),
)
_UNUSED = (together, with_options, replication, _store_without_vote, _store_without_term, _pre_vote_resets_vote)
