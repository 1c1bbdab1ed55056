"""Planted bugs of servers that lost their disks: M52."""

from typing import Any

from kvraft.raft import election, rebuild
from kvraft.raft.core import Raft
from kvraft.raft.invariants import Invariants
from kvraft.raft.messages import (
    AppendEntries,
    Heartbeat,
    InstallSnapshot,
    RebuildReply,
    RequestPreVote,
    RequestVote,
)
from kvraft.raft.state import State
from tests.simulation.mutants.planting import Mutant, together, with_options, wrapped


def _unchecked(_check: Any, _invariants: Invariants, _state: State) -> None:
    """Switch the core's own assertions off, to see what notices from outside."""


def _deaf_to_less(*kinds: type) -> Any:
    """A server that asks takes these messages all the same."""

    def around(receive: Any, core: Raft, from_server: int, message: Any) -> None:
        asking = core._asking
        if isinstance(message, kinds):
            core._asking = None
        receive(core, from_server, message)
        core._asking = asking

    return around


def _first_answer_will_do(handle: Any, state: State, asking: Any, from_server: int, message: RebuildReply) -> Any:
    if not message.blank:
        for voter in state.configuration.voters:
            asking.replies[voter] = message
    return handle(state, asking, from_server, message)


def _own_log_only(_position: Any, state: State) -> tuple[int, int]:
    return (state.log.last_term, state.log.last_index)


def _remember_match(handle: Any, state: State, from_server: int, message: Any) -> None:
    progress = getattr(state.role, "progress", {})
    before = progress.get(from_server)
    handle(state, from_server, message)
    if before is not None:
        progress[from_server] = before


_WIPED_OFTEN = with_options(
    servers=3,
    spares=0,
    quorum_core_only=False,
    wipe_interval_ms=2_000,
    fault_interval_ms=1_000,
    fault_kinds=("crash", "cut", "cut_one_way", "isolate", "pause", "transfer", "burst", "late", "delay"),
)

MUTANTS = (
    Mutant(
        "M52",
        "a server that lost its disk votes before it knows of what",
        ("I1", "I4", "I5", "I6", "I8", "I13", "stop"),
        together(
            wrapped(Raft, "_receive", _deaf_to_less(RequestVote, RequestPreVote)),
            wrapped(Invariants, "check", _unchecked),
        ),
        _WIPED_OFTEN,
    ),
    Mutant(
        "M52b",
        "a server that lost its disk takes part after the first answer",
        ("I1", "I4", "I5", "I6", "I8"),
        wrapped(rebuild, "handle_rebuild_reply", _first_answer_will_do),
        _WIPED_OFTEN,
    ),
    Mutant(
        "M52c",
        "a server that lost its disk votes by what its log holds since",
        ("I4", "I5", "I8"),
        wrapped(election, "position_to_reach", _own_log_only),
        _WIPED_OFTEN,
    ),
    Mutant(
        "M52d",
        "a leader goes on from what a server held before it lost its disk",
        ("I4", "I5", "I8", "I13"),
        wrapped(rebuild, "handle_rebuild_request", _remember_match),
        _WIPED_OFTEN,
    ),
    Mutant(
        "M52e",
        "a server that lost its disk acknowledges before it knows its term",
        ("I1", "I4", "I5", "I6", "I8", "I13", "stop"),
        wrapped(Raft, "_receive", _deaf_to_less(AppendEntries, Heartbeat, InstallSnapshot)),
        _WIPED_OFTEN,
    ),
)
