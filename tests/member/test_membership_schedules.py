"""Real members that come and go under random schedules; see `membership_schedules.py`."""

import pathlib
from collections import Counter
from typing import Final

import pytest

from tests.member.membership_schedules import MembershipSchedule
from tests.member.schedules import run_seeds

SEEDS: Final = (187, 141, 1046, *range(100, 140))
"""Enough for every planted bug of `tests/simulation/mutants/coming_and_going.py`."""


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "seeds", [pytest.param(SEEDS[:16], id="16"), pytest.param(SEEDS, id="all", marks=pytest.mark.landing)]
)
def test_whoever_is_wanted_votes_in_the_end_and_nothing_is_lost(tmp_path: pathlib.Path, seeds: tuple[int, ...]) -> None:
    """Every kind of change has to occur, under every kind of fault."""
    tally: Counter[str] = run_seeds(seeds, tmp_path, MembershipSchedule)
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
