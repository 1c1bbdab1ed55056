"""Real members that come and go under random schedules; see `membership_schedules.py`."""

import pathlib
from collections import Counter

import pytest

from tests.member.membership_schedules import MembershipSchedule
from tests.member.schedules import run_seeds

SEEDS_A_TEST = 12


@pytest.mark.slow
@pytest.mark.parametrize("first", range(1, 25, SEEDS_A_TEST))
def test_whoever_is_wanted_votes_in_the_end_and_nothing_is_lost(first: int, tmp_path: pathlib.Path) -> None:
    """Every kind of change has to occur, under every kind of fault."""
    tally: Counter[str] = run_seeds(range(first, first + SEEDS_A_TEST), tmp_path, MembershipSchedule)
    print(dict(sorted(tally.items())))
    for happened in (
        "joins",
        "moves",
        "promotion",
        "removal",
        "replacements",
        "wipes",
        "told of their removal",
        "crash",
    ):
        assert tally[happened] > 0, happened
    assert tally["snapshots installed"] > 0


@pytest.mark.slow
def test_members_come_and_go_through_many_seeds(tmp_path: pathlib.Path) -> None:
    """What planted bugs must be found by."""
    run_seeds(range(100, 140), tmp_path, MembershipSchedule)
