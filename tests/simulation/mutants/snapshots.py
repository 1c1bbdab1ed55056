"""Planted bugs of snapshots and compaction: M31 to M34."""

import dataclasses
from typing import Any

from kvraft.raft import snapshots
from kvraft.raft.messages import InstallSnapshot
from kvraft.raft.roles import hear_leader
from kvraft.raft.state import State
from tests.simulation.disk import SimulatedDisk, StoredState
from tests.simulation.keeper import Keeper
from tests.simulation.mutants.planting import Mutant, together, with_options, wrapped


def _index_off_by_one(spool: Any, keeper: Keeper, stream: Any) -> None:
    position = dataclasses.replace(stream.state.position, index=stream.state.position.index + 1)
    spool(keeper, dataclasses.replace(stream, state=dataclasses.replace(stream.state, position=position)))


def _install_always(_handle: Any, state: State, from_server: int, message: InstallSnapshot) -> None:
    if hear_leader(state, from_server) and state.installing is None:
        state.installing = message
        state.effects.install = message


def _compact_to_applied(_compact: Any, keeper: Keeper, _index: int) -> None:
    member = keeper._member
    index = min(member.position.index, member.disk.log.last_index)
    if index > member.disk.log.base.index and not member.installing:
        member.disk.compact(index)
        member.log.drop_through(index)


def _drop_blindly(_compact: Any, disk: SimulatedDisk, index: int) -> None:
    disk._rebase_configurations(index)
    disk.log.drop_through(index)


def _without_history(copy: Any, state: StoredState) -> Any:
    return dataclasses.replace(copy(state), history={})


def _log_before_state(_install: Any, disk: SimulatedDisk, state: StoredState, done: Any) -> None:
    disk.log.reset(state.position)
    disk.configurations = [(state.position.index, state.configuration)]
    disk._scheduler.after(4 * disk._sync_us, disk._install_state, disk._run, state, done)


_BEHIND = ("crash", "crash_at", "isolate", "cut", "cut_one_way", "compact", "burst", "pause")

MUTANTS = (
    Mutant(
        "M31",
        "a snapshot's index is off by one",
        ("I4", "I5"),
        wrapped(Keeper, "spool", _index_off_by_one),
        with_options(fault_kinds=_BEHIND, snapshot_entries=1, flush_ms=50),
    ),
    Mutant(
        "M32",
        "installs a snapshot over newer state",
        ("I8", "I6", "stop"),
        wrapped(snapshots, "handle_install_snapshot", _install_always),
        with_options(fault_kinds=_BEHIND, snapshot_entries=1, flush_ms=50, late_per_mille=50),
    ),
    Mutant(
        "M33",
        "compacts the log beyond the durable state",
        ("I4", "I5", "stop"),
        together(
            wrapped(Keeper, "compact", _compact_to_applied),
            wrapped(SimulatedDisk, "compact", _drop_blindly),
        ),
        with_options(fault_kinds=_BEHIND, flush_ms=500),
    ),
    Mutant(
        "M34",
        "a snapshot lacks the watch history",
        ("I5", "I10", "stop"),
        wrapped(StoredState, "copy", _without_history),
        with_options(fault_kinds=_BEHIND, snapshot_entries=1, flush_ms=50),
    ),
    Mutant(
        "M34b",
        "an install resets the log before the state is durable",
        ("I4", "I5", "stop"),
        wrapped(SimulatedDisk, "install", _log_before_state),
        with_options(fault_kinds=(*_BEHIND, "crash_all"), snapshot_entries=1, flush_ms=50, sync_us=20_000),
    ),
)
