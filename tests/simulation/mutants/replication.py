"""Planted bugs of replication and commitment: M11 to M21."""

import dataclasses
from typing import Any

from kvraft.raft import quorum, replication
from kvraft.raft.core import Raft
from kvraft.raft.durability import Durability
from kvraft.raft.effects import Persist
from kvraft.raft.messages import AppendEntries, AppendEntriesReply
from kvraft.raft.roles import Leader
from kvraft.raft.state import State
from tests.simulation.disk import SimulatedDisk
from tests.simulation.member import SimulatedMember
from tests.simulation.mutants.planting import ANCHOR_SECONDS_MAX, Mutant, together, with_options, wrapped
from tests.simulation.mutants.schedules import OVERWRITTEN, overwritten_and_back, overwritten_by_two


def _believe_previous(handle: Any, state: State, from_server: int, message: AppendEntries) -> None:
    held = state.log.position(message.prev_log_index)
    if held is not None:
        message = dataclasses.replace(message, prev_log_term=held.term, prev_log_hash=held.chain_hash)
    handle(state, from_server, message)


def _verify_nothing(_count: Any, message: AppendEntries) -> int:
    return len(message.entries)


def _ignore_gap(handle: Any, state: State, from_server: int, message: AppendEntries) -> None:
    if message.prev_log_index > state.log.last_index:
        reply = AppendEntriesReply(state.current_term, True, message.prev_log_index + len(message.entries), 0, 0)
        state.send_after_persist(from_server, reply)
        return
    handle(state, from_server, message)


def _truncate_always(append: Any, state: State, entries: Any) -> Any:
    if entries[0].index <= state.log.last_index:
        state.log.truncate(max(entries[0].index, state.log.base.index + 1))
    return append(state, entries)


def _never_truncate(_truncate: Any, _state: State, _first_removed: int) -> None:
    """Leave the conflict where it is."""


def _count_old_terms(advance: Any, state: State, leader: Leader) -> None:
    noop_index, leader.noop_index = leader.noop_index, 0
    advance(state, leader)
    leader.noop_index = noop_index


def _half_is_enough(_majority: Any, voter_count: int) -> int:
    return max((voter_count + 1) // 2, 1)


def _count_unsynced_self(advance: Any, state: State, leader: Leader) -> None:
    durability = state.log.durability
    index, durability.index = durability.index, state.log.last_index
    leader.commit_pending = True
    advance(state, leader)
    durability.index = index


def _commit_beyond_new(handle: Any, state: State, from_server: int, message: AppendEntries) -> None:
    handle(state, from_server, message)
    if state.leader_id == from_server:
        state.commit_index = max(state.commit_index, min(message.leader_commit, state.log.last_index))


def _acknowledge_at_once(hold: Any, member: SimulatedMember, messages: Any) -> None:
    replies = [outgoing for outgoing in messages if isinstance(outgoing.message, AppendEntriesReply)]
    member.send_now(replies)
    hold(member, [outgoing for outgoing in messages if not isinstance(outgoing.message, AppendEntriesReply)])


def _say_durable_without_sync(persist: Any, disk: SimulatedDisk, batch: Persist) -> None:
    persist(disk, batch)
    disk.on_durable(batch)


def _take_old_acknowledgement(receive: Any, core: Raft, from_server: int, message: Any) -> None:
    """The follower held that index once, and another leader has overwritten it since."""
    if isinstance(message, AppendEntriesReply) and message.term < core.current_term:
        replication.handle_append_entries_reply(core._state, from_server, message)
        return
    receive(core, from_server, message)


def _forget_batches(_lower: Any, durability: Durability, index: int) -> None:
    durability.index = min(durability.index, index)


_TROUBLED = ("transfer", "cut", "cut_one_way", "isolate", "burst", "late", "crash_at", "pause", "slow_disk")

MUTANTS = (
    Mutant(
        "M11",
        "does not compare the previous entry's term",
        ("I3", "I5"),
        together(
            wrapped(replication, "handle_append_entries", _believe_previous),
            wrapped(replication, "_verified_count", _verify_nothing),
        ),
        OVERWRITTEN,
        overwritten_by_two,
        seconds_max=ANCHOR_SECONDS_MAX,
    ),
    Mutant(
        "M12",
        "does not look whether the previous entry is there",
        ("I6", "I4"),
        wrapped(replication, "handle_append_entries", _ignore_gap),
    ),
    Mutant(
        "M13",
        "truncates although the entries match",
        ("I8", "stop"),
        wrapped(replication, "_append", _truncate_always),
    ),
    Mutant(
        "M14",
        "does not truncate what conflicts",
        ("stop", "I3"),
        wrapped(State, "truncate_log", _never_truncate),
    ),
    Mutant(
        "M15",
        "commits entries of earlier terms by counting (Figure 8)",
        ("I4",),
        wrapped(replication, "advance_commit_index", _count_old_terms),
        seconds_max=ANCHOR_SECONDS_MAX,
    ),
    Mutant(
        "M16",
        "takes half for a majority",
        ("I1", "I4", "I13"),
        wrapped(quorum, "majority", _half_is_enough),
        with_options(servers=4),
    ),
    Mutant(
        "M17",
        "counts itself before its own sync",
        ("I4",),
        wrapped(replication, "advance_commit_index", _count_unsynced_self),
    ),
    Mutant(
        "M18",
        "a follower commits beyond what the message has proved",
        ("I5", "I4", "I8"),
        wrapped(replication, "handle_append_entries", _commit_beyond_new),
        with_options(fault_kinds=_TROUBLED),
    ),
    Mutant(
        "M19",
        "acknowledges entries before they are synced",
        ("I6",),
        wrapped(SimulatedMember, "hold_until_durable", _acknowledge_at_once),
        seconds_max=ANCHOR_SECONDS_MAX,
    ),
    Mutant(
        "M19b",
        "the log store says durable before it is",
        ("I6", "I1", "I4"),
        wrapped(SimulatedDisk, "persist", _say_durable_without_sync),
    ),
    Mutant(
        "M20",
        "takes an acknowledgement of an earlier term",
        ("I4", "I3"),
        wrapped(Raft, "_receive", _take_old_acknowledgement),
        OVERWRITTEN,
        overwritten_and_back,
    ),
    Mutant(
        "M21",
        "an old sync marks overwritten entries durable (ABA)",
        ("I6", "I4", "stop"),
        wrapped(Durability, "lower", _forget_batches),
        with_options(fault_kinds=_TROUBLED, sync_us=100_000, latency_us=100, jitter_us=0),
    ),
)
