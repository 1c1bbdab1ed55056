"""Planted bugs of replication: M11 to M21."""

from typing import Any

from kvraft.raft import replication
from kvraft.raft.effects import Persist
from kvraft.raft.messages import AppendEntriesReply
from kvraft.raft.roles import Leader
from kvraft.raft.state import State
from tests.simulation.disk import SimulatedDisk
from tests.simulation.member import SimulatedMember
from tests.simulation.mutants.planting import Mutant, wrapped


def _count_old_terms(advance: Any, state: State, leader: Leader) -> None:
    noop_index, leader.noop_index = leader.noop_index, 0
    advance(state, leader)
    leader.noop_index = noop_index


def _acknowledge_at_once(hold: Any, member: SimulatedMember, messages: Any) -> None:
    replies = [outgoing for outgoing in messages if isinstance(outgoing.message, AppendEntriesReply)]
    member.send_now(replies)
    hold(member, [outgoing for outgoing in messages if not isinstance(outgoing.message, AppendEntriesReply)])


def _say_durable_without_sync(persist: Any, disk: SimulatedDisk, batch: Persist) -> None:
    persist(disk, batch)
    disk.on_durable(batch)


MUTANTS = (
    Mutant(
        "M15",
        "commits entries of earlier terms by counting (Figure 8)",
        ("I4",),
        wrapped(replication, "advance_commit_index", _count_old_terms),
    ),
    Mutant(
        "M19",
        "acknowledges entries before they are synced",
        ("I6",),
        wrapped(SimulatedMember, "hold_until_durable", _acknowledge_at_once),
    ),
    Mutant(
        "M19b",
        "the log store says durable before it is",
        ("I6", "I1", "I4", "assert"),
        wrapped(SimulatedDisk, "persist", _say_durable_without_sync),
    ),
)
