"""What must hold in every state (Figure 3), at the level of what is durable."""

from collections.abc import Sequence

from kvraft.raft.entries import Entry
from kvraft.raft.quorum import majority


def broken_rule(
    logs: Sequence[tuple[Entry, ...]], disks: Sequence[tuple[Entry, ...]], committed: tuple[Entry, ...]
) -> str:
    """Which rule three servers' logs break, given what was ever called committed; empty if none."""
    return _log_matching(logs) or _durability(disks, committed) or _leader_completeness(logs, committed)


def _log_matching(logs: Sequence[tuple[Entry, ...]]) -> str:
    """Equal index and term mean equal logs up to there (section 5.3). The chain hash covers everything before."""
    for one, first in enumerate(logs):
        for other, second in enumerate(logs[:one]):
            for ours, theirs in zip(first, second, strict=False):
                if ours.term == theirs.term and ours.chain_hash != theirs.chain_hash:
                    return f"log matching: servers {other + 1} and {one + 1} differ at index {ours.index}"
    return ""


def _durability(disks: Sequence[tuple[Entry, ...]], committed: tuple[Entry, ...]) -> str:
    """What is committed is on the disks of a majority, for ever."""
    for entry in committed:
        holders = [server for server, disk in enumerate(disks, 1) if _holds(disk, entry)]
        if len(holders) < majority(len(disks)):
            return f"durability: committed entry {entry.index} of term {entry.term} is on the disks of {holders} only"
    return ""


def _leader_completeness(logs: Sequence[tuple[Entry, ...]], committed: tuple[Entry, ...]) -> str:
    """Whoever could be elected holds what is committed (section 5.4.3).

    Looks one election ahead: a server lacks a committed entry, and a majority would vote for its log.
    """
    if not committed:
        return ""
    last = committed[-1]
    for server, log in enumerate(logs, 1):
        if _holds(log, last):
            continue
        voters = [voter for voter, other in enumerate(logs, 1) if _end(log) >= _end(other)]
        if len(voters) >= majority(len(logs)):
            return (
                f"leader completeness: server {server} lacks committed entry {last.index} of term {last.term}, "
                f"and {voters} would elect it"
            )
    return ""


def _holds(log: tuple[Entry, ...], entry: Entry) -> bool:
    return entry.index <= len(log) and log[entry.index - 1].chain_hash == entry.chain_hash


def _end(log: tuple[Entry, ...]) -> tuple[int, int]:
    return (log[-1].term, log[-1].index) if log else (0, 0)
