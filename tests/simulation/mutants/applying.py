"""Planted bugs of applying, of time and of the state on disk: M22 to M24, M41 to M43."""

import itertools
from typing import Any

from kvraft.keyspace.commands import Command, CompareAndSwap
from kvraft.keyspace.expiry import Deadlines
from kvraft.raft.effects import Persist
from kvraft.raft.entries import Entry
from kvraft.raft.state import State
from tests.simulation.desk import Desk
from tests.simulation.disk import StoredState
from tests.simulation.keeper import Keeper
from tests.simulation.machine import KeyspaceMachine
from tests.simulation.member import SimulatedMember
from tests.simulation.mutants.planting import Mutant, with_options, wrapped


def _apply_twice(apply: Any, member: SimulatedMember, entry: Entry) -> Any:
    result = apply(member, entry)
    if member.boots > 1 and entry.index % 64 == 0:
        apply(member, entry)
    return result


def _skip_one(apply: Any, member: SimulatedMember, entry: Entry) -> Any:
    return None if member.boots > 2 and entry.index % 97 == 0 else apply(member, entry)


def _go_on_after_error(_failed: Any, member: SimulatedMember) -> None:
    """What an LMDB environment does: it takes the next commit as if nothing had happened."""
    disk = member.disk
    disk._syncing = 0
    assert member.core is not None
    issued = member.core._state.log.durability.issued_id
    member.durable(Persist(issued, None, 0, [], must_sync=True))


def _position_lags(store: Any, state: StoredState, flush: Any) -> None:
    before = state.position
    store(state, flush)
    state.position = before


_CLOCK_NOISE = itertools.count()


def _wall_clock(apply: Any, machine: KeyspaceMachine, payload: bytes, clock_ms: int) -> Any:
    return apply(machine, payload, clock_ms + next(_CLOCK_NOISE) % 3)


def _own_clock(restored: Any, state: State) -> int:
    return max(int(restored(state)), state.now_ms)


def _believe_stale(_skip: Any, _deadlines: Deadlines) -> None:
    """What stands in the heap is taken as it is."""


def _order_by_address(pour: Any, deadlines: Deadlines, second: int) -> None:
    pour(deadlines, second)
    flip = next(_CLOCK_NOISE) % 2
    if flip:
        deadlines._near = [(0, -created, path, order, node) for _, created, path, order, node in deadlines._near]


def _not_yet(is_due: Any, keeper: Keeper, deadline_ms: int, log_clock_ms: int) -> Any:
    return is_due(keeper, deadline_ms + 1_500, log_clock_ms)


def _compare_at_once(encode: Any, desk: Desk, command: Command) -> Any:
    machine = desk._member.machine
    assert machine is not None
    if isinstance(command, CompareAndSwap):
        seen = machine.read(command.path)
        if seen is not None and command.prev_value in (None, seen[0]) and command.prev_index in (0, seen[1]):
            return encode(desk, CompareAndSwap(command.path, command.value, ttl_s=command.ttl_s))
    return encode(desk, command)


def _definite_failure(_close: Any, desk: Desk) -> None:
    for write in list(desk._writes.values()):
        write.failed(True)


def _received_index(read: Any, desk: Desk, path: bytes) -> Any:
    answer = read(desk, path)
    core = desk._member.core
    if answer is None or core is None:
        return answer
    return answer[0], answer[1] + core.last_log_index - answer[0], answer[2]


_RESTARTS = ("crash", "crash_all", "crash_at", "burst", "compact")

MUTANTS = (
    Mutant(
        "M22",
        "applies an entry twice after a restart",
        ("I5", "I7", "I10"),
        wrapped(SimulatedMember, "apply_entry", _apply_twice),
        with_options(fault_kinds=_RESTARTS),
    ),
    Mutant(
        "M22b",
        "skips an entry after a restart",
        ("I5", "I7", "I10"),
        wrapped(SimulatedMember, "apply_entry", _skip_one),
        with_options(fault_kinds=_RESTARTS),
    ),
    Mutant(
        "M23",
        "stores the applied index in another transaction than the data",
        ("I5", "I7", "stop"),
        wrapped(StoredState, "store", _position_lags),
        with_options(fault_kinds=_RESTARTS),
    ),
    Mutant(
        "M24",
        "a wall clock decides about TTLs",
        ("I5",),
        wrapped(KeyspaceMachine, "apply", _wall_clock),
    ),
    Mutant(
        "M24b",
        "a new leader goes on from its own clock: TTLs end early",
        ("I11",),
        wrapped(State, "restored_clock_ms", _own_clock),
    ),
    Mutant(
        "M24c",
        "a refreshed key expires at its old deadline",
        ("I5", "I7", "I10", "I11", "stop"),
        wrapped(Deadlines, "_skip_stale", _believe_stale),
    ),
    Mutant(
        "M24d",
        "keys expire in an order that differs between members",
        ("I5", "I7", "I11"),
        wrapped(Deadlines, "_pour", _order_by_address),
    ),
    Mutant(
        "M24e",
        "a leader lets every key live a second and a half too long",
        ("I11",),
        wrapped(Keeper, "is_due", _not_yet),
    ),
    Mutant(
        "M49",
        "goes on after a failed sync",
        ("I6", "I3", "I1", "I4", "stop"),
        wrapped(SimulatedMember, "sync_failed", _go_on_after_error),
        with_options(fault_kinds=("sync_error", "burst")),
    ),
    Mutant(
        "M41",
        "compares when a swap is proposed, not when it is applied",
        ("I7", "I10"),
        wrapped(Desk, "encode", _compare_at_once),
    ),
    Mutant(
        "M42",
        "reports an unknown outcome as a definite failure",
        ("I8",),
        wrapped(Desk, "close", _definite_failure),
        with_options(fault_kinds=_RESTARTS),
    ),
    Mutant(
        "M43",
        "shows the index of what was received, not of what was applied",
        ("I9",),
        wrapped(Desk, "local_read", _received_index),
    ),
)
