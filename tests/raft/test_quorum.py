"""Majorities."""

import pytest

from kvraft.raft.quorum import VoteResult, majority, reached_by_majority, vote_result


@pytest.mark.parametrize(("voters", "needed"), [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3), (6, 4), (7, 4)])
def test_majority_of_even_and_odd_sizes(voters: int, needed: int) -> None:
    """More than half, so that any two majorities share a voter; half of four is not enough."""
    assert majority(voters) == needed


@pytest.mark.parametrize(
    ("values", "reached"),
    [([], 0), ([7], 7), ([7, 3], 3), ([7, 3, 0], 3), ([7, 7, 3, 3], 3), ([9, 1, 5, 5, 2], 5), ([0, 0, 9], 0)],
)
def test_value_reached_by_a_majority(values: list[int], reached: int) -> None:
    """The largest value that a majority has reached or passed."""
    assert reached_by_majority(values) == reached


@pytest.mark.parametrize(
    ("votes", "result"),
    [
        ({1: True}, VoteResult.PENDING),
        ({1: True, 2: True}, VoteResult.WON),
        ({1: True, 2: False}, VoteResult.PENDING),
        ({1: True, 2: False, 3: False}, VoteResult.LOST),
        ({2: False, 3: False}, VoteResult.LOST),
        ({1: True, 8: True, 9: True}, VoteResult.PENDING),
    ],
)
def test_votes_of_three(votes: dict[int, bool], result: VoteResult) -> None:
    """Votes of servers that are no voters do not count."""
    assert vote_result((1, 2, 3), votes) is result


def test_half_of_four_voters_loses_nothing_and_wins_nothing() -> None:
    """Two of four neither elect nor exclude; two refusals of four exclude."""
    assert vote_result((1, 2, 3, 4), {1: True, 2: True}) is VoteResult.PENDING
    assert vote_result((1, 2, 3, 4), {3: False, 4: False}) is VoteResult.LOST
