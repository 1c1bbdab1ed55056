"""Majorities: pure arithmetic on what the voters have said (paper sections 5.2 and 5.4, thesis section 4.1)."""

import enum
from collections.abc import Iterable, Mapping


class VoteResult(enum.Enum):
    """Where an election stands."""

    PENDING = enum.auto()
    WON = enum.auto()
    LOST = enum.auto()
    """Enough voters refused that the rest cannot make a majority."""


def majority(voter_count: int) -> int:
    """The smallest number of voters of which any two sets share a member. 1 of 1, 2 of 2 and 3, 3 of 4 and 5."""
    return voter_count // 2 + 1


def reached_by_majority(values: list[int]) -> int:
    """The largest value that a majority has reached, given one value per voter. 0 without voters.

    Serves the commit index (match indexes), ReadIndex (acknowledged rounds) and CheckQuorum (times of contact).
    """
    if not values:
        return 0
    return sorted(values)[len(values) - majority(len(values))]


def vote_result(voters: Iterable[int], votes: Mapping[int, bool]) -> VoteResult:
    """Count `votes` (server id to granted) of `voters`; votes of others do not count."""
    granted = refused = total = 0
    for voter in voters:
        total += 1
        vote = votes.get(voter)
        if vote is not None:
            granted += vote
            refused += not vote
    needed = majority(total)
    if granted >= needed:
        return VoteResult.WON
    return VoteResult.LOST if total - refused < needed else VoteResult.PENDING
