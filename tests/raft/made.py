"""Logs and messages made by hand, as a leader elsewhere would make them."""

from collections.abc import Sequence

from kvraft.raft.effects import Effects, Outgoing
from kvraft.raft.entries import ZERO_HASH, Entry, EntryKind, make_entry
from kvraft.raft.inputs import Received
from kvraft.raft.messages import AppendEntries
from tests.raft.cluster import Cluster


def at_once(effects: Effects) -> list[Outgoing]:
    """What may leave beside the disk."""
    return [outgoing for outgoing in effects.messages if not outgoing.after_batch]


def when_durable(effects: Effects) -> list[Outgoing]:
    """What waits for the disk."""
    return [outgoing for outgoing in effects.messages if outgoing.after_batch]


def made_log(terms: Sequence[int], *, payload: bytes = b"x", start_ms: int = 0) -> list[Entry]:
    """A log from index 1 whose entries have these terms; equal arguments make equal histories."""
    entries: list[Entry] = []
    previous_hash = ZERO_HASH
    for position, term in enumerate(terms):
        entry = make_entry(previous_hash, position + 1, term, EntryKind.COMMAND, start_ms + position, payload)
        entries.append(entry)
        previous_hash = entry.chain_hash
    return entries


def made_append(
    log: Sequence[Entry], previous_index: int, last_index: int, *, term: int, commit: int = 0, clock_ms: int = 0
) -> AppendEntries:
    """AppendEntries of a leader with this log, for the entries behind `previous_index` up to `last_index`."""
    previous = log[previous_index - 1] if previous_index else None
    return AppendEntries(
        term,
        previous_index,
        previous.term if previous else 0,
        previous.chain_hash if previous else ZERO_HASH,
        list(log[previous_index:last_index]),
        commit,
        clock_ms,
    )


def follower_with(log_terms: list[int], *, term: int, commit: int = 0) -> Cluster:
    """Server 1 follows server 3 and holds a log with these terms, all durable."""
    cluster = Cluster([1, 2, 3])
    cluster.step(1, Received(3, made_append(made_log(log_terms), 0, len(log_terms), term=term, commit=commit)))
    cluster.step(1)
    cluster.lost()
    return cluster
