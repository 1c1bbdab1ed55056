"""Planted bugs that thin links, a death at a bad moment or a loop that reads show: M58 to M62."""

from typing import Any

from kvraft.raft import election, replication
from kvraft.raft.progress import Progress
from kvraft.raft.roles import Leader
from kvraft.raft.state import State
from tests.simulation.mutants.planting import Mutant, replaced, together, wrapped

_TESTS = "tests/simulation/test_sessions.py::"


def _ask_once(ask: Any, state: State, role: Any) -> None:
    answered = dict.fromkeys(role.votes, True)
    refused = {voter: False for voter, granted in role.votes.items() if not granted}
    role.votes.update(answered)
    ask(state, role)
    role.votes.update(refused)


def _repeat_the_entries(answered: Any, progress: Progress, now_ms: int, retry_ms: int) -> bool:
    wanted = bool(answered(progress, now_ms, retry_ms))
    progress.probe_repeated = False
    return wanted


def _only_to_idle_ones(broadcast: Any, state: State, leader: Leader) -> None:
    everybody = leader.progress
    leader.progress = {server: progress for server, progress in everybody.items() if not progress.inflight}
    broadcast(state, leader)
    leader.progress = everybody


def _believe_that_they_know(send: Any, state: State, leader: Leader) -> None:
    for progress in leader.progress.values():
        progress.sent_commit = state.commit_index
    send(state, leader)


def _read_all(begin: Any, appends: Any, state: State, leader: Leader) -> None:
    begin(appends, state, leader)
    appends._disk_bytes = 1 << 60


MUTANTS = (
    Mutant(
        "M58",
        "never asks again whoever has refused a pre-vote",
        ("I13",),
        wrapped(election, "_ask_for_pre_votes", _ask_once),
        test="tests/simulation/test_kills.py::test_no_death_of_a_leader_is_felt[3-busy-500]",
    ),
    Mutant(
        "M59",
        "a probe on a thin link repeats its entries instead of its question",
        ("I13",),
        wrapped(Progress, "heartbeat_answered", _repeat_the_entries),
        test=_TESTS + "test_follower_that_comes_back_behind_64_kbit_is_sent_nothing_twice",
    ),
    Mutant(
        "M60",
        "no heartbeat for a follower that has entries under way",
        ("I13",),
        wrapped(replication, "_broadcast_heartbeat", _only_to_idle_ones),
        test=_TESTS + "test_follower_behind_64_kbit_costs_no_election_and_catches_up",
    ),
    Mutant(
        "M61",
        "a commit is told by the next heartbeat only",
        ("I13",),
        wrapped(replication, "send_to_followers", _believe_that_they_know),
        test=_TESTS + "test_followers_apply_a_write_right_behind_the_leader",
    ),
    Mutant(
        "M62",
        "reads for laggards whatever their windows hold, in one step",
        ("I13",),
        together(
            wrapped(replication._Appends, "__init__", _read_all),
            replaced(replication, "_MESSAGES_PER_STEP_MAX", 1000),
        ),
        test=_TESTS + "test_laggards_are_fed_without_a_pause_of_heartbeats",
    ),
)
