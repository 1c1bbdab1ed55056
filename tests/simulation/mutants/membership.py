"""Planted bugs of membership changes: M25 to M30c."""

from typing import Any, cast

from kvraft.raft import membership
from kvraft.raft.configuration import Configuration
from kvraft.raft.roles import Leader
from kvraft.raft.state import State
from tests.simulation.mutants.planting import Mutant, replaced, with_options, wrapped


def _before_own_commit(allowed: Any, state: State, leader: Leader, wanted: Configuration) -> Any:
    noop_index, leader.noop_index = leader.noop_index, 0
    result = allowed(state, leader, wanted)
    leader.noop_index = noop_index
    return result


def _while_another_is_open(allowed: Any, state: State, leader: Leader, wanted: Configuration) -> Any:
    index, configuration = state.configurations[-1]
    state.configurations[-1] = (min(index, state.commit_index), configuration)
    result = allowed(state, leader, wanted)
    state.configurations[-1] = (index, configuration)
    return result


def _keep_after_truncation(truncate: Any, state: State, first_removed: int) -> None:
    kept = state.configurations[-1][1]
    truncate(state, first_removed)
    state.configurations[-1] = (state.configurations[-1][0], kept)


def _when_committed(state: State) -> Configuration:
    return [configuration for index, configuration in state.configurations if index <= state.commit_index][-1]


def _several_at_once(_allowed: Any, state: State, leader: Leader, wanted: Configuration) -> bool:
    return bool(wanted.voters) and state.commit_index >= leader.noop_index


def _forget_removed(followed_by: Any, current: Configuration, *lists: Any) -> Configuration:
    after = followed_by(current, *lists)
    return Configuration.of(after.voters, after.learners)


def _remember_the_last_removed(followed_by: Any, current: Configuration, *lists: Any) -> Configuration:
    return cast("Configuration", followed_by(Configuration.of(current.voters, current.learners), *lists))


def _learners_too(state: State) -> bool:
    return state.installing is None and state.server_id in state.configuration.servers


_CHANGES = ("membership", "membership", "membership", "transfer", "crash", "isolate", "pause", "cut")
_FREQUENT = with_options(servers=3, spares=2, fault_kinds=_CHANGES, fault_interval_ms=1000, quorum_core_only=False)

MUTANTS = (
    Mutant(
        "M25",
        "changes the configuration before an own entry is committed",
        ("I12",),
        wrapped(membership, "_change_allowed", _before_own_commit),
        with_options(
            servers=4,
            spares=2,
            fault_kinds=("membership", "transfer", "transfer"),
            fault_interval_ms=200,
            sync_us=50_000,
        ),
    ),
    Mutant(
        "M26",
        "has two configuration changes open at once",
        ("I12",),
        wrapped(membership, "_change_allowed", _while_another_is_open),
        with_options(
            servers=4,
            spares=2,
            fault_kinds=("membership", "isolate", "slow_disk"),
            fault_interval_ms=200,
            sync_us=50_000,
        ),
    ),
    Mutant(
        "M27",
        "a truncation leaves the configuration in force",
        ("I12", "stop"),
        wrapped(State, "truncate_log", _keep_after_truncation),
        with_options(
            servers=4, spares=2, fault_kinds=("membership", "membership", "isolate", "cut"), fault_interval_ms=500
        ),
    ),
    Mutant(
        "M28",
        "uses a configuration once it is committed, not once it is appended",
        ("I12",),
        replaced(State, "configuration", property(_when_committed)),
        _FREQUENT,
    ),
    Mutant(
        "M29",
        "a learner stands for election",
        ("I12", "I13", "stop"),
        replaced(State, "may_campaign", property(_learners_too)),
        _FREQUENT,
    ),
    Mutant(
        "M30",
        "adds and removes several servers at once",
        ("I12",),
        wrapped(membership, "_change_allowed", _several_at_once),
        _FREQUENT,
    ),
    Mutant(
        "M30b",
        "forgets who was removed, and takes them back",
        ("I12",),
        wrapped(Configuration, "followed_by", _forget_removed),
        _FREQUENT,
    ),
    Mutant(
        "M30c",
        "remembers a removed server only until the next change",
        ("I12",),
        wrapped(Configuration, "followed_by", _remember_the_last_removed),
        _FREQUENT,
    ),
)
